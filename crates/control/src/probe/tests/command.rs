//! Commands, and that nothing of them is left.

use super::*;

#[test]
fn a_command_is_judged_by_exit_and_output() {
    let scratch = Scratch::new("command");
    let context = context(&scratch);
    let run = |rest: &str| take(&format!(r#"{{"command":{{"run":{rest}}}}}"#), &context);
    assert!(run(r#""true""#).held);
    assert!(run(r#""sh -c 'exit 3'","exit":3"#).held);
    assert!(!run(r#""sh -c 'exit 3'""#).held);
    assert!(run(r#""sh -c 'echo queue 12; echo oops >&2'","output":"queue \\d+""#).held);
    assert!(!run(r#""echo no","output":"yes""#).held);
    assert!(
        run(r#""/no/such/program""#)
            .measured
            .contains("could not start")
    );
    // Far more than is kept; the command must not block on a full pipe.
    assert!(run(r#""sh -c 'head -c 3000000 /dev/zero; exit 0'""#).held);
    let killed = run(r#""sh -c 'kill -9 $$'""#);
    assert!(
        !killed.held && killed.measured.contains("signal"),
        "{killed:?}"
    );
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_command_is_ended_with_its_whole_tree_even_what_left_its_group() {
    let scratch = Scratch::new("tree");
    let context = context(&scratch);
    let script =
        "for i in 1 2; do (setsid sh -c 'echo $$ >> pids; exec sleep 600') & done; sleep 600";
    std::fs::write(scratch.path().join("tree.sh"), script).expect("written");
    let started = Instant::now();
    let probed = take(
        r#"{"command":{"run":"sh tree.sh","within":"1500ms"}}"#,
        &context,
    );
    assert!(
        !probed.held && probed.measured.contains("ended by Squall"),
        "{probed:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    let pids = std::fs::read_to_string(scratch.path().join("pids")).expect("the strays ran");
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        until("end of a stray", || {
            (!alive(pid.parse().ok()?)).then_some(())
        });
    }
}

#[test]
fn a_command_that_leaves_something_behind_neither_blocks_nor_leaves_it() {
    let scratch = Scratch::new("background");
    let context = context(&scratch);
    let started = Instant::now();
    let probed = take(
        r#"{"command":{"run":"sh -c 'sleep 600 & echo $! > pid'"}}"#,
        &context,
    );
    assert!(probed.held, "{probed:?}");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "it ended long before its deadline"
    );
    let pid = std::fs::read_to_string(scratch.path().join("pid")).expect("written");
    until("end of the background process", || {
        (!alive(pid.trim().parse().ok()?)).then_some(())
    });
}
