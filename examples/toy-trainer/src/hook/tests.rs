//! What a link does with what it is told, and with an agent that does not read.

use super::*;

/// A link whose agent has already sent `messages`, and the agent's end.
fn linked(messages: &str) -> (Link, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.write_all(messages.as_bytes()).unwrap();
    let identity = Identity {
        rank: Some(1),
        world: Some(2),
        restart: 0,
        role: "rank",
        phases: &["forward"],
    };
    (Link::greet(ours, &identity), theirs)
}

const WELCOME: &str = "{\"welcome\":{\"v\":1,\"arm\":[]}}\n";

/// Everything the agent's end holds now, as messages.
fn read_all(theirs: &mut UnixStream) -> Vec<Value> {
    theirs.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).unwrap_err();
    let lines = std::str::from_utf8(&bytes).unwrap().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or(Value::Null))
        .collect()
}

#[test]
fn events_that_do_not_fit_are_dropped_and_counted() {
    let (mut link, mut theirs) = linked(WELCOME);
    let mut sent = 0;
    while link.dropped < 3 {
        link.event("log", json!({"line": "x".repeat(1000)}));
        sent += 1;
    }
    let mut messages = read_all(&mut theirs);
    link.event("log", json!({"line": "y"}));
    messages.extend(read_all(&mut theirs));
    let last = &messages.last().unwrap()["event"];
    assert_eq!(
        (&last["dropped"], &last["seq"]),
        (&json!(3), &json!(sent + 1))
    );
    link.event("log", json!({"line": "z"}));
    assert_eq!(read_all(&mut theirs)[0]["event"].get("dropped"), None);
}

#[test]
fn a_line_longer_than_the_protocol_allows_is_dropped() {
    let (mut link, _theirs) = linked(WELCOME);
    link.event("log", json!({"line": "x".repeat(LINE_MAX)}));
    assert_eq!(link.dropped, 1);
}

#[test]
fn a_later_arm_replaces_the_list_and_a_release_disarms() {
    let (mut link, mut theirs) = linked(WELCOME);
    let arm = |ids: &[&str]| {
        let holds: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "phase": "forward"}))
            .collect();
        format!("{}\n", json!({"arm": {"holds": holds}}))
    };
    theirs.write_all(arm(&["a", "b"]).as_bytes()).unwrap();
    theirs.write_all(arm(&["b", "c"]).as_bytes()).unwrap();
    theirs
        .write_all(b"{\"surprise\":{}}\nnonsense\n{\"release\":{\"id\":\"b\"}}\n")
        .unwrap();
    link.receive();
    assert!(link.open);
    assert_eq!(
        link.holds
            .iter()
            .map(|hold| hold.id.as_str())
            .collect::<Vec<_>>(),
        ["c"]
    );
}

#[test]
fn a_hold_fires_once_even_when_it_is_armed_again() {
    let (mut link, mut theirs) = linked(WELCOME);
    theirs
        .write_all(b"{\"landed\":{\"id\":\"other\"}}\n{\"landed\":{\"id\":\"a\"}}\n")
        .unwrap();
    let hold = Hold {
        id: "a".into(),
        phase: "forward".into(),
        rank: None,
        step: None,
        epoch: None,
    };
    link.hold(hold, Place { step: 1, epoch: 1 });
    assert!(link.open && link.waiting_for.is_none());
    link.arm(&json!([{"id": "a", "phase": "forward"}, {"id": "b", "phase": "forward", "rank": 1}]));
    assert_eq!(link.holds.len(), 1);
    assert!(link.matches(&link.holds[0], "forward", Place { step: 7, epoch: 1 }));
    assert!(!link.matches(&link.holds[0], "backward", Place { step: 7, epoch: 1 }));
}

#[test]
fn a_refusal_closes_the_link() {
    assert!(!linked("{\"refused\":{\"because\":\"v\"}}\n").0.open);
}
