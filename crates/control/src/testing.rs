//! Scratch folders and deadlines for this crate's tests.

use crate::clock::RunClock;
use crate::store::Opening;
use squall_analysis::run::Ask;
use squall_model::event::Body;
use squall_model::id::RunId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A fresh folder that goes with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("squall-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("scratch folder");
        Scratch(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// What a store begins with: a run of nothing in particular, seed 7.
pub(crate) fn opening(clock: RunClock) -> Opening {
    let ask = Ask {
        title: "t".into(),
        file: "t.yaml".into(),
        requirement: None,
        expect: Vec::new(),
        seed: 7,
        reference: false,
        checkpoint_interval: None,
        eligible: 1,
        at_most: 1,
    };
    let first = Body::RunStarted {
        version: 1,
        run: RunId("0198f200-0000-7000-8000-000000000000".into()),
        title: "t".into(),
        seed: 7,
        started_utc: crate::clock::utc_now(),
        boot_ns: clock.boot_ns,
        boot_id: "b".into(),
        squall: "0".into(),
        experiment: "0".into(),
        host: BTreeMap::new(),
    };
    Opening {
        first,
        meta: vec![("ask", serde_json::to_string(&ask).expect("json"))],
        clock,
    }
}

/// Asks until the answer is there or 10 s have passed.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no {what} within 10 s");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// This test binary again, running one ignored test as a child program.
pub(crate) fn as_child(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("own path"));
    command.args([
        "--ignored",
        "--exact",
        "--nocapture",
        "--test-threads=1",
        test,
    ]);
    command
}

/// A child that is killed and reaped when dropped.
pub(crate) struct Child(pub(crate) std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
