//! Laws of reading: total, exact in its places, and in agreement with an independent validator.

mod support;

use proptest::prelude::*;
use serde_json::{Value, json};
use squall_model::diagnostic::{Diagnostic, render};
use squall_model::experiment::{Expect, Experiment, Step};
use squall_model::load::{EXPERIMENT_ID, Node, NodeValue, PathSegment, read, schema, sha256};
use squall_model::units::{Bytes, Percent, Span};
use std::time::Duration;
use support::TestFaults;

/// The example of the guide, word for word.
const EXAMPLE: &str = include_str!("../../../docs/examples/kill-a-rank.yaml");

fn problems(text: &str) -> Vec<Diagnostic> {
    read::<TestFaults>(text, "x.yaml").err().unwrap_or_default()
}

#[expect(clippy::expect_used, reason = "a test")]
fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema::<TestFaults>()).expect("the schema is one")
}

#[test]
fn the_example_of_the_guide_is_read() {
    let loaded = read::<TestFaults>(EXAMPLE, "kill-a-rank.yaml")
        .unwrap_or_else(|all| panic!("{}", render(&all, EXAMPLE, "kill-a-rank.yaml")));
    let experiment = &loaded.experiment;
    assert_eq!(experiment.seed, Some(7));
    assert_eq!(experiment.targets["second-rank"].rank, Some(1));
    let [Step::Fault(kill)] = experiment.method.as_slice() else {
        panic!("{:?}", experiment.method)
    };
    assert_eq!(
        kill.keys.every.as_ref().and_then(|every| every.epochs),
        Some(10)
    );
    assert_eq!(
        experiment.expect[0],
        Expect::RecoveredWithin(Span(Duration::from_secs(60)))
    );
    assert_eq!(loaded.sha256, sha256(EXAMPLE));
    assert_eq!(loaded.sha256.len(), 64);
}

#[test]
fn what_was_read_and_written_as_json_is_read_again_equal() {
    let loaded = read::<TestFaults>(EXAMPLE, "x").expect("sound");
    let json = serde_json::to_string(&loaded.experiment).expect("JSON");
    let again: Experiment<TestFaults> = serde_json::from_str(&json).expect("the same");
    assert_eq!(again, loaded.experiment);
    // JSON is YAML.
    let as_yaml = read::<TestFaults>(&json, "x").expect("JSON is YAML");
    assert_eq!(as_yaml.experiment, loaded.experiment);
}

#[test]
fn the_schema_is_named_described_and_accepted_by_an_independent_validator() {
    let schema = schema::<TestFaults>();
    assert_eq!(schema["$id"], EXPERIMENT_ID);
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert!(
        schema["properties"]["title"]["description"]
            .as_str()
            .is_some_and(|text| text.contains("for people"))
    );
    assert!(!schema.to_string().contains("\"null\""), "null is offered");
    jsonschema::meta::validate(&schema).expect("a schema");
    let loaded = read::<TestFaults>(EXAMPLE, "x").expect("sound");
    let value = serde_json::to_value(&loaded.experiment).expect("JSON");
    let errors: Vec<String> = validator()
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn every_reference_of_the_schema_leads_somewhere() {
    fn check(root: &Value, here: &Value) {
        match here {
            Value::Object(map) => {
                if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                    let pointer = target.strip_prefix('#').expect("a local reference");
                    assert!(root.pointer(pointer).is_some(), "{target} is missing");
                }
                map.values().for_each(|value| check(root, value));
            }
            Value::Array(items) => items.iter().for_each(|value| check(root, value)),
            _ => {}
        }
    }
    let schema = schema::<TestFaults>();
    check(&schema, &schema);
}

#[test]
fn the_validator_and_the_reader_refuse_the_same_structures() {
    let base = json!({"version": 1, "title": "t", "workload": {"training": {"run": "train"}}, "method": [{"process-pause": {"target": {"rank": 1}, "for": "10s"}}]});
    let edits: Vec<(&str, Value)> = vec![
        ("/title", json!(7)),
        ("/version", json!("1")),
        ("/seed", json!(-1)),
        ("/colour", json!("red")),
        ("/method", json!({})),
        ("/method/0", json!({})),
        ("/method/0", json!({"coffee": {}})),
        ("/method/0", json!({"wait": "1s", "process-pause": {}})),
        ("/method/0/process-pause/for", json!("10")),
        ("/method/0/process-pause/for", json!(10)),
        ("/method/0/process-pause/signal", json!("KILL")),
        ("/method/0/process-pause/target", json!("second")),
        ("/method/0/process-pause/target", json!({"rank": "1"})),
        ("/method/0/process-pause/times", json!(4_294_967_296u64)),
        ("/workload", json!({"job": {}})),
        ("/monitor", json!({"rate": 0})),
        ("/expect", json!([{"lost-steps": {"at-most": "12"}}])),
        (
            "/steady-state",
            json!([{"probe": {"training-event": {"every": "day", "within": "1s"}}}]),
        ),
    ];
    let validator = validator();
    assert!(
        validator.is_valid(&base) && problems(&base.to_string()).is_empty(),
        "{:?}",
        problems(&base.to_string())
    );
    for (pointer, value) in edits {
        let mut broken = base.clone();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        match broken.pointer_mut(parent).expect("a parent") {
            Value::Object(map) => {
                map.insert(key.to_owned(), value);
            }
            Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
            other => panic!("{other}"),
        }
        assert!(
            !validator.is_valid(&broken),
            "the validator accepts {broken}"
        );
        assert!(
            !problems(&broken.to_string()).is_empty(),
            "the reader accepts {broken}"
        );
    }
}

#[test]
fn scalars_are_those_of_yaml_1_2() {
    let with = |value: &str| format!("version: 1\ntitle: {value}\nmethod:\n  - wait: 1s\n");
    for text in [
        "yes",
        "no",
        "on",
        "off",
        "0777x",
        "1_000",
        "12:30:45",
        "2026-11-24",
        "1.2.3",
        "0xzz",
        "+",
        ".",
        "e1",
        "=",
        "infinity",
        "nan",
    ] {
        assert!(
            problems(&with(text)).is_empty(),
            "{text} is a text: {:?}",
            problems(&with(text))
        );
    }
    for other in [
        "1",
        "-1",
        "+1",
        "0x1F",
        "0o17",
        "1.5",
        ".5",
        "1e3",
        "1.e3",
        "-.5e-3",
        ".inf",
        "-.inf",
        ".nan",
        "true",
        "False",
        "NULL",
        "~",
        "99999999999999999999999",
    ] {
        assert!(!problems(&with(other)).is_empty(), "{other} is no text");
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_read() {
    let text = format!("\u{feff}{}", EXAMPLE.replace('\n', "\r\n"));
    assert!(
        read::<TestFaults>(&text, "x").is_ok(),
        "{}",
        render(&problems(&text), &text, "x")
    );
    let broken = text.replace("seed:", "sed:");
    let found = problems(&broken);
    let span = found[0].span.expect("a place");
    assert_eq!(&broken[span.start..span.end], "sed");
}

fn check_places(text: &str, node: &Node, path: &mut Vec<PathSegment>, root: &Node) {
    let covered = |start: usize, end: usize| text.get(start..end).is_some() && start <= end;
    assert!(
        covered(node.span.start, node.span.end),
        "{:?} of {text:?}",
        node.span
    );
    assert_eq!(root.place(path).value, node.span, "{path:?}");
    match &node.value {
        NodeValue::Scalar {
            text: value,
            plain: true,
        } if !value.contains(char::is_whitespace) => {
            assert_eq!(
                &text[node.span.start..node.span.end],
                value,
                "at {:?}",
                node.span
            );
        }
        NodeValue::Map(entries) => {
            for entry in entries {
                assert!(
                    covered(entry.span.start, entry.span.end),
                    "{:?}",
                    entry.span
                );
                path.push(PathSegment::Key(entry.key.clone()));
                check_places(text, &entry.value, path, root);
                path.pop();
            }
        }
        NodeValue::List(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(PathSegment::Index(index));
                check_places(text, item, path, root);
                path.pop();
            }
        }
        _ => {}
    }
}

#[test]
fn every_node_of_an_experiment_stands_where_its_span_says() {
    for text in [
        EXAMPLE.to_owned(),
        EXAMPLE.replace("the trainer", "die Übung 日本語"),
        format!("\u{feff}{EXAMPLE}"),
        EXAMPLE.replace("seed: 7", "seed: 7 # äöü 日本語\n# é"),
    ] {
        let loaded = read::<TestFaults>(&text, "x").expect("sound");
        check_places(&text, &loaded.tree, &mut Vec::new(), &loaded.tree);
        let target = [
            PathSegment::Key("targets".into()),
            PathSegment::Key("second-rank".into()),
            PathSegment::Key("rank".into()),
        ];
        let place = loaded.location(&target);
        assert_eq!(&text[place.start..place.end], "1");
    }
}

/// Every diagnostic points into the text, at the line and column it says, and can be shown.
fn check_diagnostics(text: &str) {
    let found = problems(text);
    for one in &found {
        let Some(span) = one.span else { continue };
        assert!(
            text.get(span.start..span.end).is_some(),
            "{one:?} of {text:?}"
        );
        let before = text[..span.start].trim_start_matches('\u{feff}');
        assert_eq!(
            span.line,
            before.matches('\n').count() + 1,
            "{one:?} of {text:?}"
        );
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        assert_eq!(span.column, column, "{one:?} of {text:?}");
    }
    let shown = render(&found, text, "x.yaml");
    assert!(found.is_empty() || shown.starts_with("error: "));
}

fn edited(text: &str, at: usize, removed: usize, inserted: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = at % (characters.len() + 1);
    let end = (at + removed).min(characters.len());
    let head: String = characters[..at].iter().collect();
    let tail: String = characters[end..].iter().collect();
    head + inserted + &tail
}

proptest! {
    #![proptest_config(ProptestConfig {  failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check_diagnostics(&text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(squall_model::load::read_bytes::<TestFaults>(&bytes, "x").is_err());
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(parts in proptest::collection::vec(prop::sample::select(vec![
        "- ", ": ", "\n", "  ", "a", "version", "title", "method", "\"", "'", "{", "}", "[", "]", ",", "&x ", "*x", "!t ", "|", ">", "#", "---", "...", "%", "?", "1s", "7", "\u{e9}", "日", "\t", "\r\n", "<<", "null", "process-kill", "target", "\\", "@", "`",
    ]), 0..60)) {
        check_diagnostics(&parts.concat());
    }

    #[test]
    fn any_edit_of_an_example_is_read_or_refused(at in 0usize..2000, removed in 0usize..12, inserted in "[ -~\\n\u{e9}日]{0,6}") {
        check_diagnostics(&edited(EXAMPLE, at, removed, &inserted));
    }

    #[test]
    fn durations_are_read_as_they_are_written(ns in 0u64..=365 * 86_400_000_000_000) {
        let span = Span(Duration::from_nanos(ns));
        prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
    }

    #[test]
    fn sizes_are_read_as_they_are_written(bytes in any::<u64>()) {
        prop_assert_eq!(Bytes(bytes).to_string().parse::<Bytes>(), Ok(Bytes(bytes)));
    }

    #[test]
    fn percentages_are_read_as_they_are_written(share in 0.0f64..=100.0) {
        prop_assert_eq!(Percent(share).to_string().parse::<Percent>(), Ok(Percent(share)));
    }

    #[test]
    fn any_text_is_a_quantity_or_refused(text in any::<String>()) {
        let _ = (text.parse::<Span>().is_ok(), text.parse::<Bytes>().is_ok(), text.parse::<Percent>().is_ok());
    }

    #[test]
    fn what_the_pattern_of_the_schema_accepts_is_near_what_the_type_reads(number in "[0-9]{1,6}(\\.[0-9]{1,6})?", unit in "(ns|us|ms|s|m|min|h|d|sec|x)") {
        let text = format!("{number}{unit}");
        let pattern = regex::Regex::new(r"^\s*[0-9]+(\.[0-9]+)?\s*(ns|us|µs|ms|s|m|min|h|d)\s*$").expect("a pattern");
        let too_large = text.parse::<Span>().is_err_and(|error| error.because == "it is too large");
        prop_assert_eq!(pattern.is_match(&text), text.parse::<Span>().is_ok() || too_large);
    }
}
