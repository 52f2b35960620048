//! The trainer's side of the hook protocol.

use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::agent::{Action, Agent, Told};
use crate::job::{Job, undisturbed};

#[test]
fn a_missing_or_dead_socket_has_no_effect() {
    let clean = undisturbed(&[]);
    let nowhere = Job::new(&[])
        .env("SQUALL_HOOK_SOCKET", "/nonexistent/socket")
        .env("SQUALL_RUN", "r1");
    assert_eq!(nowhere.run().parameters(), clean);
    let agent = Agent::new(&[]);
    let without_run = Job::new(&[]).env("SQUALL_HOOK_SOCKET", &agent.path);
    assert_eq!(without_run.run().parameters(), clean);
    assert!(
        agent.told().is_empty(),
        "without SQUALL_RUN nothing is said"
    );
}

#[test]
fn an_agent_that_closes_lets_the_held_process_go_on_at_once() {
    let agent = Agent::striking(1, "forward", 10, Action::Close);
    let started = Instant::now();
    let ended = Job::new(&[]).with(&agent).run();
    // Less than the 5 s of an unanswered hold.
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(agent.holds().len(), 1);
    assert!(!ended.log.contains("restarting"), "{}", ended.log);
    assert_eq!(ended.parameters(), undisturbed(&[]));
}

#[test]
fn an_unanswered_hold_expires_after_5_s() {
    let agent = Agent::striking(1, "forward", 10, Action::Ignore);
    let started = Instant::now();
    let ended = Job::new(&[]).with(&agent).run();
    assert!(
        started.elapsed() >= Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let expired = agent.events("hold-expired");
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].message["event"]["id"], "h0");
    let (hold, expiry) = (
        position(&agent.told(), "hold"),
        position(&agent.told(), "hold-expired"),
    );
    let passed = time(&agent.told()[expiry]) - time(&agent.told()[hold - 1]);
    assert!(
        (5_000_000_000..6_000_000_000).contains(&passed),
        "held for {passed} ns"
    );
    assert_eq!(ended.parameters(), undisturbed(&[]));
}

#[test]
fn a_release_lets_the_process_go_on() {
    let agent = Agent::striking(0, "step-end", 5, Action::Release);
    assert_eq!(
        Job::new(&[]).with(&agent).run().parameters(),
        undisturbed(&[])
    );
    let hold = &agent.holds()[0].message;
    assert_eq!(
        *hold,
        json!({"hold": {"id": "h0", "step": 5, "epoch": 1, "phase": "step-end"}})
    );
    assert!(agent.events("hold-expired").is_empty());
}

/// Index of the first message that is a hold, or an event of `kind`, of rank 1.
fn position(told: &[Told], kind: &str) -> usize {
    let is_kind = |told: &Told| {
        told.hello["rank"] == 1
            && (told.message.get(kind).is_some() || told.message["event"]["kind"] == kind)
    };
    told.iter().position(is_kind).unwrap()
}

fn time(told: &Told) -> u64 {
    told.message["event"]["t_mono_ns"].as_u64().unwrap()
}

#[test]
fn the_announced_digest_is_that_of_the_final_file() {
    let agent = Agent::new(&[]);
    let ended = Job::new(&[]).with(&agent).run();
    let announced = agent.events("final-parameters");
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].message["event"]["step"], 48);
    let bytes = ended.parameters();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    let mut hash = Sha256::new();
    for name in names {
        let tensor = file.tensor(name).unwrap();
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(3u64.to_le_bytes());
        hash.update("F32");
        hash.update((tensor.shape().len() as u64).to_le_bytes());
        tensor
            .shape()
            .iter()
            .for_each(|n| hash.update((*n as u64).to_le_bytes()));
        hash.update(tensor.data());
    }
    let wanted: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(announced[0].message["event"]["digest"], wanted);
}

#[test]
fn ranks_tell_every_step_every_sample_and_every_checkpoint() {
    let agent = Agent::new(&[]);
    Job::new(&[]).with(&agent).run().parameters();
    assert_eq!(agent.events("step-end").len(), 2 * 48);
    assert_eq!(agent.events("epoch-end").len(), 2 * 6);
    for kind in [
        "checkpoint-begin",
        "checkpoint-written",
        "checkpoint-renamed",
    ] {
        assert_eq!(agent.events(kind).len(), 6, "{kind}");
    }
    let loaded = agent.events("checkpoint-loaded");
    assert!(loaded.len() == 2 && loaded.iter().all(|told| told.message["event"]["step"] == 0));
    for epoch in 1..=6 {
        let events = agent
            .events("sample-ids")
            .into_iter()
            .map(|told| told.message["event"].clone());
        let of_epoch = events.filter(|event| event["epoch"] == epoch);
        let ids = |event: Value| {
            event["ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap())
                .collect()
        };
        let mut seen: Vec<u64> = of_epoch
            .flat_map(|event| -> Vec<u64> { ids(event) })
            .collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            (0..128).collect::<Vec<_>>(),
            "each sample once in epoch {epoch}"
        );
    }
    for told in agent.told() {
        assert!(
            told.message["event"].get("dropped").is_none(),
            "nothing is dropped: {told:?}"
        );
    }
}

#[test]
fn phases_come_in_their_order() {
    let agent = Agent::new(&[]);
    Job::new(&["--epochs", "1", "--steps-per-epoch", "1"])
        .with(&agent)
        .run()
        .parameters();
    let begun: Vec<String> = agent
        .events("phase-begin")
        .iter()
        .filter(|told| told.hello["rank"] == 0)
        .map(|told| told.message["event"]["phase"].as_str().unwrap().to_owned())
        .collect();
    let wanted = "data-wait forward backward all-reduce optimizer-step step-end epoch-end evaluation \
                  checkpoint-begin checkpoint-written checkpoint-renamed exit";
    assert_eq!(begun.join(" "), wanted);
}

#[test]
fn the_supervisor_tells_how_it_recovers() {
    let agent = Agent::striking(1, "forward", 10, Action::Kill);
    Job::new(&[]).with(&agent).run().parameters();
    let stages: Vec<Value> = agent
        .events("recovery")
        .iter()
        .map(|told| told.message["event"]["stage"].clone())
        .collect();
    assert_eq!(stages, ["detected", "torn-down", "started"]);
    let first = &agent.events("recovery")[0];
    assert_eq!(first.hello["role"], "supervisor");
    assert_eq!(first.hello["rank"], Value::Null);
    assert_eq!(first.message["event"]["because"], "rank 1 died (signal 9)");
    let resumed: Vec<Value> = agent
        .events("checkpoint-loaded")
        .iter()
        .map(|told| told.message["event"]["step"].clone())
        .collect();
    assert_eq!(resumed, [0, 0, 8, 8]);
}

#[test]
fn the_phase_log_ends_where_the_kill_landed() {
    let agent = Agent::striking(1, "backward", 10, Action::Kill);
    let job = Job::new(&[]);
    let log = job.directory.join("phases");
    let ended = Job::again(job.directory, &["--phase-log", log.to_str().unwrap()])
        .with(&agent)
        .run();
    let text = std::fs::read_to_string(&log).unwrap();
    let last = text.lines().rfind(|line| line.starts_with("1 0 ")).unwrap();
    assert!(last.starts_with("1 0 2 10 backward begin "), "{last}");
    assert_eq!(last.split(' ').count(), 7);
    assert_eq!(ended.parameters(), undisturbed(&[]));
}
