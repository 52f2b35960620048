//! A plan says before anything happens what can happen at most.

mod support;

use squall_model::diagnostic::render;
use squall_model::id::RuleId;
use squall_model::load::read;
use squall_model::plan::{Plan, PlanStep, VERSION, build};
use squall_model::syntax::Class;
use support::TestFaults;

const TEXT: &str = "\
version: 1
title: everything at once
workload:
  training: {run: train, epochs: 40}
targets:
  second: {rank: 1}
  data: {file: '{out}/*.bin', at-most: 3}
method:
  - process-kill: {target: {name: second}, every: {epochs: 10}, signal: TERM}
  - wait: 5s
  - parallel:
      - process-pause: {name: pause, target: {name: data-loader}, for: 10s, at: {step: 5, phase: forward}}
      - sequence:
          - file-damage: {target: {name: data}, how: delete, for: 1m, after: {injection: pause, plus: 2s}}
          - cpu-pressure: {target: {host: true}, load: 80%, for: 30s, mean-time-between: 5m, times: 4, probability: 50%}
  - file-damage: {target: {name: data, at-most: 2}, how: {flip-bits: 3}, for: 10s, every: {time: 7m}}
time-limit: 30m
";

fn plan() -> Plan {
    let text = TEXT.replace("data-loader", "second");
    let loaded =
        read::<TestFaults>(&text, "x").unwrap_or_else(|all| panic!("{}", render(&all, &text, "x")));
    build(&loaded.experiment, 7)
}

#[test]
fn rules_are_numbered_in_file_order_and_the_method_keeps_its_shape() {
    let plan = plan();
    let rule = |id| PlanStep::Rule(RuleId(id));
    let kinds: Vec<&str> = plan.rules.iter().map(|rule| rule.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "process-kill",
            "process-pause",
            "file-damage",
            "cpu-pressure",
            "file-damage"
        ]
    );
    assert!(
        plan.rules
            .iter()
            .enumerate()
            .all(|(at, rule)| rule.id == RuleId(at as u32))
    );
    assert_eq!(plan.method[0], rule(0));
    assert_eq!(
        plan.method[2],
        PlanStep::Parallel(vec![rule(1), PlanStep::Sequence(vec![rule(2), rule(3)])])
    );
    assert_eq!(plan.method[3], rule(4));
    assert_eq!(
        (plan.version.as_str(), plan.seed, plan.last_epoch),
        (VERSION, 7, Some(40))
    );
}

#[test]
fn names_of_targets_are_replaced_and_the_nearer_bound_counts() {
    let plan = plan();
    assert_eq!(
        (plan.rules[0].target.rank, plan.rules[0].target.at_most),
        (Some(1), Some(1))
    );
    assert_eq!(plan.rules[0].target_name.as_deref(), Some("second"));
    assert!(plan.rules.iter().all(|rule| rule.target.name.is_none()));
    assert_eq!(plan.rules[2].target.at_most, Some(3));
    assert_eq!(plan.rules[4].target.at_most, Some(2));
    assert_eq!(plan.rules[4].target.file.as_deref(), Some("{out}/*.bin"));
    assert_eq!(
        plan.rules[4].target_in("/tmp/o").file.as_deref(),
        Some("/tmp/o/*.bin")
    );
}

#[test]
fn aims_are_said_in_words() {
    let aims: Vec<String> = plan().rules.into_iter().map(|rule| rule.aim).collect();
    insta::assert_snapshot!(aims.join("\n"), @r"
    after every 10 epochs, not after the last
    in step 5, in phase forward
    2s after `pause` has ended
    at random moments, 5m apart on average, each with a chance of 50%, at most 4 times
    every 7m
    ");
}

#[test]
fn the_blast_radius_is_in_numbers() {
    let mut plan = plan();
    plan.rules[0].blast_radius.eligible = Some(2);
    plan.rules[2].blast_radius.eligible = Some(1);
    let words: Vec<String> = plan
        .rules
        .iter()
        .map(|rule| rule.blast_radius.to_string())
        .collect();
    insta::assert_snapshot!(words.join("\n"), @r"
    1 of 2 targets, at most 3 times
    at most 1 target, once
    1 of 1 target, once
    at most 1 target, at most 4 times
    at most 2 targets, at most 4 times
    ");
}

#[test]
fn classes_and_configs_come_from_the_catalogue() {
    let plan = plan();
    assert_eq!(plan.rules[0].class, Class::OneShot);
    assert_eq!(plan.rules[0].config, serde_json::json!({"signal": "TERM"}));
    assert_eq!(plan.rules[3].class, Class::Served);
    assert_eq!(plan.rules[3].layer, "the kernel");
}

#[test]
fn a_plan_survives_being_written() {
    let plan = plan();
    let json = serde_json::to_string(&plan).expect("JSON");
    assert_eq!(serde_json::from_str::<Plan>(&json).expect("the same"), plan);
}
