use super::*;
use crate::stream::Fault;
use std::time::Duration;

fn problems(text: &str) -> Vec<String> {
    let found = read(text).expect_err("it has problems");
    found
        .iter()
        .map(|problem| problem.code.to_string())
        .collect()
}

#[test]
fn a_file_becomes_rules() {
    let file = read(
        "version: 1\nseed: 3\nproxies:\n  - name: a\n    upstream: localhost:1\n    rules:\n      \
         - {fault: {stream-latency: {delay: 100ms, jitter: 5ms}}, probability: 50%, way: both, per: chunk}\n      \
         - {name: gone, fault: {stream-partition: {}}}\n",
    );
    let file = file.expect("it is valid");
    let stream = |index: usize| match file.proxies[0].rules[index].rule() {
        AnyRule::Stream(rule) => rule,
        AnyRule::Web(rule) => panic!("{rule:?}"),
    };
    let [first, second] = [stream(0), stream(1)];
    let fault = Fault::Latency {
        latency: Duration::from_millis(100),
        jitter: Duration::from_millis(5),
    };
    assert_eq!(
        (first.name.as_str(), first.fault, first.probability),
        ("stream-latency", fault, 0.5)
    );
    assert_eq!((first.way, first.per), (Way::Both, Per::Chunk));
    assert_eq!(
        (second.name.as_str(), second.fault, second.way),
        ("gone", Fault::Partition, Way::Downstream)
    );
    assert_eq!(
        (file.seed, file.proxies[0].listen.as_str()),
        (Some(3), "127.0.0.1:0")
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "version: 1\nproxies:\n  - {name: a, upstream: nowhere}\n  - name: a\n    upstream: b:1\n    rules:\n      \
                - {fault: {stream-corrupt: {every: 0B}}}\n      - {fault: {stream-corrupt: {every: 1B}}}\n      \
                - {fault: {stream-half-open: {}}, per: chunk}\n";
    let mut found = problems(text);
    found.sort();
    assert_eq!(found, ["address", "per-chunk", "twice", "twice", "zero"]);
    assert!(
        !problems(
            "version: 1\nproxies: [{name: a, upstream: b:1, rules: [{fault: {stream-latncy: {}}}]}]"
        )
        .is_empty()
    );
    assert_eq!(problems("version: 2\nproxies: []"), ["unsupported-version"]);
}

#[test]
fn faults_of_http_stand_in_the_same_list_and_on_proxies_that_speak_it() {
    let rule = "{when: {model: \"gpt-*\"}, fault: {llm-cut: {after: 3, how: reset}}}";
    let text = |upstream: &str| {
        format!(
            "version: 1\nproxies:\n  - {{name: a, upstream: \"{upstream}\", rules: [{rule}]}}\n"
        )
    };
    let file = read(&text("http://x:1/")).expect("it is valid");
    match file.proxies[0].rules[0].rule() {
        AnyRule::Web(rule) => assert_eq!(
            (rule.name.as_str(), rule.when.model.as_deref()),
            ("llm-cut", Some("gpt-*"))
        ),
        AnyRule::Stream(rule) => panic!("{rule:?}"),
    }
    assert_eq!(problems(&text("x:1")), ["kind"]);
    let stream = "version: 1\nproxies: [{name: a, upstream: \"http://x:1\", rules: [{fault: {stream-limit: {bytes: 1B}}}]}]";
    assert_eq!(problems(stream), ["kind"]);
    let broken = "version: 1\nproxies: [{name: a, upstream: \"http://x:1\", rules: [{fault: {http-content-type: {value: \"a\\r\\nb\"}}}]}]";
    assert_eq!(problems(broken), ["line-break"]);
    let written =
        serde_json::to_string(&file.proxies[0].rules[0].fault).expect("it can be written");
    assert_eq!(written, r#"{"llm-cut":{"after":3,"how":"reset"}}"#);
}

#[test]
fn the_list_that_toxiproxy_starts_with_is_read() {
    let text = r#"[{"name": "web", "listen": "[::]:1", "upstream": "web:2"}, {"name": "off", "upstream": "x:1", "enabled": false}]"#;
    let file = read(text).expect("it is valid");
    assert_eq!(file.proxies.len(), 1);
    assert_eq!(
        (
            file.proxies[0].name.as_str(),
            file.proxies[0].listen.as_str()
        ),
        ("web", "[::]:1")
    );
}
