//! The conductor against scripted guards and agents: every way a run can end.

mod course;
mod fake;
mod lost;
mod steady;

use super::*;
use crate::clock::boot_ns;
use crate::store::StoredRun;
use crate::testing::Scratch;
use fake::{FakeHost, Heard, Play, Stage0, Watcher};
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
        by_squall: false,
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
                            by_squall: false,
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
            ToAgent::Disarm { rule } => stage.event(Body::RuleEnded {
                rule: *rule,
                because: "it was disarmed".into(),
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
        stage.event_after(30, begun(Class::OneShot));
        stage.event_after(40, landed());
        stage.event_after(41, rule_ended());
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
        warm_up: Duration::from_secs(60),
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
            process: None,
            policies: Vec::new(),
        }],
        method: Node::Sequence(vec![Node::Rule(RuleId(0))]),
        rate: 10,
        time_limit: Duration::from_secs(20),
        eligible: 2,
        at_most: 1,
        plan: serde_json::json!({"rules": 1}),
        policies: BTreeMap::from([("p.yaml".into(), "ff".into())]),
        attached: Vec::new(),
        undecided: None,
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
