use super::*;
use crate::testing::{Child, Scratch};
use squall_model::experiment::Probe;

fn circumstances(places: &[PathBuf]) -> Circumstances {
    Circumstances {
        seed: None,
        policy_places: places.to_vec(),
        facts: HostFacts::read(),
        private: may_be_made,
    }
}

fn prepared(scratch: &Scratch, text: &str, places: &[PathBuf]) -> Result<Prepared, PrepareError> {
    let path = scratch.path().join("e.yaml");
    std::fs::write(&path, text).expect("written");
    prepare(&path, &circumstances(places))
}

const TRAINING: &str = "version: 1
title: a rank dies
workload:
  training: {run: \"train --out {out}\", epochs: 40}
targets:
  second: {rank: 1}
steady-state:
  - probe: {training-event: {every: epoch, within: 30s}}
  - probe: {process-alive: {target: {name: second}}}
method:
  - process-kill: {target: {name: second}, every: {epochs: 10}}
  - wait: 1s
expect:
  - completes: {}
";

#[test]
fn a_valid_experiment_becomes_a_script() {
    let scratch = Scratch::new("prepare");
    let prepared = prepared(&scratch, TRAINING, &[]).expect("prepared");
    let script = &prepared.script;
    assert_eq!(script.rules[0].target.rank, Some(1));
    assert_eq!(script.steady[0].0, "steady-state/0");
    let Probe::ProcessAlive(alive) = &script.steady[1].1.probe else {
        panic!("{:?}", script.steady[1]);
    };
    assert_eq!(alive.target.rank, Some(1), "its name was replaced");
    assert_eq!(script.directory, scratch.path());
    assert_eq!(
        script.workload.as_ref().and_then(|owned| owned.epochs),
        Some(40)
    );
    assert!(prepared.plan.rules[0].mechanism.is_some());
    assert_eq!(script.seed, prepared.plan.seed);
    assert!(script.plan["rules"].is_array());
}

#[test]
fn a_policy_refuses_and_a_broken_one_refuses_too() {
    let scratch = Scratch::new("refused");
    let policy = scratch.path().join("policy.yaml");
    std::fs::write(&policy, "version: 1\nforbidden-faults: [process-*]\n").expect("written");
    let error = prepared(&scratch, TRAINING, std::slice::from_ref(&policy)).expect_err("refused");
    assert!(
        matches!(&error, PrepareError::Refused { refusals, .. } if refusals.len() == 1),
        "{error}"
    );
    assert_eq!(error.exit(), Exit::Refused);
    std::fs::write(&policy, "version: 1\nforbiden-faults: []\n").expect("written");
    let error = prepared(&scratch, TRAINING, &[policy]).expect_err("refused");
    assert_eq!(error.exit(), Exit::Refused);
}

#[test]
fn every_problem_has_its_exit() {
    let scratch = Scratch::new("exits");
    assert_eq!(
        prepared(&scratch, "version: 1\n", &[])
            .expect_err("invalid")
            .exit(),
        Exit::Invalid
    );
    let nobody = "version: 1\ntitle: t\nmethod:\n  - process-kill: {target: {pid: 4194303}}\n";
    assert_eq!(
        prepared(&scratch, nobody, &[]).expect_err("nobody").exit(),
        Exit::NoTarget
    );
    let missing = prepare(Path::new("/no/such/file.yaml"), &circumstances(&[]));
    assert_eq!(missing.expect_err("missing").exit(), Exit::Invalid);
}

#[test]
fn what_already_runs_is_found_and_counted() {
    let scratch = Scratch::new("attached");
    let child = Child(
        std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("started"),
    );
    let text = format!(
        "version: 1\ntitle: t\nmethod:\n  - process-kill: {{target: {{pid: {}}}}}\n",
        child.0.id()
    );
    let prepared = prepared(&scratch, &text, &[]).expect("prepared");
    assert_eq!(prepared.plan.rules[0].blast_radius.eligible, Some(1));
    assert_eq!(prepared.script.attached, [child.0.id()]);
    let who = squall_faults::sys::process::identity(child.0.id()).expect("read");
    assert_eq!(
        prepared.script.rules[0].process, who,
        "whoever gets the pid later is not meant"
    );
}

#[test]
fn a_given_seed_wins_over_the_file_s() {
    let scratch = Scratch::new("seed");
    let path = scratch.path().join("e.yaml");
    std::fs::write(&path, format!("{TRAINING}seed: 5\n")).expect("written");
    let mut circumstances = circumstances(&[]);
    assert_eq!(
        prepare(&path, &circumstances)
            .expect("prepared")
            .script
            .seed,
        5
    );
    circumstances.seed = Some(9);
    assert_eq!(
        prepare(&path, &circumstances)
            .expect("prepared")
            .script
            .seed,
        9
    );
}

const PARTITION: &str = "version: 1
title: the ranks lose each other
workload:
  process: {run: \"pair\"}
method:
  - network-partition: {target: {workload: true}, at: {time: 1s}, for: 1s, ports: [29500]}
";

#[test]
fn a_partition_of_the_workload_gets_it_namespaces_of_its_own_or_is_refused_by_name() {
    let scratch = Scratch::new("private");
    let path = scratch.path().join("e.yaml");
    std::fs::write(&path, PARTITION).expect("written");
    let facts = HostFacts {
        nftables: true,
        net_admin: true,
        ..HostFacts::default()
    };
    let on = |facts: &HostFacts, private: fn() -> io::Result<()>| {
        let circumstances = Circumstances {
            facts: facts.clone(),
            private,
            ..circumstances(&[])
        };
        prepare(&path, &circumstances)
    };
    let prepared = on(&facts, || Ok(())).expect("prepared");
    assert!(
        prepared
            .script
            .workload
            .as_ref()
            .is_some_and(|owned| owned.private)
    );
    let said = prepared.plan.isolation.expect("said");
    assert!(said.contains("network and mount namespaces"), "{said}");
    let lacking = |facts: &HostFacts, private| match on(facts, private) {
        Err(PrepareError::Unmet { unmet, .. }) => unmet
            .into_iter()
            .map(|(_, unmet)| unmet.what)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let refused = lacking(&facts, || Err(io::Error::from_raw_os_error(1)));
    assert!(
        refused.len() == 1 && refused[0].contains("namespaces for the workload"),
        "{refused:?}"
    );
    let bare = lacking(&HostFacts::default(), || Ok(()));
    assert!(bare.len() == 2 && bare[0].contains("nf_tables"), "{bare:?}");
}

#[test]
fn other_workloads_share_the_hosts_namespaces() {
    let scratch = Scratch::new("shared");
    let shared = prepared(&scratch, TRAINING, &[]).expect("prepared");
    assert_eq!(shared.plan.isolation, None);
    assert!(shared.script.workload.is_some_and(|owned| !owned.private));
}

#[test]
fn a_rule_takes_along_the_policies_that_its_targets_must_satisfy_later() {
    let scratch = Scratch::new("held-policies");
    let mut command = std::process::Command::new("sleep");
    let child = Child(command.arg("601").spawn().expect("started"));
    let policy = scratch.path().join("policy.yaml");
    let text = "version: 1\nallowed-targets: [workload, {command: 'sleep*'}]\n";
    std::fs::write(&policy, text).expect("written");
    let limits = scratch.path().join("limits.yaml");
    std::fs::write(&limits, "version: 1\nmaximum-duration: 1h\n").expect("written");
    let places = [policy.clone(), limits];
    let pid = child.0.id();
    let text =
        format!("version: 1\ntitle: t\nmethod:\n  - process-kill: {{target: {{pid: {pid}}}}}\n");
    let outside = prepared(&scratch, &text, &places).expect("prepared");
    let files: Vec<_> = outside.script.rules[0]
        .policies
        .iter()
        .map(|file| file.source.file.clone())
        .collect();
    assert_eq!(files, [policy.to_string_lossy().into_owned()]);
    let own = prepared(&scratch, TRAINING, &places).expect("prepared");
    assert!(own.script.rules[0].policies.is_empty());
}
