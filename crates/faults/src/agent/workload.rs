//! The owned workload: a journal entry like any lasting change. Its undo ends the whole tree, whoever of it has run away.

use super::core::Agent;
use super::hook::{Hooks, place};
use super::output::{LogEvent, Output};
use super::procs::Known;
use super::shared::FromJob;
use super::starting::{HOOK_BOOT, Starting, unpack};
use super::targets::MARK;
use crate::fault::Injectable;
use crate::protocol::WorkloadSpec;
use crate::undo::mark;
use crate::undo::perform::{Outcome, undo_injection};
use squall_model::event::Body;
use squall_model::id::{InjectionId, RuleId};
use squall_model::process::ProcessIdentity;
use std::io;
use std::sync::PoisonError;
use std::time::Duration;

/// How long the exit status may follow the end of the tree.
const STATUS: Duration = Duration::from_secs(1);

/// The running (or ending) workload.
#[derive(Debug)]
pub(super) struct Workload {
    injection: InjectionId,
    spec: WorkloadSpec,
    output: Option<Output>,
    output_ended: bool,
    process: Option<ProcessIdentity>,
    /// Exit status and signal of its first process.
    status: Option<(Option<i32>, Option<i32>)>,
    ending: bool,
    /// It still ran when its end was begun.
    by_squall: bool,
    evidence: Option<(String, std::time::Instant)>,
}

impl Workload {
    pub(super) fn reference(&self) -> bool {
        self.spec.reference
    }

    pub(super) fn output(&self) -> Option<&Output> {
        self.output.as_ref().filter(|_| !self.output_ended)
    }

    pub(super) fn lost_lines(&mut self) -> u64 {
        self.output
            .as_mut()
            .map_or(0, |output| std::mem::take(&mut output.lost_lines))
    }

    pub(super) fn read(&mut self, now_ns: u64) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(output) = self.output.as_mut().filter(|_| !self.output_ended)
            && !output.read(now_ns, &mut lines).unwrap_or(false)
        {
            self.output_ended = true;
        }
        lines
    }

    pub(super) fn events(&self, line: &str) -> Vec<LogEvent> {
        self.output
            .as_ref()
            .map(|output| output.events(line))
            .unwrap_or_default()
    }
}

impl<L: Injectable> Agent<L> {
    pub(super) fn start_workload(&mut self, spec: WorkloadSpec) {
        if self.ending.is_some() {
            return self.refuse("start-workload", "the run is ending", "");
        }
        if self.workload.is_some() {
            return self.refuse(
                "start-workload",
                "the last workload has not ended yet",
                "end it first",
            );
        }
        if let Err(error) = self.try_start(spec) {
            self.refuse("start-workload", &error.to_string(), "");
        }
    }

    fn try_start(&mut self, spec: WorkloadSpec) -> io::Result<()> {
        if spec.hook && self.hooks.is_none() {
            self.hooks = Some(Hooks::listen(&place::make(&self.options.run.0)?)?);
            unpack(&self.options.run_dir.join("hook"), self.hook_files)?;
        }
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // Room for a burst, so that the workload never waits for us. A smaller pipe works too.
        rustix::pipe::fcntl_setpipe_size(&write, 1 << 20).unwrap_or_default();
        let output = Output::new(read, &spec.log, &spec.patterns)?;
        let mark = mark::of_workload(&self.options.run, spec.reference);
        // A rule that no file can have, so that no injection has the same id.
        let injection = InjectionId::derive(&self.options.run, RuleId(u32::MAX), self.starts);
        self.starts += 1;
        let start = Starting {
            env: self.environment(&spec, &mark),
            injection: injection.clone(),
            mark: mark.clone(),
            spec: spec.clone(),
            write,
        };
        {
            let mut scope = self
                .shared
                .scope
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            scope.mark = Some(mark);
            scope.root = None;
        }
        *self
            .shared
            .positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = super::shared::Positions::default();
        (self.rules.high_step, self.rules.high_epoch) = (0, 0);
        self.expect(spec.first.clone());
        self.workload = Some(Workload {
            injection,
            spec,
            output: Some(output),
            output_ended: false,
            process: None,
            status: None,
            ending: false,
            by_squall: false,
            evidence: None,
        });
        let (shared, calls) = (self.shared.clone(), self.calls.clone());
        std::thread::Builder::new().spawn(move || {
            let started = start
                .run(&shared, &calls)
                .map_err(|error| error.to_string());
            shared.tell(FromJob::Started { started });
        })?;
        self.jobs += 1;
        Ok(())
    }

    fn environment(&self, spec: &WorkloadSpec, mark: &str) -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = spec.env.clone().into_iter().collect();
        let mut set = |name: &str, value: String| env.push((name.to_owned(), value));
        set("SQUALL_RUN", self.options.run.0.clone());
        set(MARK, mark.to_owned());
        set("SQUALL_OUT", spec.out.display().to_string());
        set("PYTHONUNBUFFERED", "1".into());
        // A title longer than the command line would be written over the environment, which others read of the process.
        set("SPT_NOENV", "1".into());
        if let Some(hooks) = self.hooks.as_ref().filter(|_| spec.hook) {
            set("SQUALL_HOOK_SOCKET", hooks.path().display().to_string());
            let hook_folder = self.options.run_dir.join("hook");
            set("SQUALL_HOOK_STATE", hook_folder.display().to_string());
            let inherited = spec
                .env
                .get("PYTHONPATH")
                .cloned()
                .or_else(|| std::env::var("PYTHONPATH").ok());
            let first = self.options.run_dir.join(HOOK_BOOT).display().to_string();
            let path = inherited
                .filter(|path| !path.is_empty())
                .map_or(first.clone(), |rest| format!("{first}:{rest}"));
            set("PYTHONPATH", path);
        }
        env
    }

    pub(super) fn workload_started(&mut self, started: Result<ProcessIdentity, String>) {
        let Some(workload) = &mut self.workload else {
            return;
        };
        match started {
            Ok(process) => {
                self.shared
                    .scope
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .root = Some(Known {
                    pid: process.pid,
                    start_time: process.start_time,
                });
                workload.process = Some(process.clone());
                let body = Body::WorkloadStarted {
                    reference: workload.spec.reference,
                    command: workload.spec.argv.join(" "),
                    process: Some(process.clone()),
                    out: workload.spec.out.display().to_string(),
                };
                let early = self
                    .early_ends
                    .iter()
                    .position(|(pid, ..)| *pid == process.pid);
                self.event(body);
                if let Some(at) = early {
                    let (pid, exit, signal) = self.early_ends.remove(at);
                    self.child_ended(pid, exit, signal);
                }
            }
            Err(because) => {
                self.workload = None;
                self.refuse(
                    "start-workload",
                    &because,
                    "check the command, its path and its folder",
                );
            }
        }
    }

    /// A child of the guard has ended: the workload's first process, a served child, or one that has not been announced yet.
    pub(super) fn child_ended(&mut self, pid: u32, exit: Option<i32>, signal: Option<i32>) {
        let Some(workload) = &mut self.workload else {
            return;
        };
        match &workload.process {
            None => {
                self.early_ends.truncate(64);
                self.early_ends.push((pid, exit, signal));
            }
            Some(process) if process.pid == pid => {
                workload.by_squall = workload.ending || self.ending.is_some();
                workload.status = Some((exit, signal));
                self.end_workload("its first process ended");
            }
            Some(_) => {}
        }
    }

    /// Ends the whole tree on a thread of its own.
    pub(super) fn end_workload(&mut self, because: &str) {
        let Some(workload) = self.workload.as_mut().filter(|workload| !workload.ending) else {
            return;
        };
        if self.ending.is_some() {
            return;
        }
        let (shared, id, because) = (
            self.shared.clone(),
            workload.injection.clone(),
            because.to_owned(),
        );
        let started = std::thread::Builder::new().spawn(move || {
            let evidence = evidence(undo_injection(&shared.journal, &id, &because));
            shared.tell(FromJob::WorkloadEnded {
                evidence,
                job: true,
            });
        });
        workload.ending = started.is_ok();
        self.undos += usize::from(started.is_ok());
    }

    pub(super) fn workload_undone(&mut self, evidence: String) {
        if let Some(workload) = &mut self.workload {
            workload.evidence = Some((evidence, std::time::Instant::now()));
        }
    }

    /// Reports the end of the workload when all of it is known: its tree, its status, its last line.
    pub(super) fn settle_workload(&mut self) {
        let Some(workload) = &self.workload else {
            return;
        };
        let Some((evidence, since)) = workload.evidence.clone() else {
            return;
        };
        let complete = workload.status.is_some() && workload.output_ended;
        if !complete && self.guard_alive && since.elapsed() < STATUS {
            return;
        }
        self.hear_workload();
        let Some(workload) = self.workload.take() else {
            return;
        };
        let (exit, signal) = workload.status.unwrap_or_default();
        let by_squall = workload.by_squall || workload.status.is_none();
        let mut scope = self
            .shared
            .scope
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (scope.mark, scope.root) = (None, None);
        drop(scope);
        self.event(Body::WorkloadEnded {
            reference: workload.spec.reference,
            exit,
            signal,
            evidence,
            by_squall,
        });
        self.workload_over();
    }

    /// Nothing of a workload is left to be reported.
    pub(super) fn workload_settled(&mut self, waited: Duration) -> bool {
        self.workload.is_none() || waited > 2 * STATUS
    }
}

/// How it is known that nothing of the workload is left, or what is.
pub(super) fn evidence(outcome: Option<Outcome>) -> String {
    let Some(outcome) = outcome else {
        return "it had not been started".into();
    };
    if let Some(stuck) = outcome.stuck {
        return format!("not all of it ended: {}; {}", stuck.because, stuck.remedy);
    }
    let words: Vec<String> = outcome
        .observations
        .into_iter()
        .map(|one| one.evidence)
        .collect();
    words.join("; ")
}
