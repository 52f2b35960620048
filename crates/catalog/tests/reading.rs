//! What the real list of faults offers can be written, read, validated and planned.

use serde_json::Value;
use squall_catalog::Faults;
use squall_model::diagnostic::render;
use squall_model::load::{read, schema};
use squall_model::plan::build;
use squall_model::syntax::FaultList;
use std::time::{Duration, Instant};

const TRAINING: &str = "training: {run: train --epochs 40}";
const CALLING: &str = "process: {run: ask, proxy: {upstream: mock}}";

fn experiment(step: &str) -> String {
    let workload = match step.contains("proxy: workload") {
        true => CALLING,
        false => TRAINING,
    };
    format!(
        "version: 1\ntitle: the example of a fault\nworkload:\n  {workload}\nmethod:\n  - {step}\n"
    )
}

#[test]
fn the_example_of_every_fault_is_read_planned_and_valid() {
    let validator = jsonschema::draft202012::new(&schema::<Faults>()).expect("a schema");
    for info in Faults::kinds() {
        assert!(
            info.example.starts_with(&format!("{}: ", info.kind)),
            "the step alone, without the dash of its list: {}",
            info.example
        );
        let text = experiment(info.example);
        let loaded = read::<Faults>(&text, info.kind)
            .unwrap_or_else(|all| panic!("{}", render(&all, &text, info.kind)));
        let plan = build(&loaded.experiment, 1);
        assert_eq!(plan.rules.len(), 1);
        assert_eq!(plan.rules[0].kind, info.kind);
        let value = serde_json::to_value(&loaded.experiment).expect("JSON");
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}", info.kind);
    }
}

#[test]
fn a_key_that_a_fault_does_not_know_is_reported_at_the_key() {
    for info in Faults::kinds() {
        let step = info.example.replacen("{target", "{colour: red, target", 1);
        let text = experiment(&step);
        let found = read::<Faults>(&text, info.kind).expect_err(info.kind);
        let codes: Vec<&str> = found.iter().map(|one| one.code.as_str()).collect();
        assert_eq!(codes, ["unknown-key"], "{}", info.kind);
        let span = found[0].span.expect("a place");
        assert_eq!(&text[span.start..span.end], "colour");
    }
}

#[test]
fn every_fault_and_every_shared_key_is_described_for_editors() {
    let schema = schema::<Faults>();
    let steps = schema["$defs"]["Step"]["oneOf"]
        .as_array()
        .expect("choices");
    for info in Faults::kinds() {
        let step = steps
            .iter()
            .find(|step| step["properties"].get(info.kind).is_some())
            .expect(info.kind);
        let body = &step["properties"][info.kind];
        assert_eq!(
            body["additionalProperties"],
            Value::Bool(false),
            "{}",
            info.kind
        );
        for (key, property) in body["properties"].as_object().expect("keys") {
            assert!(property["description"].is_string(), "{}.{key}", info.kind);
        }
        assert!(body["properties"]["target"].is_object(), "{}", info.kind);
    }
}

#[test]
fn the_examples_of_the_guide_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let name = path.display().to_string();
        if let Err(all) = read::<Faults>(&text, &name) {
            panic!("{}", render(&all, &text, &name));
        }
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn the_guide_shows_the_example_it_speaks_of() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let guide = std::fs::read_to_string(root.join("experiment-file.md")).expect("the guide");
    let example =
        std::fs::read_to_string(root.join("examples/kill-a-rank.yaml")).expect("the example");
    assert!(
        guide.contains(&example),
        "the guide's example differs from the file"
    );
}

#[test]
fn every_piece_of_yaml_in_the_guide_is_sound() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/experiment-file.md");
    let guide = std::fs::read_to_string(path).expect("the guide");
    let pieces: Vec<&str> = guide
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(pieces.len(), 4);
    for piece in pieces {
        let workload = "workload: {training: {run: train}}\n";
        let text = match piece {
            policy if policy.contains("allowed-targets") => {
                let found = squall_model::policy::read::<Faults>(policy, "policy")
                    .err()
                    .unwrap_or_default();
                assert!(found.is_empty(), "{}", render(&found, policy, "policy"));
                continue;
            }
            whole if whole.starts_with("version") => whole.to_owned(),
            method if method.starts_with("method") => {
                format!("version: 1\ntitle: t\n{workload}{method}")
            }
            part => format!("version: 1\ntitle: t\n{part}method: [{{wait: 1s}}]\n"),
        };
        if let Err(found) = read::<Faults>(&text, "piece") {
            panic!("{}", render(&found, &text, "piece"));
        }
    }
}

/// A hang guard; the promise of 5 ms for a release build is measured by the benchmark.
#[test]
fn a_hundred_lines_are_checked_without_delay() {
    let mut text = format!("version: 1\ntitle: a long one\nworkload:\n  {TRAINING}\nmethod:\n");
    for line in 0..96 {
        text.push_str(&format!("  - process-pause: {{name: s{line}, target: {{rank: 1}}, at: {{step: {}}}, for: 5s, probability: 50%}}\n", line + 1));
    }
    let start = Instant::now();
    let first = read::<Faults>(&text, "long").is_ok();
    let with_schema = start.elapsed();
    let start = Instant::now();
    let again = read::<Faults>(&text, "long").is_ok();
    println!("first {with_schema:?}, again {:?}", start.elapsed());
    assert!(first && again && with_schema < Duration::from_secs(2));
}
