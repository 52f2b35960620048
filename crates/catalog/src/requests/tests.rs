//! The keys of each fault here are those of the proxy's own, word for word.

use crate::Faults;
use schemars::SchemaGenerator;
use serde_json::Value;
use squall_model::syntax::FaultList;
use squall_proxy::web::WebFault;

/// The proxy's schema of one fault.
fn of_proxy(kind: &str) -> Value {
    let schema = schemars::schema_for!(WebFault).to_value();
    let variants = schema["oneOf"].as_array().expect("variants").clone();
    let variant = variants
        .iter()
        .find_map(|one| one["properties"].get(kind))
        .unwrap_or_else(|| panic!("the proxy knows no {kind}"));
    variant.clone()
}

#[test]
fn each_fault_has_the_keys_of_the_proxys_own() {
    let mut seen = 0;
    for info in Faults::kinds() {
        if info.targets != super::said::TARGETS {
            continue;
        }
        seen += 1;
        let mut generator = SchemaGenerator::default();
        let ours = Faults::config_schema(info.kind, &mut generator).expect("a schema");
        let mut ours = ours.as_value()["properties"]
            .as_object()
            .expect("keys")
            .clone();
        assert!(ours.remove("when").is_some() && ours.remove("share").is_some());
        for (key, name) in super::OTHERWISE {
            if let Some(schema) = ours.remove(key) {
                ours.insert(name.to_owned(), schema);
            }
        }
        let theirs = of_proxy(info.kind);
        let empty = serde_json::Map::new();
        let theirs = theirs["properties"].as_object().unwrap_or(&empty);
        assert_eq!(&ours, theirs, "{}", info.kind);
    }
    assert!(seen >= 16, "{seen}");
}

#[test]
fn a_rule_is_what_the_proxy_reads() {
    let config = serde_json::json!({
        "tokens": 5, "how": "reset", "when": {"streaming": true}, "share": "20%"
    });
    let fault = Faults::parse("llm-cut", config).expect("a fault");
    assert_eq!(fault.problems(), []);
    let rule = super::rule("llm-cut", &fault.config());
    assert_eq!(
        rule,
        serde_json::json!({
            "fault": {"llm-cut": {"after": 5, "how": "reset"}},
            "when": {"streaming": true},
            "probability": "20%"
        })
    );
}

#[test]
fn what_the_proxy_would_not_take_is_told_beforehand() {
    let config = serde_json::json!({"code": 999});
    let problems = Faults::parse("http-status", config)
        .expect("types")
        .problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
}
