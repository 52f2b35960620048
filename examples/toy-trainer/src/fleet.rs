//! The rank processes of one start of the job: begun together, watched, torn down together.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::console::say;
use crate::failure::{Context, PREEMPTED, Result, USAGE};
use crate::options::Options;
use crate::signal;

/// How often the processes are looked at.
const TICK: Duration = Duration::from_millis(5);
/// Time between SIGTERM and SIGKILL when ranks are torn down.
const GRACE: Duration = Duration::from_secs(1);

/// How one start of the job ended.
pub(crate) enum Outcome {
    Finished,
    /// All ranks left at a step boundary because one was told to.
    Preempted(String),
    /// A rank was lost; says which and how.
    Failed(String),
}

/// The ranks of one start. Dropping it ends and reaps them all.
pub(crate) struct Fleet<'a> {
    options: &'a Options,
    restart: u32,
    listener: &'a TcpListener,
    ranks: Vec<Child>,
    ended: Vec<Option<ExitStatus>>,
    ports: Vec<Option<u16>>,
    joined: bool,
}

impl<'a> Fleet<'a> {
    /// Starts every rank of attempt `restart`; they register their ports on `listener`.
    pub(crate) fn start(
        options: &'a Options,
        restart: u32,
        listener: &'a TcpListener,
    ) -> Result<Self> {
        let world = options.world;
        let (ended, ports) = (vec![None; world], vec![None; world]);
        let mut fleet = Self {
            options,
            restart,
            listener,
            ranks: Vec::new(),
            ended,
            ports,
            joined: false,
        };
        let program = std::env::current_exe().context("finding this program")?;
        let port = listener
            .local_addr()
            .context("finding the supervisor's port")?
            .port();
        for rank in 0..world {
            let child = Command::new(&program)
                .arg("rank")
                .args(std::env::args_os().skip(1))
                .env("RANK", rank.to_string())
                .env("LOCAL_RANK", rank.to_string())
                .env("WORLD_SIZE", world.to_string())
                .env("RESTART", restart.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", port.to_string())
                .stdin(Stdio::piped())
                .spawn();
            fleet.ranks.push(child.context("starting a rank")?);
        }
        Ok(fleet)
    }

    /// Waits for the end of this start. SIGTERM to this process is passed on to the ranks once.
    pub(crate) fn watch(&mut self) -> Outcome {
        let join_deadline = Instant::now() + 3 * self.options.peer_timeout;
        let mut passed_on = None;
        loop {
            if signal::termination_requested() && passed_on.is_none() {
                self.signal_all(Signal::TERM);
                passed_on = Some(Instant::now());
            }
            self.introduce();
            if self.look() {
                // A rank that lost its peer may be seen before the peer itself: look once more.
                std::thread::sleep(TICK);
                self.look();
                return self.judge();
            }
            if self.ended.iter().all(Option::is_some) {
                return Outcome::Finished;
            }
            if !self.joined && Instant::now() > join_deadline {
                return Outcome::Failed("the ranks did not all join in time".into());
            }
            if passed_on
                .is_some_and(|since: Instant| since.elapsed() > 2 * self.options.peer_timeout)
            {
                return Outcome::Failed("the ranks did not stop in time".into());
            }
            std::thread::sleep(TICK);
        }
    }

    /// Takes note of ranks that have ended; true when one of them did not finish its work.
    fn look(&mut self) -> bool {
        for (rank, ended) in self.ranks.iter_mut().zip(&mut self.ended) {
            if ended.is_none() {
                *ended = rank.try_wait().ok().flatten();
            }
        }
        self.ended.iter().flatten().any(|status| !status.success())
    }

    /// Says who was lost, those killed by a signal first: the others are usually only their victims.
    fn judge(&mut self) -> Outcome {
        if self
            .ended
            .iter()
            .flatten()
            .all(|status| status.success() || is_preempted(*status))
        {
            return self.await_preempted();
        }
        let mut lost: Vec<(usize, ExitStatus)> = self
            .ended
            .iter()
            .enumerate()
            .filter_map(|(rank, status)| Some((rank, (*status)?)))
            .collect();
        lost.retain(|(_, status)| !status.success() && !is_preempted(*status));
        lost.sort_by_key(|(_, status)| status.signal().is_none());
        let lines: Vec<String> = lost
            .iter()
            .map(|(rank, status)| describe(*rank, *status))
            .collect();
        lines.iter().for_each(|line| say(format_args!("{line}")));
        Outcome::Failed(lines.into_iter().next().unwrap_or_default())
    }

    /// Lets the other ranks leave by themselves too, so that a save is not cut off.
    fn await_preempted(&mut self) -> Outcome {
        let deadline = Instant::now() + self.options.peer_timeout;
        while self.ended.iter().any(Option::is_none) && Instant::now() < deadline {
            std::thread::sleep(TICK);
            self.look();
        }
        say(format_args!("all ranks preempted"));
        Outcome::Preempted("all ranks preempted".into())
    }

    /// Collects the ports of the ranks and, when all are known, tells them to everyone.
    fn introduce(&mut self) {
        if self.joined {
            return;
        }
        while let Ok((stream, _)) = self.listener.accept() {
            let bounded = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_read_timeout(Some(GRACE)));
            let mut line = String::new();
            if bounded
                .and_then(|()| BufReader::new(stream).read_line(&mut line))
                .is_ok()
            {
                self.register(&line);
            }
        }
        let known: Vec<String> = self.ports.iter().flatten().map(u16::to_string).collect();
        if known.len() == self.options.world {
            self.joined = true;
            let line = known.join(" ") + "\n";
            for rank in &mut self.ranks {
                if let Some(pipe) = &mut rank.stdin {
                    // A rank that is already gone is noticed by its exit.
                    pipe.write_all(line.as_bytes()).ok();
                }
            }
        }
    }

    fn register(&mut self, line: &str) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [restart, rank, port] = fields[..] else {
            return;
        };
        let slot = rank
            .parse()
            .ok()
            .and_then(|rank: usize| self.ports.get_mut(rank));
        if let (true, Some(slot)) = (restart == self.restart.to_string(), slot) {
            *slot = port.parse().ok();
        }
    }

    fn signal_all(&self, signal: Signal) {
        for (rank, ended) in self.ranks.iter().zip(&self.ended) {
            // The child is not reaped yet, so its id cannot belong to anyone else.
            if let (None, Some(pid)) = (ended, Pid::from_raw(rank.id() as i32)) {
                kill_process(pid, signal).ok();
            }
        }
    }

    /// The exit code of a rank that a restart cannot help, because the command or the directory is wrong.
    pub(crate) fn usage_failure(&self) -> Option<u8> {
        let is_usage = |status: &&ExitStatus| status.code() == Some(USAGE.into());
        self.ended.iter().flatten().find(is_usage).map(|_| USAGE)
    }

    /// Ends every rank: SIGTERM, a short grace, SIGKILL. Returns when all are reaped.
    pub(crate) fn tear_down(&mut self) {
        self.look();
        self.signal_all(Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while self
            .ended
            .iter()
            .take(self.ranks.len())
            .any(Option::is_none)
            && Instant::now() < deadline
        {
            std::thread::sleep(TICK);
            self.look();
        }
        self.signal_all(Signal::KILL);
        for (rank, ended) in self.ranks.iter_mut().zip(&mut self.ended) {
            if ended.is_none() {
                *ended = rank.wait().ok();
            }
        }
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        self.tear_down();
    }
}

fn is_preempted(status: ExitStatus) -> bool {
    status.code() == Some(PREEMPTED.into())
}

fn describe(rank: usize, status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("rank {rank} died (signal {signal})"),
        (None, code) => format!("rank {rank} died (exit code {})", code.unwrap_or_default()),
    }
}
