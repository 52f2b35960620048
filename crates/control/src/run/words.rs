//! What guard and agent say becomes events.

use super::conductor::{Conductor, Halt};
use super::link::Word;
use squall_faults::guard::wire::GuardReport;
use squall_faults::protocol::FromAgent;
use squall_model::event::{Body, InjectionState};
use squall_model::id::{InjectionId, RuleId};

impl Conductor<'_> {
    pub(super) fn take_word(&mut self, word: Word) {
        match word {
            Word::Agent(word) => self.take_agent(word),
            Word::Guard(report) => self.take_guard(report),
            Word::AgentGone => {
                if !self.ends.agent_gone {
                    self.ends.agent_gone = true;
                    self.lost("agent", "its line has ended".into());
                }
            }
            Word::GuardGone => {
                if !self.ends.guard_gone {
                    self.ends.guard_gone = true;
                    if self.ends.guard_ended.is_none() {
                        self.lost("guard", "its line has ended".into());
                    }
                }
            }
        }
    }

    fn take_agent(&mut self, word: FromAgent) {
        match word {
            FromAgent::Event { boot_ns, body } => {
                let t_ns = self.store.clock().at(boot_ns);
                let interrupted = matches!(*body, Body::Interrupted { .. });
                if interrupted && self.ending {
                    return self
                        .note("a signal to guard or agent came when the run was ending anyway");
                }
                self.record_at(t_ns, *body);
                if interrupted {
                    self.halt(Halt::Interrupted);
                }
            }
            FromAgent::Refused {
                request,
                because,
                remedy,
            } => self.take_refusal(&request, because, remedy),
            FromAgent::Finished { outstanding } => {
                self.ends.agent_finished = Some(outstanding);
                // What was to be done after this was not done, whatever the rest looks like.
                if !self.ending && self.halt.is_none() {
                    let signal = "an end of the agent that nobody had asked for".into();
                    self.record(Body::Interrupted { signal });
                    self.halt(Halt::Interrupted);
                }
            }
            FromAgent::Hello { .. } => {}
        }
    }

    fn take_refusal(&mut self, request: &str, because: String, remedy: String) {
        let advice = if remedy.is_empty() {
            String::new()
        } else {
            format!("; {remedy}")
        };
        self.note(format!(
            "the agent refused `{request}`, because {because}{advice}"
        ));
        self.refused = Some((because.clone(), remedy));
        match request {
            "arm" => {
                // Answers come in order: it is the first rule that was sent and not yet armed.
                match self.tracker.unanswered() {
                    Some(rule) => self.record(Body::RuleEnded {
                        rule,
                        because: format!("refused: {because}"),
                    }),
                    None => self.bugs.push(format!(
                        "the agent refused to arm what was not sent: {because}"
                    )),
                }
            }
            _ => self.halt(Halt::Unmet),
        }
    }

    fn take_guard(&mut self, report: GuardReport) {
        match report {
            GuardReport::Ready { .. } => {}
            GuardReport::Failed { because } => self.lost("guard", because),
            GuardReport::Lost { what, because } => self.lost(&what, because),
            GuardReport::Undone {
                injection,
                observations,
            } => {
                if self.begin_undo(&injection, "guard") {
                    self.record(Body::Undone {
                        injection,
                        by: "guard".into(),
                        observations,
                    });
                }
            }
            GuardReport::Stuck {
                injection,
                because,
                remedy,
            } => {
                self.begin_if_unknown(&injection);
                if self.begin_undo(&injection, "guard") {
                    self.record(Body::Stuck {
                        injection,
                        by: "guard".into(),
                        because,
                        remedy,
                    });
                }
            }
            GuardReport::Ended { outstanding } => self.ends.guard_ended = Some(outstanding),
        }
    }

    /// Brings an injection to 'undoing' where the log does not say so yet. False: the log knows nothing to undo there.
    fn begin_undo(&mut self, injection: &InjectionId, by: &str) -> bool {
        let now = self
            .store
            .state()
            .injections
            .get(injection)
            .map(|injection| injection.state);
        match now {
            None | Some(InjectionState::Undone) => false,
            Some(InjectionState::Undoing) => true,
            Some(_) => {
                self.record(Body::UndoBegun {
                    injection: injection.clone(),
                    because: "the agent was lost".into(),
                    by: by.to_owned(),
                });
                true
            }
        }
    }

    /// Something that needs a person must be in the log, though its beginning never arrived.
    fn begin_if_unknown(&mut self, injection: &InjectionId) {
        if !self.store.state().injections.contains_key(injection) {
            self.record(Body::InjectionBegun {
                injection: injection.clone(),
                rule: RuleId(u32::MAX),
                kind: "unknown".into(),
                class: squall_model::syntax::Class::Lasting,
                target: "told by the guard".into(),
                process: None,
                aim: Default::default(),
                mechanism: "its beginning did not arrive".into(),
            });
        }
    }
}
