//! Faults in containers of a real engine: partitioned one way and both ways and healed, restarted and removed in mid-fault.

mod cluster;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cluster::{Cluster, SOCKET, address};
use serde_json::Value;
use squall_tests::poll::until;
use squall_tests::product::{Desk, Ended, Report};
use squall_tests::sandbox::{Sandbox, skip, tmpfs};

const LIMIT: Duration = Duration::from_secs(60);

fn with_cluster(test: &str, body: impl FnOnce(&Cluster, &Desk) -> anyhow::Result<()>) {
    if let Some(missing) = ["dockerd", "docker", "nft"].iter().find(|it| !is_there(it)) {
        if let Err(error) = skip(test, &format!("there is no {missing} here")) {
            panic!("{test}: {error:#}");
        }
        return;
    }
    let sandbox = Sandbox::new()
        .with_own_pids()
        .limit(Duration::from_secs(240));
    sandbox.run(test, || {
        tmpfs("/run", "64m")?;
        let cluster = Cluster::start()?;
        cluster.hear(["b c", "a c", "a b"])?;
        body(&cluster, &Desk::new()?)?;
        let rules = cluster.rules()?;
        ensure!(!rules.contains("squall"), "left: {rules}");
        Ok(())
    });
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// An experiment with this method.
fn experiment(step: &str) -> String {
    let step = step.replace("ENGINE", &format!("engine: {SOCKET}"));
    format!("version: 1\ntitle: a cluster of containers is cut\nseed: 3\nmethod:\n  - {step}\n")
}

/// Runs an experiment; `meanwhile` sees it from its start on.
fn run(
    desk: &Desk,
    step: &str,
    meanwhile: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<(Ended, Report)> {
    let file = desk.write("experiment.yaml", &experiment(step))?;
    let live = desk.start_run(&file)?;
    meanwhile().with_context(|| format!("squall said: {}", live.said()))?;
    let ended = live.wait(LIMIT)?;
    let report = desk
        .report()
        .with_context(|| format!("the run {}", ended.told()))?;
    Ok((ended, report))
}

fn texts<'a>(report: &'a Report, key: &str) -> Vec<&'a str> {
    let injections = report.injections().iter();
    injections
        .map(|it| it[key].as_str().unwrap_or(""))
        .collect()
}

#[test]
fn a_cluster_is_partitioned_one_way_and_both_ways_and_heals() {
    let test = "a_cluster_is_partitioned_one_way_and_both_ways_and_heals";
    with_cluster(test, |cluster, desk| {
        let (b, c) = (address("b"), address("c"));
        let one_way = format!(
            "network-partition: {{target: {{container: node-a, ENGINE}}, for: 3s, peers: [{b}, {c}], direction: in}}"
        );
        let (ended, report) = run(desk, &one_way, || cluster.hear(["", "a c", "a b"]))?;
        ended.expect(0)?;
        cluster.hear(["b c", "a c", "a b"])?;
        let target = texts(&report, "target").concat();
        let pid = cluster.pid("a")?;
        ensure!(
            target.starts_with("container node-a (") && target.contains(&format!("pid {pid}")),
            "{target}"
        );
        ensure!(report.all_gone(), "{}", report.told());
        let both = format!(
            "network-partition: {{target: {{container-label: node=b, ENGINE}}, for: 3s, peers: [{}, {c}]}}",
            address("a")
        );
        let (ended, report) = run(desk, &both, || cluster.hear(["c", "", "a"]))?;
        ended.expect(0)?;
        cluster.hear(["b c", "a c", "a b"])?;
        ensure!(
            texts(&report, "target")
                .concat()
                .starts_with("container node-b (")
        );
        ensure!(report.all_gone(), "{}", report.told());
        desk.is_clean()
    });
}

#[test]
fn packets_of_one_container_are_lost_by_a_queue_and_a_container_is_killed() {
    let test = "packets_of_one_container_are_lost_by_a_queue_and_a_container_is_killed";
    with_cluster(test, |cluster, desk| {
        let lost = format!(
            "network-blackhole: {{target: {{container: node-c, ENGINE}}, for: 3s, peers: [{}]}}",
            address("a")
        );
        let (ended, report) = run(desk, &lost, || cluster.hear(["b c", "a c", "b"]))?;
        ended.expect(0)?;
        ensure!(report.all_gone(), "{}", report.told());
        cluster.hear(["b c", "a c", "a b"])?;
        let kill = "process-kill: {target: {container: node-b, ENGINE}}";
        let (ended, report) = run(desk, kill, || Ok(()))?;
        ended.expect(0)?;
        ensure!(
            texts(&report, "target")
                .concat()
                .starts_with("container node-b (")
        );
        let state = cluster.docker(&["inspect", "--format", "{{.State.ExitCode}}", "node-b"])?;
        ensure!(state == "137", "b ended with {state}");
        cluster.docker(&["start", "node-b"]).map(drop)
    });
}

#[test]
fn what_is_no_container_or_has_no_network_of_its_own_is_refused() {
    let test = "what_is_no_container_or_has_no_network_of_its_own_is_refused";
    with_cluster(test, |cluster, desk| {
        let shared = [
            "run",
            "--detach",
            "--network",
            "host",
            "--name",
            "host-h",
            "node:1",
            "h",
        ];
        cluster.docker(&shared)?;
        for (target, code, word) in [
            ("container: nobody", 20, "knows no container nobody"),
            ("container-label: node=z", 20, "carries the label node=z"),
            ("container: host-h", 21, "shares the network of this host"),
        ] {
            let step = format!(
                "network-blackhole: {{target: {{{target}, ENGINE}}, for: 1s, ports: [7000]}}"
            );
            let file = desk.write("experiment.yaml", &experiment(&step))?;
            let ended = desk.run(&file)?;
            ended.expect(code)?;
            ensure!(ended.told().contains(word), "{word}: {}", ended.told());
        }
        cluster.docker(&["rm", "--force", "host-h"])?;
        let beside = [
            "run",
            "--detach",
            "--network",
            "container:node-a",
            "--name",
            "beside",
        ];
        // A node of its own would want the port of the other: it ends, and is no container that runs.
        cluster.docker(&[&beside[..], &["--entrypoint", "/node", "node:1", "s"]].concat())?;
        cluster.docker(&["rm", "--force", "beside"])?;
        desk.write(
            "home/config/squall/policy.yaml",
            "version: 1\nallowed-targets:\n  - container: \"node-a*\"\n",
        )?;
        for (name, code) in [("b", 23), ("a", 0)] {
            let step = format!(
                "network-blackhole: {{target: {{container: node-{name}, ENGINE}}, for: 1s, ports: [7000]}}"
            );
            let file = desk.write("experiment.yaml", &experiment(&step))?;
            desk.run(&file)?.expect(code)?;
        }
        Ok(())
    });
}

/// A method that loses packets of `b` for a while.
fn lossy(more: &str) -> String {
    format!(
        "network-blackhole: {{name: cut, target: {{container: node-b, ENGINE}}, for: 6s, peers: [{}], ports: [7000]{more}}}",
        address("a")
    )
}

/// Restarts `b` when it hears `a` no more.
fn restarted(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.hear(["b c", "c", "a b"])?;
    cluster
        .docker(&["restart", "--time", "0", "node-b"])
        .map(drop)
}

#[test]
fn a_container_that_restarts_is_lost_and_not_injected_into_again() {
    let test = "a_container_that_restarts_is_lost_and_not_injected_into_again";
    with_cluster(test, |cluster, desk| {
        let (ended, report) = run(desk, &lossy(""), || {
            restarted(cluster)?;
            cluster.hear(["b c", "a c", "a b"])
        })?;
        ensure!(report.injections().len() == 1, "{}", report.told());
        ensure!(report.all_gone(), "{}", report.told());
        ensure!(tells(&report, "lost in mid-fault"), "{}", ended.told());
        desk.is_clean()
    });
}

#[test]
fn a_container_that_is_removed_in_mid_fault_is_lost_and_nothing_is_stuck() {
    let test = "a_container_that_is_removed_in_mid_fault_is_lost_and_nothing_is_stuck";
    with_cluster(test, |cluster, desk| {
        let (ended, report) = run(desk, &lossy(", follow-restarts: true"), || {
            cluster.hear(["b c", "c", "a b"])?;
            cluster.docker(&["rm", "--force", "node-b"]).map(drop)
        })?;
        ensure!(
            report.injections().len() == 1 && report.all_gone(),
            "{}",
            report.told()
        );
        ensure!(
            tells(&report, "was not back before"),
            "{} {:#}",
            ended.told(),
            report.0
        );
        cluster.docker(&[
            "run",
            "--detach",
            "--name",
            "node-b",
            "--network",
            "toy",
            "node:1",
            "b",
        ])?;
        desk.is_clean()
    });
}

#[test]
fn a_container_that_restarts_is_followed_by_a_new_injection_where_that_is_asked_for() {
    let test = "a_container_that_restarts_is_followed_by_a_new_injection_where_that_is_asked_for";
    with_cluster(test, |cluster, desk| {
        let (ended, report) = run(desk, &lossy(", follow-restarts: true"), || {
            cluster.hear(["b c", "c", "a b"])?;
            let first = cluster.tables()?;
            ensure!(first.len() == 1, "{first:?}");
            cluster.docker(&["restart", "--time", "0", "node-b"])?;
            // The second may be there before the first was seen to be gone.
            until(LIMIT, || {
                Ok(cluster.tables()?.iter().any(|one| !first.contains(one)))
            })?;
            cluster.hear(["b c", "c", "a b"])
        })?;
        ended.expect(0)?;
        let ids = texts(&report, "id");
        let targets = texts(&report, "target");
        ensure!(
            ids.len() == 2 && ids[0] != ids[1] && targets[0] != targets[1],
            "{}",
            report.told()
        );
        let landed: Vec<&Value> = report.injections().iter().map(|it| &it["landed"]).collect();
        ensure!(
            report.all_gone() && landed[0] == landed[1],
            "{}",
            report.told()
        );
        cluster.hear(["b c", "a c", "a b"])?;
        desk.is_clean()
    });
}

fn tells(report: &Report, words: &str) -> bool {
    report.0.to_string().contains(words)
}
