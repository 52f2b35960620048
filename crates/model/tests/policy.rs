//! Policies: each file counts, the strictest wins, and one that cannot be read is no permission.

mod support;

use proptest::prelude::*;
use squall_model::diagnostic::render;
use squall_model::id::RuleId;
use squall_model::load::read as read_experiment;
use squall_model::plan::{Plan, build};
use squall_model::policy::{
    AllowedTarget, Decision, Eligible, Policies, Policy, PolicyFile, Source, judge, merge, read,
    schema,
};
use squall_model::units::{Percent, Span};
use std::collections::BTreeMap;
use std::time::Duration;
use support::TestFaults;

const EXPERIMENT: &str = "\
version: 1
title: much at once
workload:
  training: {run: train}
method:
  - process-kill: {target: {rank: 1, at-most: 2}}
  - process-pause: {target: {command: 'train'}, for: 10m}
  - file-damage: {target: {file: '{out}/*.bin'}, how: delete, for: 1m}
  - network-partition: {target: {namespace: test-a}, peers: [10.0.0.1], for: 5s}
  - cpu-pressure: {target: {host: true}, load: 50%, for: 2m}
";

fn plan() -> Plan {
    let loaded = read_experiment::<TestFaults>(EXPERIMENT, "x")
        .unwrap_or_else(|all| panic!("{}", render(&all, EXPERIMENT, "x")));
    build(&loaded.experiment, 1)
}

fn policy(text: &str) -> PolicyFile {
    read::<TestFaults>(text, "policy.yaml")
        .unwrap_or_else(|all| panic!("{}", render(&all, text, "policy.yaml")))
}

fn judged(text: &str, eligible: &BTreeMap<RuleId, Eligible>) -> Decision {
    judge(&plan(), &merge(vec![policy(text)]), eligible)
}

fn known() -> BTreeMap<RuleId, Eligible> {
    let eligible = |count, texts: &[&str]| Eligible {
        count,
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
    };
    BTreeMap::from([
        (RuleId(0), eligible(8, &[])),
        (RuleId(1), eligible(1, &["python train.py"])),
        (RuleId(2), eligible(2, &["{out}/a.bin", "{out}/b.bin"])),
        (RuleId(3), eligible(1, &["test-a"])),
        (RuleId(4), eligible(1, &[])),
    ])
}

fn refused(decision: &Decision) -> Vec<(u32, &str)> {
    decision
        .refusals
        .iter()
        .map(|refusal| (refusal.rule.0, refusal.key.as_str()))
        .collect()
}

#[test]
fn without_a_policy_everything_is_allowed() {
    assert_eq!(
        judge(&plan(), &Policies::default(), &BTreeMap::new()),
        Decision::default()
    );
}

#[test]
fn faults_are_forbidden_by_name_or_pattern() {
    let decision = judged(
        "version: 1\nforbidden-faults: [process-kill, 'network-*']\n",
        &known(),
    );
    assert_eq!(
        refused(&decision),
        [(0, "forbidden-faults"), (3, "forbidden-faults")]
    );
    assert_eq!(
        decision.refusals[1].what,
        "`network-partition` is forbidden by `network-*`"
    );
    assert_eq!(decision.refusals[0].policy.file, "policy.yaml");
}

#[test]
fn a_duration_above_the_maximum_is_refused_and_one_at_it_is_not() {
    let decision = judged("version: 1\nmaximum-duration: 2m\n", &known());
    assert_eq!(refused(&decision), [(1, "maximum-duration")]);
    assert_eq!(decision.refusals[0].remedy, "write `for: 2m` or less");
}

#[test]
fn a_share_is_judged_when_the_targets_are_counted() {
    let text = "version: 1\nmaximum-share: 20%\n";
    let decision = judged(text, &known());
    assert_eq!(
        refused(&decision),
        [
            (0, "maximum-share"),
            (1, "maximum-share"),
            (2, "maximum-share"),
            (3, "maximum-share")
        ]
    );
    assert_eq!(
        decision.refusals[0].what,
        "`process-kill` would touch 2 of 8 targets, and at most 20% is allowed"
    );
    assert_eq!(decision.refusals[0].remedy, "write `at-most: 1` or less");
    let undecided = judged(text, &BTreeMap::new());
    assert!(undecided.refusals.is_empty());
    assert_eq!(
        undecided.undecided,
        [RuleId(0), RuleId(1), RuleId(2), RuleId(3)]
    );
    assert!(
        refused(&judged("version: 1\nmaximum-share: 25%\n", &known()))
            .iter()
            .all(|(rule, _)| *rule != 0)
    );
}

#[test]
fn only_allowed_targets_are_touched() {
    let all = "version: 1\nallowed-targets: [workload, host, {command: 'python *'}, {file: '{out}/**'}, {namespace: 'test-*'}]\n";
    assert_eq!(judged(all, &known()), Decision::default());
    let nothing = judged("version: 1\nallowed-targets: []\n", &known());
    assert_eq!(nothing.refusals.len(), 5);
    let words: Vec<&str> = nothing
        .refusals
        .iter()
        .map(|refusal| refusal.what.as_str())
        .collect();
    insta::assert_snapshot!(words.join("\n"), @r"
    `process-kill` on rank 1 is not among the allowed targets
    `process-pause` on processes that already run is not among the allowed targets
    `file-damage` on the files `{out}/*.bin` is not among the allowed targets
    `network-partition` on the namespace `test-a` is not among the allowed targets
    `cpu-pressure` on this machine is not among the allowed targets
    ");
}

#[test]
fn what_the_host_shows_counts_beside_what_the_experiment_wrote() {
    let text = "version: 1\nallowed-targets: [workload, host, {command: 'python *'}, {file: '{out}/*'}, {namespace: '*'}]\n";
    let mut known = known();
    known.insert(
        RuleId(1),
        Eligible {
            count: 2,
            texts: vec!["python a".into(), "sshd".into()],
        },
    );
    // A link that leads out of the allowed folder.
    known.insert(
        RuleId(2),
        Eligible {
            count: 1,
            texts: vec!["/etc/passwd".into()],
        },
    );
    assert_eq!(
        refused(&judged(text, &known)),
        [(1, "allowed-targets"), (2, "allowed-targets")]
    );
    known.insert(
        RuleId(1),
        Eligible {
            count: 2,
            texts: vec!["python a".into()],
        },
    );
    assert!(
        refused(&judged(text, &known)).contains(&(1, "allowed-targets")),
        "one of the two was not shown"
    );
    known.remove(&RuleId(1));
    assert_eq!(judged(text, &known).undecided, [RuleId(1)]);
    known.insert(
        RuleId(2),
        Eligible {
            count: 1,
            texts: vec!["{out}/../x".into()],
        },
    );
    assert!(refused(&judged(text, &known)).contains(&(2, "allowed-targets")));
}

#[test]
fn what_the_experiment_wrote_is_judged_before_the_host_is_asked() {
    let text = "version: 1\nallowed-targets: [workload, host, processes, {file: '/data/**'}, {namespace: 'prod-*'}]\n";
    assert_eq!(
        refused(&judged(text, &BTreeMap::new())),
        [(2, "allowed-targets"), (3, "allowed-targets")]
    );
}

#[test]
fn a_policy_is_read_as_strictly_as_an_experiment() {
    for (text, code) in [
        ("version: 1\nforbiden-faults: []\n", "unknown-key"),
        (
            "version: 1\nforbidden-faults: [proces-kill]\n",
            "unknown-fault",
        ),
        (
            "version: 1\nforbidden-faults: ['disk-*']\n",
            "unknown-fault",
        ),
        ("version: 2\n", "unsupported-version"),
        ("forbidden-faults: []\n", "missing-key"),
        ("version: 1\nmaximum-duration: 10\n", "missing-unit"),
        ("version: 1\nallowed-targets: [workloads]\n", "unknown-word"),
        ("version: 1\nallowed-targets: [{fiel: x}]\n", "unknown-word"),
        ("version: 1\nallowed-targets:\n", "empty-value"),
        ("", "empty-file"),
    ] {
        let found = read::<TestFaults>(text, "p").expect_err(text);
        assert!(
            found.iter().any(|one| one.code == code),
            "{text}: {found:?}"
        );
    }
    let found = read::<TestFaults>("version: 1\nforbidden-faults: [proces-kill]\n", "p")
        .expect_err("misspelt");
    insta::assert_snapshot!(render(&found, "version: 1\nforbidden-faults: [proces-kill]\n", "policy.yaml"), @r"
    error: `proces-kill` fits no fault
      ┌ policy.yaml:2:20
     2 │ forbidden-faults: [proces-kill]
       │                    ^^^^^^^^^^^ did you mean `process-kill`?
      help: `squall faults` lists all faults
    ");
}

#[test]
fn the_schema_of_policies_is_one() {
    let schema = schema();
    assert_eq!(schema["$id"], "squall.policy/1");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let policy = policy("version: 1\nallowed-targets: [host, {file: x}]\nmaximum-share: 5%\n");
    assert!(validator.is_valid(&serde_json::to_value(&policy.policy).expect("JSON")));
    assert!(!validator.is_valid(&serde_json::json!({"version": 1, "allowed-targets": ["hots"]})));
}

#[test]
fn the_strictest_limits_are_shown() {
    let merged = merge(vec![
        policy("version: 1\nmaximum-duration: 2m\nmaximum-share: 10%\n"),
        policy("version: 1\nmaximum-duration: 1m\n"),
    ]);
    assert_eq!(
        merged.maximum_duration(),
        Some(Span(Duration::from_secs(60)))
    );
    assert_eq!(merged.maximum_share(), Some(Percent(10.0)));
}

fn any_allowed() -> impl Strategy<Value = AllowedTarget> {
    let text = prop::sample::select(vec![
        "*", "**", "python *", "{out}/*", "{out}/**", "test-*", "test-b", "/etc/*",
    ])
    .prop_map(str::to_owned);
    prop_oneof![
        Just(AllowedTarget::Workload),
        Just(AllowedTarget::Host),
        Just(AllowedTarget::Processes),
        text.clone().prop_map(AllowedTarget::Command),
        text.clone().prop_map(AllowedTarget::File),
        text.prop_map(AllowedTarget::Namespace),
    ]
}

fn any_policy() -> impl Strategy<Value = PolicyFile> {
    (
        prop::option::of(prop::collection::vec(any_allowed(), 0..5)),
        prop::collection::vec(
            prop::sample::select(vec![
                "process-kill",
                "process-*",
                "*-damage",
                "cpu-pressure",
            ])
            .prop_map(str::to_owned),
            0..3,
        ),
        prop::option::of((1u64..1000).prop_map(|seconds| Span(Duration::from_secs(seconds)))),
        prop::option::of((0.0f64..=100.0).prop_map(Percent)),
        "[a-c]",
    )
        .prop_map(
            |(allowed_targets, forbidden_faults, maximum_duration, maximum_share, file)| {
                let policy = Policy {
                    version: 1,
                    allowed_targets,
                    forbidden_faults,
                    maximum_duration,
                    maximum_share,
                };
                let sha256 = format!("{:?}", policy);
                PolicyFile {
                    source: Source { file, sha256 },
                    policy,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_further_policy_never_allows_what_another_forbids(files in prop::collection::vec(any_policy(), 1..5), counted: bool) {
        let eligible = if counted { known() } else { BTreeMap::new() };
        let together = judge(&plan(), &merge(files.clone()), &eligible);
        for file in &files {
            let alone = judge(&plan(), &merge(vec![file.clone()]), &eligible);
            for refusal in &alone.refusals {
                prop_assert!(together.refusals.contains(refusal));
            }
            for rule in &alone.undecided {
                prop_assert!(together.undecided.contains(rule));
            }
        }
    }

    #[test]
    fn the_order_of_files_does_not_matter(files in prop::collection::vec(any_policy(), 0..5)) {
        let mut turned = files.clone();
        turned.reverse();
        prop_assert_eq!(judge(&plan(), &merge(files), &known()), judge(&plan(), &merge(turned), &known()));
    }

    #[test]
    fn knowing_more_never_undoes_a_refusal(file in any_policy()) {
        let before = judge(&plan(), &merge(vec![file.clone()]), &BTreeMap::new());
        let after = judge(&plan(), &merge(vec![file]), &known());
        for refusal in &before.refusals {
            prop_assert!(after.refusals.contains(refusal));
        }
        prop_assert!(after.undecided.is_empty());
    }
}
