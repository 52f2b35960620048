//! `cargo xtask torch --network`: real PyTorch on two nodes, each in a network namespace of its own, under a slow, a lossy and a cut network.

use crate::command::succeeds;
use crate::torch::Bench;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::process::Command;

const EXPERIMENT: &str = "examples/pytorch/network.yaml";
const NAME: &str = "squall-node";

/// The two namespaces, with a wire between them; gone when dropped.
struct Nodes;

impl Nodes {
    fn make() -> Result<Nodes> {
        let nodes = Nodes;
        for number in [1, 2] {
            ip(&format!("netns add {NAME}-{number}"))?;
            ip(&format!("-n {NAME}-{number} link set lo up"))?;
        }
        ip(&format!(
            "-n {NAME}-1 link add eth0 type veth peer name eth0 netns {NAME}-2"
        ))?;
        for number in [1, 2] {
            ip(&format!(
                "-n {NAME}-{number} addr add 10.233.78.{number}/24 dev eth0"
            ))?;
            ip(&format!("-n {NAME}-{number} link set eth0 up"))?;
        }
        Ok(nodes)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for number in [1, 2] {
            if let Err(error) = ip(&format!("netns del {NAME}-{number}")) {
                eprintln!("warning: {error:#}");
            }
        }
    }
}

fn ip(words: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    ensure!(succeeds(&mut command)?, "could not run `ip {words}`");
    Ok(())
}

pub(crate) fn run(bench: &Bench) -> Result<bool> {
    let _nodes = Nodes::make()?;
    let ran = bench.experiment(EXPERIMENT)?;
    let text = fs::read_to_string(ran.folder.join("report.json"))
        .context("the run left no report.json")?;
    let report: Value = serde_json::from_str(&text)?;
    let injections = report["injections"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let gone = injections.iter().filter(|it| it["gone"] == "gone").count();
    let log = fs::read_to_string(ran.folder.join("logs/workload.log")).unwrap_or_default();
    let gave_up = log
        .lines()
        .find(|line| line.to_lowercase().contains("timed out"));
    println!("gloo: {}", gave_up.unwrap_or("it did not give up"));
    let right = [
        ("the run held", ran.code == Some(0)),
        (
            "three injections, all gone",
            (injections.len(), gone) == (3, 3),
        ),
        ("gloo gave up in the cut", gave_up.is_some()),
    ];
    for (what, is_so) in right {
        println!("{} {what}", if is_so { "✓" } else { "✗" });
    }
    Ok(right.iter().all(|(_, is_so)| *is_so))
}
