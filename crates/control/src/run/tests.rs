//! The conductor against scripted guards and agents: every way a run can end.

use super::*;
use crate::clock::boot_ns;
use crate::store::StoredRun;
use crate::testing::Scratch;
use squall_faults::guard::wire::GuardReport;
use squall_faults::kind::HostFacts;
use squall_faults::protocol::{FromAgent, Rule, ToAgent, VERSION};
use squall_faults::recover::{RecoverError, Recovered};
use squall_model::event::{Body, Event, Observation, Place, Precision, Presence, Stage};
use squall_model::exit::Exit;
use squall_model::experiment::{Check, Completes, Expect};
use squall_model::hook::TrainingEvent;
use squall_model::id::{InjectionId, RuleId, RunId};
use squall_model::syntax::Class;
use squall_model::timing::{Selector, StepKeys};
use squall_model::units::Span;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a scripted agent and guard do when they are told something.
type Play = Box<dyn FnMut(&ToAgent, &mut Stage0) + Send>;

/// Where a play puts what agent and guard say, and when.
#[derive(Default)]
struct Stage0 {
    queue: VecDeque<(Instant, Word)>,
    heard: Arc<Mutex<Heard>>,
    /// The line takes no more words.
    cut: bool,
}

#[derive(Default)]
struct Heard {
    words: Vec<ToAgent>,
    renewals: u32,
    longest_pause: Duration,
    last_renewal: Option<Instant>,
    recovered_own: u32,
}

impl Stage0 {
    fn word(&mut self, word: Word) {
        self.after(0, word);
    }

    fn after(&mut self, milliseconds: u64, word: Word) {
        self.queue
            .push_back((Instant::now() + Duration::from_millis(milliseconds), word));
    }

    fn event(&mut self, body: Body) {
        self.event_after(0, body);
    }

    fn event_after(&mut self, milliseconds: u64, body: Body) {
        let boot_ns = boot_ns() + milliseconds * 1_000_000;
        self.after(
            milliseconds,
            Word::Agent(FromAgent::Event {
                boot_ns,
                body: Box::new(body),
            }),
        );
    }

    fn step(&mut self, milliseconds: u64, reference: bool, kind: &str, step: u64, epoch: u64) {
        let event = TrainingEvent {
            kind: kind.into(),
            step: Some(step),
            epoch: Some(epoch),
            loss: Some(1.0 / step as f64),
            ..TrainingEvent::default()
        };
        let body = Body::Training {
            reference,
            rank: Some(0),
            restart: 0,
            pid: None,
            source: "hook".into(),
            event,
        };
        self.event_after(milliseconds, body);
    }
}

struct FakeLink {
    stage: Stage0,
    play: Play,
}

impl Link for FakeLink {
    fn send(&mut self, word: &ToAgent) -> Result<(), LinkError> {
        if self.stage.cut {
            return Err(LinkError {
                to: "agent",
                source: std::io::ErrorKind::BrokenPipe.into(),
            });
        }
        self.stage
            .heard
            .lock()
            .expect("heard")
            .words
            .push(word.clone());
        (self.play)(word, &mut self.stage);
        Ok(())
    }

    fn renew(&mut self) -> Result<(), LinkError> {
        let mut heard = self.stage.heard.lock().expect("heard");
        heard.renewals += 1;
        let pause = heard
            .last_renewal
            .map_or(Duration::ZERO, |last| last.elapsed());
        heard.longest_pause = heard.longest_pause.max(pause);
        heard.last_renewal = Some(Instant::now());
        Ok(())
    }

    /// What is laid into the run folder before it starts.
    type Prepare = Box<dyn FnMut(&RunId, &Path)>;

    fn receive(&mut self, wait: Duration) -> Option<Word> {
        let deadline = Instant::now() + wait;
        loop {
            let now = Instant::now();
            if let Some(at) = self.stage.queue.iter().position(|(due, _)| *due <= now) {
                return self.stage.queue.remove(at).map(|(_, word)| word);
            }
            if now >= deadline {
                return None;
            }
            std::thread::park_timeout(Duration::from_millis(1).min(deadline - now));
        }
    }
}

struct FakeHost {
    play: Option<Play>,
    heard: Arc<Mutex<Heard>>,
    /// Done to the run folder when guard and agent start.
    prepare: Prepare,
}

impl Host for FakeHost {
    fn recover_earlier(
        &mut self,
        _: &Path,
    ) -> std::io::Result<Vec<(PathBuf, Result<Recovered, RecoverError>)>> {
        Ok(Vec::new())
    }

    fn start(
        &mut self,
        run: &RunId,
        run_dir: &Path,
        _: Duration,
    ) -> Result<Box<dyn Link>, HostError> {
        (self.prepare)(run, run_dir);
        let stage = Stage0 {
            heard: self.heard.clone(),
            ..Stage0::default()
        };
        let play = self.play.take().expect("started once");
        Ok(Box::new(FakeLink { stage, play }))
    }

    fn recover_own(&mut self, run_dir: &Path) -> Result<Recovered, RecoverError> {
        self.heard.lock().expect("heard").recovered_own += 1;
        LocalHost::default().recover_own(run_dir)
    }
}

/// Watches, and may interrupt.
#[derive(Default)]
struct Watcher {
    stages: Vec<Stage>,
    ticks: Vec<Live>,
    remains: Vec<String>,
    interrupt_at: Option<fn(&Body) -> bool>,
    interrupt: Arc<Interrupt>,
}

impl Observer for Watcher {
    fn stage(&mut self, stage: Stage) {
        self.stages.push(stage);
    }
    fn tick(&mut self, live: &Live) {
        self.ticks.push(live.clone());
    }
    fn event(&mut self, event: &Event) {
        if self.interrupt_at.is_some_and(|at| at(&event.body)) {
            self.interrupt.raise("SIGINT");
        }
    }
    fn remains(&mut self, what: &str) {
        self.remains.push(what.to_owned());
    }
}

fn id() -> InjectionId {
    InjectionId("abcdefgh".into())
}

fn begun(class: Class) -> Body {
    Body::InjectionBegun {
        injection: id(),
        rule: RuleId(0),
        kind: "process-kill".into(),
        class,
        target: "rank 1".into(),
        process: None,
        aim: Place::default(),
        mechanism: "SIGKILL by pidfd".into(),
    }
}

fn seen(presence: Presence) -> Vec<Observation> {
    vec![Observation {
        presence,
        source: "process table".into(),
        evidence: "read".into(),
    }]
}

fn landed() -> Body {
    Body::Landed {
        injection: id(),
        place: Place::default(),
        precision: Precision::NotAimed,
        held_ns: None,
        observations: seen(Presence::Present),
    }
}

fn undo_begun() -> Body {
    Body::UndoBegun {
        injection: id(),
        because: "asked".into(),
        by: "agent".into(),
    }
}

fn undone() -> Body {
    Body::Undone {
        injection: id(),
        by: "agent".into(),
        observations: seen(Presence::Absent),
    }
}

fn stuck() -> Body {
    Body::Stuck {
        injection: id(),
        by: "agent".into(),
        because: "no".into(),
        remedy: "kill -CONT 4711".into(),
    }
}

fn ended(exit: i32) -> Body {
    Body::WorkloadEnded {
        reference: false,
        exit: Some(exit),
        signal: None,
        evidence: "no process carries the mark".into(),
    }
}

fn rule_ended() -> Body {
    Body::RuleEnded {
        rule: RuleId(0),
        because: "done".into(),
    }
}

/// What every well-behaved agent does; `also` adds to it. Steps go on for 10 s.
fn well_behaved(mut also: impl FnMut(&ToAgent, &mut Stage0) + Send + 'static) -> Play {
    Box::new(move |word, stage| {
        match word {
            ToAgent::Hello { .. } => stage.word(Word::Agent(FromAgent::Hello {
                v: VERSION,
                pid: 1,
                facts: HostFacts::default(),
            })),
            ToAgent::StartWorkload(spec) => {
                stage.event(Body::WorkloadStarted {
                    reference: spec.reference,
                    command: spec.argv.join(" "),
                    process: None,
                    out: spec.out.to_string_lossy().into_owned(),
                });
                let steps = if spec.reference { 50 } else { 200 };
                for step in 1..=steps {
                    stage.step(
                        step * 20,
                        spec.reference,
                        "step-end",
                        step,
                        step.div_ceil(5),
                    );
                    if step % 5 == 0 {
                        stage.step(step * 20, spec.reference, "epoch-end", step, step / 5);
                    }
                }
                if spec.reference {
                    stage.event_after(
                        1_100,
                        Body::WorkloadEnded {
                            reference: true,
                            exit: Some(0),
                            signal: None,
                            evidence: "none left".into(),
                        },
                    );
                }
            }
            ToAgent::Arm(rule) => stage.event(Body::Armed {
                rule: rule.id,
                kind: rule.kind.clone(),
                name: None,
                aim: "at once".into(),
            }),
            ToAgent::Finish { .. } => {
                stage.after(
                    5,
                    Word::Agent(FromAgent::Finished {
                        outstanding: Vec::new(),
                    }),
                );
                stage.after(
                    6,
                    Word::Guard(GuardReport::Ended {
                        outstanding: Vec::new(),
                    }),
                );
                stage.after(7, Word::AgentGone);
                stage.after(8, Word::GuardGone);
            }
            _ => {}
        }
        also(word, stage);
    })
}

fn kills(word: &ToAgent, stage: &mut Stage0) {
    if matches!(word, ToAgent::Arm(_)) {
        // As the real agent does: the trigger's end is told before the injection's beginning.
        stage.event(rule_ended());
        stage.event_after(30, begun(Class::OneShot));
        stage.event_after(40, landed());
    }
}

fn pauses(word: &ToAgent, stage: &mut Stage0) {
    if matches!(word, ToAgent::Arm(_)) {
        stage.event(begun(Class::Lasting));
        stage.event(landed());
    }
}

fn script() -> Script {
    Script {
        title: "t".into(),
        file: "t.yaml".into(),
        text: "version: 1\n".into(),
        sha256: "0".into(),
        directory: std::env::temp_dir(),
        seed: 7,
        requirement: None,
        expect: Vec::new(),
        workload: Some(Owned {
            run: "train --out {out}".into(),
            training: true,
            ..Owned::default()
        }),
        steady: Vec::new(),
        abort: Vec::new(),
        baseline: Duration::ZERO,
        rules: vec![Rule {
            id: RuleId(0),
            kind: "process-kill".into(),
            config: serde_json::json!({}),
            target: Selector {
                file: Some("{out}/x".into()),
                ..Selector::default()
            },
            keys: StepKeys::default(),
            last_epoch: None,
        }],
        method: Node::Sequence(vec![Node::Rule(RuleId(0))]),
        rate: 10,
        time_limit: Duration::from_secs(20),
        eligible: 2,
        at_most: 1,
        plan: serde_json::json!({"rules": 1}),
        policies: BTreeMap::from([("p.yaml".into(), "ff".into())]),
        attached: Vec::new(),
    }
}

fn check(text: &str) -> Check {
    serde_json::from_str(text).expect("a check")
}

struct Outcome {
    conclusion: Conclusion,
    watcher: Watcher,
    heard: Heard,
    events: Vec<Event>,
    _scratch: Scratch,
}

fn play_with(
    script: Script,
    play: Play,
    mut watcher: Watcher,
    prepare: impl FnMut(&RunId, &Path) + 'static,
) -> Outcome {
    let scratch = Scratch::new("run");
    let heard = Arc::<Mutex<Heard>>::default();
    let mut host = FakeHost {
        play: Some(play),
        heard: heard.clone(),
        prepare: Box::new(prepare),
    };
    let interrupt = watcher.interrupt.clone();
    let conclusion = conduct(Request {
        script,
        state_dir: scratch.path().into(),
        host: &mut host,
        observer: &mut watcher,
        interrupt: &interrupt,
        lease: Duration::from_millis(500),
    })
    .expect("the run begins");
    let events = StoredRun::events(&conclusion.run_dir).expect("the log is there");
    let heard = std::mem::take(&mut *heard.lock().expect("heard"));
    assert_eq!(
        events
            .last()
            .map(|e| matches!(e.body, Body::RunEnded { .. })),
        Some(true),
        "every run is closed"
    );
    Outcome {
        conclusion,
        watcher,
        heard,
        events,
        _scratch: scratch,
    }
}

fn play(script: Script, play: Play) -> Outcome {
    play_with(script, play, Watcher::default(), |_, _| {})
}

impl Outcome {
    fn exit(&self) -> Exit {
        self.conclusion.exit
    }

    fn armed(&self) -> Vec<&Rule> {
        self.heard
            .words
            .iter()
            .filter_map(|word| match word {
                ToAgent::Arm(rule) => Some(rule),
                _ => None,
            })
            .collect()
    }

    fn finished(&self) -> bool {
        self.heard
            .words
            .iter()
            .any(|word| matches!(word, ToAgent::Finish { .. }))
    }

    fn has(&self, wanted: impl Fn(&Body) -> bool) -> bool {
        self.events.iter().any(|event| wanted(&event.body))
    }
}

#[test]
fn a_run_that_holds_goes_through_every_stage_and_leaves_its_folder_complete() {
    let mut script = script();
    script.baseline = Duration::from_millis(600);
    let outcome = play(script, well_behaved(kills));
    assert_eq!(
        outcome.exit(),
        Exit::Held,
        "{:?}",
        outcome.conclusion.problems
    );
    use Stage::{Analyse, Method, Plan, Recovery, Start, SteadyState, Undo};
    assert_eq!(
        outcome.watcher.stages,
        [Plan, Start, SteadyState, Method, Undo, Recovery, Analyse]
    );
    let dir = &outcome.conclusion.run_dir;
    for name in [
        "experiment.yaml",
        "plan.json",
        "run.db",
        "report.json",
        "report.txt",
        "report.xml",
        "report.html",
        "out",
        "logs",
        "reference",
    ] {
        let meta =
            std::fs::metadata(dir.join(name)).unwrap_or_else(|_| panic!("{name} is missing"));
        let mode = std::os::unix::fs::MetadataExt::mode(&meta);
        assert_eq!(mode & 0o077, 0, "{name} is closed to others");
    }
    assert_eq!(
        outcome.conclusion.report_path,
        Some(dir.join("report.html"))
    );
    let report = outcome.conclusion.report.as_ref().expect("a report");
    assert_eq!(report.verdict.exit, Exit::Held);
    let out = dir.join("out").to_string_lossy().into_owned();
    assert_eq!(outcome.armed()[0].target.file, Some(format!("{out}/x")));
    assert!(outcome.heard.words.iter().any(|w| matches!(w, ToAgent::StartWorkload(spec) if spec.argv == ["train", "--out", &out] && spec.hook)));
    let last = outcome.watcher.ticks.last().expect("it ticked");
    assert!(
        last.step > 0 && !last.loss.is_empty() && last.lease_left <= Duration::from_millis(500)
    );
    assert_eq!(report.policies.len(), 1);
}

#[test]
fn an_expectation_that_is_not_met_is_a_deviation() {
    let mut script = script();
    script.expect = vec![Expect::Completes(Completes { exit: 0 })];
    let outcome = play(
        script,
        well_behaved(|word, stage| {
            kills(word, stage);
            if matches!(word, ToAgent::Arm(_)) {
                stage.event_after(300, ended(1));
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Deviated);
}

#[test]
fn the_workload_s_own_end_is_waited_for_when_it_is_asked_about() {
    let mut script = script();
    script.expect = vec![Expect::Completes(Completes { exit: 0 })];
    let outcome = play(
        script,
        well_behaved(|word, stage| {
            kills(word, stage);
            if matches!(word, ToAgent::Arm(_)) {
                stage.event_after(1_500, ended(0));
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Held);
}

#[test]
fn a_system_that_is_not_steady_is_left_alone() {
    let mut script = script();
    script.workload = None;
    script.steady = vec![(
        "steady-state/0".into(),
        check(r#"{"probe":{"file":{"path":"/no/such/file"}},"interval":"50ms"}"#),
    )];
    let outcome = play(script, well_behaved(kills));
    assert_eq!(outcome.exit(), Exit::NotSteady);
    assert!(outcome.armed().is_empty() && outcome.finished());
    assert!(outcome.has(|body| matches!(body, Body::Probed { held: false, .. })));
}

#[test]
fn a_workload_that_ends_before_it_is_steady_is_not_steady() {
    let mut script = script();
    script.steady = vec![(
        "steady-state/0".into(),
        check(r#"{"probe":{"training-event":{"every":"step","within":"1s"}},"interval":"20ms"}"#),
    )];
    script.baseline = Duration::from_secs(10);
    let outcome = play(
        script,
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::StartWorkload(_)) {
                stage.event_after(400, ended(3));
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::NotSteady);
    assert!(outcome.armed().is_empty());
}

#[test]
fn an_abort_condition_ends_the_run_at_once_and_undoes() {
    let mut script = script();
    let scratch = Scratch::new("abort");
    let file = scratch.path().join("alive");
    std::fs::write(&file, "").expect("written");
    let text = format!(
        r#"{{"probe":{{"file":{{"path":"{}"}}}},"interval":"20ms","failures":3}}"#,
        file.display()
    );
    script.abort = vec![("abort-when/0".into(), check(&text))];
    let outcome = play(
        script,
        well_behaved(move |word, stage| {
            pauses(word, stage);
            if matches!(word, ToAgent::Arm(_)) {
                std::fs::remove_file(&file).expect("removed");
            }
            if matches!(word, ToAgent::Finish { .. }) {
                stage.event(undo_begun());
                stage.event(undone());
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Aborted);
    assert!(
        outcome
            .has(|body| matches!(body, Body::AbortFired { check, .. } if check == "abort-when/0"))
    );
    assert!(
        !outcome.watcher.stages.contains(&Stage::Recovery),
        "nothing is waited for"
    );
}

#[test]
fn too_little_free_disk_aborts() {
    let mut script = script();
    script.abort = vec![(
        "abort-when/0".into(),
        check(r#"{"probe":{"disk-free":{"path":"/","below":"1000000TiB"}}}"#),
    )];
    script.baseline = Duration::from_secs(5);
    assert_eq!(play(script, well_behaved(kills)).exit(), Exit::Aborted);
}

#[test]
fn the_first_signal_undoes_and_reports_and_the_second_says_what_remains() {
    let watcher = Watcher {
        interrupt_at: Some(|body| matches!(body, Body::Landed { .. } | Body::UndoBegun { .. })),
        ..Watcher::default()
    };
    let outcome = play_with(
        script(),
        well_behaved(|word, stage| {
            pauses(word, stage);
            if matches!(word, ToAgent::Finish { .. }) {
                stage.event(undo_begun());
                stage.queue.retain(|(_, word)| {
                    !matches!(
                        word,
                        Word::Agent(FromAgent::Finished { .. })
                            | Word::AgentGone
                            | Word::Guard(_)
                            | Word::GuardGone
                    )
                });
                stage.event_after(200, undone());
                stage.after(
                    250,
                    Word::Agent(FromAgent::Finished {
                        outstanding: Vec::new(),
                    }),
                );
                stage.after(
                    260,
                    Word::Guard(GuardReport::Ended {
                        outstanding: Vec::new(),
                    }),
                );
            }
        }),
        watcher,
        |_, _| {},
    );
    assert_eq!(outcome.exit(), Exit::Interrupted);
    assert!(outcome.has(|body| matches!(body, Body::Interrupted { signal } if signal == "SIGINT")));
    assert!(
        outcome.has(|body| matches!(body, Body::Undone { .. })),
        "the undo is never skipped"
    );
    assert!(
        outcome.watcher.remains[0].contains("abcdefgh"),
        "{:?}",
        outcome.watcher.remains
    );
    assert!(outcome.conclusion.report.is_some());
}

fn agent_dies(then: impl Fn(&mut Stage0) + Send + 'static) -> Play {
    well_behaved(move |word, stage| {
        pauses(word, stage);
        if matches!(word, ToAgent::Arm(_)) {
            stage.after(50, Word::AgentGone);
            stage.after(
                60,
                Word::Guard(GuardReport::Lost {
                    what: "agent".into(),
                    because: "killed".into(),
                }),
            );
            then(stage);
        }
    })
}

#[test]
fn a_lost_agent_whose_guard_undoes_is_a_bug_and_nothing_is_left() {
    let outcome = play(
        script(),
        agent_dies(|stage| {
            stage.after(
                150,
                Word::Guard(GuardReport::Undone {
                    injection: id(),
                    observations: seen(Presence::Absent),
                }),
            );
            stage.after(
                160,
                Word::Guard(GuardReport::Ended {
                    outstanding: Vec::new(),
                }),
            );
        }),
    );
    assert_eq!(outcome.exit(), Exit::Bug);
    assert!(outcome.conclusion.outstanding.is_empty());
    assert!(outcome.has(|body| matches!(body, Body::Lost { what, .. } if what == "agent")));
    assert!(outcome.has(|body| matches!(body, Body::Undone { by, .. } if by == "guard")));
}

#[test]
fn a_lost_agent_whose_guard_is_stuck_is_not_rolled_back() {
    let outcome = play(
        script(),
        agent_dies(|stage| {
            let report = GuardReport::Stuck {
                injection: id(),
                because: "no".into(),
                remedy: "kill -CONT 1".into(),
            };
            stage.after(150, Word::Guard(report));
            stage.after(
                160,
                Word::Guard(GuardReport::Ended {
                    outstanding: vec![id()],
                }),
            );
        }),
    );
    assert_eq!(outcome.exit(), Exit::NotRolledBack);
    assert_eq!(outcome.conclusion.outstanding, [id()]);
}

#[test]
fn guard_and_agent_both_gone_leaves_it_to_the_journal() {
    // The journal is real and tells of a change that the log never heard of; recovery is the real one.
    let outcome = play_with(
        script(),
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::Arm(_)) {
                stage.after(20, Word::GuardGone);
                stage.after(20, Word::AgentGone);
            }
        }),
        Watcher::default(),
        |run, run_dir| {
            use squall_faults::journal::Journal;
            use squall_faults::journal::record::{About, Entry, Writer};
            let mut journal = Journal::create(run_dir, run, Writer::Agent).expect("a journal");
            let about = About {
                rule: Some(RuleId(0)),
                kind: "process-pause".into(),
                class: Class::Lasting,
                target: "pid 1".into(),
                process: None,
                aim: Place::default(),
                mechanism: "SIGSTOP".into(),
            };
            let undo = squall_faults::undo::Undo::RemoveCgroups { paths: Vec::new() };
            let intent = Entry::Intent {
                injection: id(),
                about: Box::new(about),
                action: "stop".into(),
                undo,
            };
            journal.append(intent).expect("written");
        },
    );
    assert_eq!(outcome.heard.recovered_own, 1);
    assert_eq!(outcome.exit(), Exit::Bug);
    assert!(
        outcome.has(|body| matches!(body, Body::Undone { by, .. } if by == "recovery")),
        "{:#?}",
        outcome.events
    );
}

#[test]
fn a_rule_that_never_fires_makes_the_run_inconclusive() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::Arm(_)) {
                stage.event(Body::Skipped {
                    rule: RuleId(0),
                    because: "no target".into(),
                });
                stage.event(rule_ended());
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Inconclusive);
}

#[test]
fn a_rule_that_is_refused_ends_and_the_run_goes_on_to_its_end() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::Arm(_)) {
                stage.queue.retain(|(_, word)| !matches!(word, Word::Agent(FromAgent::Event { body, .. }) if matches!(**body, Body::Armed { .. })));
                stage.word(Word::Agent(FromAgent::Refused {
                    request: "arm".into(),
                    because: "no".into(),
                    remedy: "r".into(),
                }));
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Inconclusive);
    assert!(
        outcome.has(
            |body| matches!(body, Body::RuleEnded { because, .. } if because == "refused: no")
        )
    );
}

#[test]
fn a_workload_that_cannot_start_is_an_unmet_requirement() {
    let play_ = well_behaved(|word, stage| {
        if matches!(word, ToAgent::StartWorkload(_)) {
            stage.queue.clear();
            stage.word(Word::Agent(FromAgent::Refused {
                request: "start-workload".into(),
                because: "no such program".into(),
                remedy: String::new(),
            }));
        }
    });
    let outcome = play(script(), play_);
    assert_eq!(outcome.exit(), Exit::Unmet);
    assert!(outcome.armed().is_empty());
}

#[test]
fn what_is_stuck_outranks_everything() {
    for interrupted in [false, true] {
        let watcher = Watcher {
            interrupt_at: interrupted.then_some(|body: &Body| matches!(body, Body::Landed { .. })),
            ..Watcher::default()
        };
        let mut script = script();
        script.expect = vec![Expect::Completes(Completes { exit: 9 })];
        let outcome = play_with(
            script,
            well_behaved(|word, stage| {
                pauses(word, stage);
                if matches!(word, ToAgent::Arm(_)) {
                    stage.event_after(100, rule_ended());
                    stage.event_after(200, ended(1));
                }
                if matches!(word, ToAgent::Finish { .. } | ToAgent::Undo { .. }) {
                    stage.event(undo_begun());
                    stage.event(stuck());
                }
            }),
            watcher,
            |_, _| {},
        );
        assert_eq!(
            outcome.exit(),
            Exit::NotRolledBack,
            "interrupted: {interrupted}"
        );
        assert!(
            outcome
                .conclusion
                .report
                .is_some_and(|report| report.verdict.exit == Exit::NotRolledBack)
        );
    }
}

#[test]
fn a_step_lasts_as_long_as_its_injection_though_its_trigger_ends_at_once() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::Arm(_)) {
                stage.event(rule_ended());
                stage.event_after(200, begun(Class::Lasting));
                stage.event_after(220, landed());
                stage.event_after(900, undo_begun());
                stage.event_after(910, undone());
            }
            assert!(!matches!(word, ToAgent::Undo { .. }), "it was cut short");
        }),
    );
    assert_eq!(outcome.exit(), Exit::Held);
    let at =
        |wanted: fn(&Body) -> bool| outcome.events.iter().position(|event| wanted(&event.body));
    let undone = at(|body| matches!(body, Body::Undone { .. }));
    let undo_stage = at(|body| matches!(body, Body::StageEntered { stage: Stage::Undo }));
    assert!(undone.is_some() && undone < undo_stage);
}

#[test]
fn what_lasts_when_the_workload_ends_is_undone_before_the_recovery() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            pauses(word, stage);
            match word {
                ToAgent::Arm(_) => {
                    stage.event(rule_ended());
                    stage.event_after(300, ended(0));
                }
                ToAgent::Undo { injection } => {
                    assert_eq!(*injection, id());
                    stage.event(undo_begun());
                    stage.event_after(50, undone());
                }
                _ => {}
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Held);
    let at =
        |wanted: fn(&Body) -> bool| outcome.events.iter().position(|event| wanted(&event.body));
    let undone = at(|body| matches!(body, Body::Undone { .. }));
    let recovery = at(|body| {
        matches!(
            body,
            Body::StageEntered {
                stage: Stage::Recovery
            }
        )
    });
    assert!(undone.is_some() && undone < recovery);
}

#[test]
fn the_reference_run_comes_first_and_teaches_the_last_epoch() {
    let mut script = script();
    if let Some(owned) = &mut script.workload {
        owned.reference = true;
    }
    let outcome = play(script, well_behaved(kills));
    assert_eq!(
        outcome.watcher.stages[..3],
        [Stage::Plan, Stage::Reference, Stage::Start]
    );
    assert_eq!(outcome.armed()[0].last_epoch, Some(10));
    let specs: Vec<_> = outcome
        .heard
        .words
        .iter()
        .filter_map(|w| match w {
            ToAgent::StartWorkload(s) => Some((s.reference, s.out.clone())),
            _ => None,
        })
        .collect();
    assert!(specs[0].0 && !specs[1].0 && specs[0].1 != specs[1].1);
}

#[test]
fn the_time_limit_ends_a_method_that_would_go_on() {
    let mut script = script();
    script.time_limit = Duration::from_secs(1);
    script.method = Node::Wait(Duration::from_secs(600));
    let started = Instant::now();
    let outcome = play(script, well_behaved(kills));
    assert!(outcome.finished() && started.elapsed() < Duration::from_secs(15));
    assert_eq!(outcome.exit(), Exit::Inconclusive);
}

#[test]
fn the_steady_state_is_looked_at_again_after_the_undo() {
    let mut script = script();
    script.expect = vec![Expect::SteadyAgainWithin(Span(Duration::from_secs(5)))];
    script.steady = vec![(
        "steady-state/0".into(),
        check(r#"{"probe":{"disk-free":{"path":"/","below":"1B"}},"interval":"50ms"}"#),
    )];
    let outcome = play(script, well_behaved(kills));
    assert_eq!(outcome.exit(), Exit::Held);
    let recovery = outcome
        .events
        .iter()
        .position(|e| {
            matches!(
                e.body,
                Body::StageEntered {
                    stage: Stage::Recovery
                }
            )
        })
        .expect("recovery");
    assert!(outcome.events[recovery..].iter().any(
        |e| matches!(&e.body, Body::Probed { check, held: true, .. } if check == "steady-state/0")
    ));
}

#[test]
fn the_lease_is_renewed_through_a_flood_of_events() {
    let mut script = script();
    script.baseline = Duration::from_secs(1);
    let outcome = play(
        script,
        well_behaved(|word, stage| {
            kills(word, stage);
            if matches!(word, ToAgent::StartWorkload(_)) {
                for step in 0..20_000u64 {
                    stage.step(0, false, "phase-begin", step, 1);
                }
            }
        }),
    );
    assert!(outcome.heard.renewals > 2);
    // A lease is 500 ms here, renewed every 100: a pause below it means that guard and agent never had a reason to undo.
    assert!(
        outcome.heard.longest_pause < Duration::from_millis(500),
        "{:?}",
        outcome.heard.longest_pause
    );
}

#[test]
fn an_event_that_cannot_be_is_a_bug_that_is_told_and_undone() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            kills(word, stage);
            if matches!(word, ToAgent::Arm(_)) {
                stage.event(begun(Class::OneShot));
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Bug);
    assert!(outcome.finished() && !outcome.conclusion.problems.is_empty());
}

#[test]
fn an_agent_of_another_version_is_refused_before_anything_happens() {
    let scratch = Scratch::new("version");
    let heard = Arc::<Mutex<Heard>>::default();
    let play: Play = Box::new(|word, stage| {
        if matches!(word, ToAgent::Hello { .. }) {
            stage.word(Word::Agent(FromAgent::Hello {
                v: VERSION + 1,
                pid: 1,
                facts: HostFacts::default(),
            }));
        }
    });
    let mut host = FakeHost {
        play: Some(play),
        heard: heard.clone(),
        prepare: Box::new(|_, _| {}),
    };
    let error = conduct(Request {
        script: script(),
        state_dir: scratch.path().into(),
        host: &mut host,
        observer: &mut Silent,
        interrupt: &Interrupt::default(),
        lease: Duration::from_secs(5),
    })
    .expect_err("refused");
    assert_eq!(error.exit(), Exit::Unreachable);
    assert_eq!(heard.lock().expect("heard").words.len(), 1);
}
