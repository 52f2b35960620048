//! What the tests of the undo side share: a run folder with a journal, and processes to act on.

use squall_faults::fault::{Fault, FaultKind, Target};
use squall_faults::host::{Host, NoChildren};
use squall_faults::journal::record::{About, Writer};
use squall_faults::journal::state::Phase;
use squall_faults::journal::{self, Journal};
use squall_faults::lease::{Lease, LeaseFile};
use squall_faults::sys::process;
use squall_model::event::Place;
use squall_model::id::{InjectionId, RuleId, RunId};
use squall_model::process::ProcessIdentity;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Polls until `reached`, and fails with `what` after ten seconds.
pub fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !reached() {
        assert!(Instant::now() < deadline, "waited 10 s for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A mark of this test alone.
pub fn mark(name: &str) -> String {
    format!("test-{name}-{}", std::process::id())
}

pub fn target(identity: &ProcessIdentity) -> Target {
    Target::Process {
        identity: identity.clone(),
        rank: None,
        command: String::new(),
    }
}

/// A state folder with one run and its journal; removed at the end.
pub struct Fixture {
    pub state: PathBuf,
    pub run: RunId,
    pub journal: Arc<Mutex<Journal>>,
    pub cancelled: Arc<AtomicBool>,
    keep: bool,
}

impl Fixture {
    pub fn new(name: &str) -> Fixture {
        let state = std::env::temp_dir().join(format!("squall-test-{name}-{}", std::process::id()));
        Fixture::at(state)
    }

    pub fn at(state: PathBuf) -> Fixture {
        // Of this test alone: a sweep ends what carries the name of a dead run, whoever started it.
        let own = [
            state.as_os_str().as_encoded_bytes(),
            &std::process::id().to_le_bytes(),
        ];
        let number = squall_model::seed::hash64(&own) >> 16;
        let run = RunId(format!("01890000-0000-7000-8000-{number:012x}"));
        let folder = state.join("runs").join(&run.0);
        std::fs::create_dir_all(&folder).unwrap();
        let journal = Journal::create(&folder, &run, Writer::Agent).unwrap();
        Fixture {
            state,
            run,
            journal: Arc::new(Mutex::new(journal)),
            cancelled: Arc::default(),
            keep: false,
        }
    }

    pub fn run_dir(&self) -> PathBuf {
        self.state.join("runs").join(&self.run.0)
    }

    pub fn id(&self, number: u32) -> InjectionId {
        InjectionId::derive(&self.run, RuleId(0), number)
    }

    pub fn phase(&self, number: u32) -> Phase {
        self.journal
            .lock()
            .unwrap()
            .state()
            .get(&self.id(number))
            .unwrap()
            .phase
    }

    pub fn host<F: FaultKind>(&self, number: u32) -> Host {
        let about = About {
            rule: Some(RuleId(0)),
            kind: F::INFO.kind.into(),
            class: F::INFO.class,
            target: "the test's target".into(),
            process: None,
            aim: Place::default(),
            mechanism: String::new(),
        };
        let (journal, cancelled) = (self.journal.clone(), self.cancelled.clone());
        Host::new(
            journal,
            self.id(number),
            about,
            7,
            cancelled,
            Arc::new(NoChildren),
        )
    }
}

impl Fixture {
    /// Records a pause of a process without making it.
    pub fn record_pause(&self, number: u32, process: &ProcessIdentity) {
        use squall_faults::fault::Door;
        let undo = squall_faults::undo::Undo::Continue {
            process: process.clone(),
        };
        let mut host = self.host::<squall_faults::process_pause::ProcessPause>(number);
        host.change(undo, "SIGSTOP", &mut || Ok(())).unwrap();
    }

    /// Ends as by kill -9: the lock is free, everything else stays.
    pub fn abandon(mut self) {
        assert_eq!(Arc::strong_count(&self.journal), 1, "a door is still open");
        self.keep = true;
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if !self.keep {
            let removed = std::fs::remove_dir_all(&self.state);
            // A test that fails may leave something mounted in it; what it says must be heard.
            assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
        }
    }
}

/// A child of this test; killed with all below it at the end.
pub struct Sleeper {
    pub child: Child,
    pub identity: ProcessIdentity,
}

impl Sleeper {
    pub fn start() -> Sleeper {
        Sleeper::command(&["sleep", "60"])
    }

    pub fn command(words: &[&str]) -> Sleeper {
        Sleeper::spawn(Command::new(words[0]).args(&words[1..]))
    }

    pub fn marked(words: &[&str], mark: &str) -> Sleeper {
        Sleeper::spawn(
            Command::new(words[0])
                .args(&words[1..])
                .env("SQUALL_WORKLOAD", mark),
        )
    }

    pub fn spawn(command: &mut Command) -> Sleeper {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let identity = process::identity(child.id()).unwrap().unwrap();
        Sleeper { child, identity }
    }

    /// Waits for the first line of its output.
    pub fn ready(&self) {
        let output = self.child.stdout.as_ref().unwrap();
        let copy = std::os::fd::AsFd::as_fd(output)
            .try_clone_to_owned()
            .unwrap();
        let mut line = String::new();
        BufReader::new(std::fs::File::from(copy))
            .read_line(&mut line)
            .unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn target(&self) -> Target {
        target(&self.identity)
    }

    pub fn state(&self) -> char {
        process::stat(self.pid()).unwrap().unwrap().state
    }

    pub fn below(&self) -> Vec<u32> {
        process::descendants(&process::table().unwrap(), &[self.pid()])
    }

    pub fn stop(&self) {
        let status = Command::new("kill")
            .args(["-STOP", &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        wait_for("the stop", || self.state() == 'T');
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        for pid in self.below() {
            if let Some(process) = process::identity(pid).unwrap() {
                let undo = squall_faults::undo::Undo::EndProcess {
                    process,
                    grace_ms: 0,
                    what: "a test's".into(),
                };
                squall_faults::undo::revert(&undo).unwrap();
            }
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A run whose agent has died with one process paused.
pub struct Abandoned {
    pub state: PathBuf,
    pub run_dir: PathBuf,
    pub sleeper: Sleeper,
}

impl Abandoned {
    pub fn new(name: &str) -> Abandoned {
        let fixture = Fixture::new(name);
        let sleeper = Sleeper::start();
        let mut host = fixture.host::<squall_faults::process_pause::ProcessPause>(0);
        squall_faults::process_pause::ProcessPause::default()
            .inject(&sleeper.target(), &mut host)
            .unwrap();
        drop(host);
        let (state, run_dir) = (fixture.state.clone(), fixture.run_dir());
        fixture.abandon();
        Abandoned {
            state,
            run_dir,
            sleeper,
        }
    }

    /// Another process that holds the lock, as a stopped agent does.
    pub fn hold(&self) -> Sleeper {
        let script = "exec 9<>journal; flock -w 5 9 || exit 1; echo ready; exec sleep 60";
        let holder = Sleeper::spawn(
            std::process::Command::new("sh")
                .args(["-c", script])
                .current_dir(&self.run_dir),
        );
        holder.ready();
        assert!(journal::is_held(&self.run_dir).unwrap());
        holder.stop();
        holder
    }

    /// Writes a lease that ran out `over` ago, or runs on when that is negative.
    pub fn lease(&self, holder: &ProcessIdentity, over: f64) {
        let run = squall_faults::recover::run_of(&self.run_dir);
        let mut lease = Lease::starting_now(run, Duration::ZERO).unwrap();
        lease.deadline_boot_ns = (lease.deadline_boot_ns as f64 - over * 1e9) as u64;
        lease.agent = Some(holder.clone());
        LeaseFile::create(&self.run_dir, &lease).unwrap();
    }

    pub fn is_paused(&self) -> bool {
        self.sleeper.state() == 'T'
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.state).unwrap();
    }
}
