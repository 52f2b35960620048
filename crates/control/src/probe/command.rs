//! A command ends as it should. It runs in a process group of its own and carries a mark, so that at the end nothing of it is left:
//! not what it sent to the background, not what left its group.

use super::{Context, Probed, seconds};
use regex::Regex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use squall_faults::recover::sweep::PROBE as MARK;
use squall_model::experiment::CommandProbe;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(10);
const OUTPUT_MAX: usize = 64 << 10;
const TURN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

pub(super) fn measure(probe: &CommandProbe, context: &Context) -> Probed {
    let within = probe.within.map_or(WITHIN, |span| span.0);
    let started = Instant::now();
    let mut running = match Running::start(&probe.run, context) {
        Ok(running) => running,
        Err(because) => return Probed::failed(format!("could not start: {because}")),
    };
    let ended = running.wait(started + within, context);
    let status = running.end();
    let took = started.elapsed();
    let Some(status) = ended.and(status) else {
        return Probed::failed(format!(
            "ended by Squall: not done within {}",
            seconds(within)
        ));
    };
    let wanted = probe.exit.unwrap_or(0);
    let code = status.code();
    let mut text = match code {
        Some(code) => format!("exit {code} after {}", seconds(took)),
        None => format!("{status} after {}", seconds(took)),
    };
    let right = code == Some(wanted);
    if !right {
        text = format!("{text} ({wanted} expected)");
    }
    let said = match probe.output.as_deref().map(Regex::new) {
        None => true,
        Some(Ok(pattern)) => pattern.is_match(&String::from_utf8_lossy(&running.output)),
        Some(Err(_)) => false,
    };
    if !said {
        text.push_str(", without the expected output");
    }
    Probed::new(right && said, text, Some(took.as_secs_f64()))
}

struct Running {
    child: Child,
    pipes: Vec<OwnedFd>,
    output: Vec<u8>,
    mark: String,
}

impl Running {
    fn start(line: &str, context: &Context) -> Result<Running, String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let out = context.out.to_string_lossy();
        let words = shell_words::split(line).map_err(|error| error.to_string())?;
        let mut words = words.into_iter().map(|word| word.replace("{out}", &out));
        let program = words.next().ok_or("the command line is empty")?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{}-{count}", context.board.run, std::process::id());
        let mut child = Command::new(program)
            .args(words)
            .current_dir(&context.board.directory)
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| error.to_string())?;
        let out = child.stdout.take().map(OwnedFd::from);
        let err = child.stderr.take().map(OwnedFd::from);
        let pipes: Vec<OwnedFd> = out.into_iter().chain(err).collect();
        Ok(Running {
            child,
            pipes,
            output: Vec::new(),
            mark,
        })
    }

    /// Reads along until the command ends; `None` at the deadline or when the run is over.
    fn wait(&mut self, deadline: Instant, context: &Context) -> Option<()> {
        loop {
            self.read_along();
            if self.has_ended() {
                self.read_along();
                return Some(());
            }
            if Instant::now() >= deadline || context.is_cancelled() {
                return None;
            }
        }
    }

    /// Whether it has ended. It is not collected yet, so that its group's number belongs to nobody else until the group is ended.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok_and(|ended| ended.is_some()))
    }

    /// Takes what the pipes hold now, or waits one turn for it. Beyond the bound it is read and thrown away, so that nobody blocks.
    fn read_along(&mut self) {
        if self.pipes.is_empty() {
            std::thread::park_timeout(Duration::from_millis(20));
            return;
        }
        let mut polled: Vec<PollFd<'_>> = self
            .pipes
            .iter()
            .map(|pipe| PollFd::new(pipe, PollFlags::IN))
            .collect();
        if poll(&mut polled, Some(&TURN)).is_err() {
            return;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut buffer = [0u8; 8192];
        let mut still = Vec::with_capacity(2);
        for (pipe, ready) in std::mem::take(&mut self.pipes).into_iter().zip(ready) {
            let len = match ready {
                true => rustix::io::read(pipe.as_fd(), &mut buffer).unwrap_or(0),
                false => usize::MAX,
            };
            if len == 0 {
                continue;
            }
            if ready {
                let room = OUTPUT_MAX.saturating_sub(self.output.len());
                self.output.extend_from_slice(&buffer[..len.min(room)]);
            }
            still.push(pipe);
        }
        self.pipes = still;
    }

    /// Leaves nothing: the group, then whatever carries the mark, until a look finds none. How the command itself ended.
    fn end(&mut self) -> Option<ExitStatus> {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Gone already is what is wanted.
            kill_process_group(group, Signal::KILL).ok();
        }
        let status = self.child.wait().ok();
        for _ in 0..10 {
            if kill_marked(&self.mark) == 0 {
                break;
            }
        }
        status
    }
}

/// Kills every process whose environment carries the mark, by pidfd so that a reused pid is never hit. Returns how many there were.
fn kill_marked(mark: &str) -> usize {
    let wanted = format!("{MARK}={mark}");
    let carries = |pid: i32| {
        let mut environ = Vec::new();
        std::fs::File::open(format!("/proc/{pid}/environ"))
            .and_then(|mut file| file.read_to_end(&mut environ))
            .is_ok_and(|_| {
                environ
                    .split(|byte| *byte == 0)
                    .any(|entry| entry == wanted.as_bytes())
            })
    };
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut count = 0;
    for pid in pids.filter(|pid| carries(*pid)) {
        let Some(handle) =
            Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            continue;
        };
        if carries(pid) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::Running;
    use crate::board::Board;
    use crate::clock::RunClock;
    use crate::probe::Context;
    use crate::testing::Scratch;
    use squall_model::id::RunId;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[test]
    fn the_number_of_its_group_is_kept_until_the_group_is_ended() {
        let scratch = Scratch::new("group");
        let board = Board::new(RunId("r".into()), RunClock::start(), scratch.path().into());
        let context = Context {
            board: Arc::new(board),
            out: scratch.path().into(),
            log: scratch.path().join("log"),
            cancel: Arc::default(),
        };
        let mut running = Running::start("sh -c 'exit 3'", &context).expect("started");
        let deadline = Instant::now() + Duration::from_secs(20);
        assert!(running.wait(deadline, &context).is_some());
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", running.child.id()));
        assert!(stat().expect("still there").contains(") Z "));
        let status = running.end().expect("collected");
        assert_eq!(status.code(), Some(3));
    }
}
