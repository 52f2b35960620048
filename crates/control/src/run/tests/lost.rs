//! What is lost, refused, stuck or interrupted: nothing stays behind unsaid.

use super::*;

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
fn what_was_cut_off_before_its_undo_was_recorded_is_not_outstanding() {
    let outcome = play_with(
        script(),
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::Arm(_)) {
                stage.event(begun(Class::Lasting));
                stage.after(20, Word::GuardGone);
                stage.after(20, Word::AgentGone);
            }
        }),
        Watcher::default(),
        |run, run_dir| {
            use squall_faults::journal::{Journal, record::Writer};
            Journal::create(run_dir, run, Writer::Agent).expect("a journal");
        },
    );
    assert_eq!(outcome.exit(), Exit::Bug);
    assert!(outcome.conclusion.outstanding.is_empty());
    assert!(outcome.has(|body| matches!(body, Body::NotLanded { .. })));
    assert!(outcome.has(|body| matches!(body, Body::Undone { by, .. } if by == "recovery")));
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

#[test]
fn a_share_that_is_known_only_when_ranks_are_is_refused_before_anything_is_armed() {
    use squall_model::plan::build;
    use squall_model::policy::{Policies, read};
    let text = "version: 1\ntitle: t\nworkload:\n  training: {run: train}\nmethod:\n  - process-kill: {target: {rank: 1}}\n";
    let loaded = squall_model::load::read::<squall_catalog::Faults>(text, "t.yaml").expect("valid");
    for (share, exit) in [("40%", Exit::Refused), ("100%", Exit::Held)] {
        let policy = read::<squall_catalog::Faults>(
            &format!("version: 1\nmaximum-share: {share}\n"),
            "p.yaml",
        )
        .expect("a policy");
        let mut script = script();
        script.undecided = Some(Undecided {
            rules: vec![RuleId(0)],
            plan: build(&loaded.experiment, 7),
            policies: Policies {
                files: vec![policy],
            },
        });
        let outcome = play(script, well_behaved(kills));
        assert_eq!(outcome.exit(), exit);
        assert_eq!(outcome.armed().is_empty(), exit == Exit::Refused);
    }
}

/// An agent that says so, undoes and ends, all in one breath, without a word about its rule.
fn ends_by_itself(says: impl Fn(&mut Stage0) + Send + 'static) -> Play {
    well_behaved(move |word, stage| {
        if matches!(word, ToAgent::Arm(_)) {
            stage.event(begun(Class::Lasting));
            stage.event(landed());
            says(stage);
            stage.event_after(40, undo_begun());
            stage.event_after(40, undone());
            stage.after(
                40,
                Word::Agent(FromAgent::Finished {
                    outstanding: Vec::new(),
                }),
            );
            stage.after(
                40,
                Word::Guard(GuardReport::Ended {
                    outstanding: Vec::new(),
                }),
            );
            stage.after(40, Word::AgentGone);
            stage.after(40, Word::GuardGone);
        }
    })
}

#[test]
fn an_agent_that_ends_by_itself_ends_the_method_and_the_run_never_held() {
    type Says = fn(&mut Stage0);
    let cases: [(Says, &str); 2] = [
        (|_| {}, "nobody had asked for"),
        (
            |stage| {
                stage.event_after(
                    40,
                    Body::Interrupted {
                        signal: "SIGTERM to the agent".into(),
                    },
                );
            },
            "SIGTERM to the agent",
        ),
    ];
    for (says, words) in cases {
        let outcome = play(script(), ends_by_itself(says));
        assert_eq!(outcome.exit(), Exit::Interrupted, "{words}");
        let told: Vec<&Body> = outcome.events.iter().map(|event| &event.body).collect();
        let interrupted =
            |body: &&&Body| matches!(body, Body::Interrupted { signal } if signal.contains(words));
        assert_eq!(told.iter().filter(interrupted).count(), 1, "{told:?}");
        let waited = |body: &Body| matches!(body, Body::Note { text } if text.contains("time limit") || text.contains("not done within"));
        assert!(
            !outcome.has(waited),
            "it waited for a rule that nobody ends"
        );
        let report = outcome.conclusion.report.as_ref().expect("a report");
        assert_eq!(report.verdict.exit, Exit::Interrupted);
        assert!(outcome.conclusion.outstanding.is_empty());
    }
}

#[test]
fn a_signal_to_the_agent_when_the_run_is_ending_anyway_changes_nothing() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            kills(word, stage);
            if matches!(word, ToAgent::Finish { .. }) {
                stage.event(Body::Interrupted {
                    signal: "SIGTERM to the agent".into(),
                });
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Held);
    assert!(!outcome.has(|body| matches!(body, Body::Interrupted { .. })));
}
