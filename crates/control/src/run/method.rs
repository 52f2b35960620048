//! The method as it is played: which steps have begun, which are done, what is to be armed next. Pure.

use super::script::Node;
use squall_model::id::RuleId;
use std::collections::BTreeSet;
use std::time::Duration;

/// A step of the method, in play.
#[derive(Debug, Clone)]
enum State {
    Wait {
        length: Duration,
        began: Option<Duration>,
        done: bool,
    },
    Sequence {
        steps: Vec<State>,
        at: usize,
    },
    Parallel(Vec<State>),
    Rule {
        id: RuleId,
        armed: bool,
        done: bool,
    },
}

/// The method in play.
#[derive(Debug, Clone)]
pub(super) struct Play {
    root: State,
}

impl Play {
    /// Nothing has begun.
    pub(super) fn new(method: &Node) -> Play {
        Play {
            root: State::of(method),
        }
    }

    /// Moves on to `now`. Returns the rules to arm, in order; `ended` are those that have ended.
    pub(super) fn advance(&mut self, now: Duration, ended: &BTreeSet<RuleId>) -> Vec<RuleId> {
        let mut arm = Vec::new();
        self.root.advance(now, ended, &mut arm);
        arm
    }

    /// Every step is done.
    pub(super) fn is_done(&self) -> bool {
        self.root.is_done()
    }
}

impl State {
    fn of(node: &Node) -> State {
        let all = |nodes: &[Node]| nodes.iter().map(State::of).collect();
        match node {
            Node::Wait(length) => State::Wait {
                length: *length,
                began: None,
                done: false,
            },
            Node::Sequence(nodes) => State::Sequence {
                steps: all(nodes),
                at: 0,
            },
            Node::Parallel(nodes) => State::Parallel(all(nodes)),
            Node::Rule(id) => State::Rule {
                id: *id,
                armed: false,
                done: false,
            },
        }
    }

    fn advance(&mut self, now: Duration, ended: &BTreeSet<RuleId>, arm: &mut Vec<RuleId>) {
        match self {
            State::Wait {
                length,
                began,
                done,
            } => {
                let began = *began.get_or_insert(now);
                *done = now.saturating_sub(began) >= *length;
            }
            State::Sequence { steps, at } => {
                while let Some(step) = steps.get_mut(*at) {
                    step.advance(now, ended, arm);
                    if !step.is_done() {
                        break;
                    }
                    *at += 1;
                }
            }
            State::Parallel(steps) => {
                for step in steps.iter_mut().filter(|step| !step.is_done()) {
                    step.advance(now, ended, arm);
                }
            }
            State::Rule { id, armed, done } => {
                if !*armed {
                    *armed = true;
                    arm.push(*id);
                }
                *done = ended.contains(id);
            }
        }
    }

    fn is_done(&self) -> bool {
        match self {
            State::Wait { done, .. } | State::Rule { done, .. } => *done,
            State::Sequence { steps, at } => *at >= steps.len(),
            State::Parallel(steps) => steps.iter().all(State::is_done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: u32) -> Node {
        Node::Rule(RuleId(id))
    }

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_sequence_arms_one_after_the_other_and_waits_between() {
        let method = Node::Sequence(vec![rule(0), Node::Wait(seconds(5)), rule(1)]);
        let mut play = Play::new(&method);
        let mut ended = BTreeSet::new();
        assert_eq!(play.advance(seconds(0), &ended), [RuleId(0)]);
        assert_eq!(play.advance(seconds(9), &ended), []);
        ended.insert(RuleId(0));
        assert_eq!(play.advance(seconds(10), &ended), []);
        assert_eq!(
            play.advance(seconds(14), &ended),
            [],
            "the wait began at 10"
        );
        assert_eq!(play.advance(seconds(15), &ended), [RuleId(1)]);
        assert!(!play.is_done());
        ended.insert(RuleId(1));
        play.advance(seconds(16), &ended);
        assert!(play.is_done());
    }

    #[test]
    fn a_parallel_group_arms_all_and_ends_with_the_last() {
        let inner = Node::Sequence(vec![rule(1), rule(2)]);
        let mut play = Play::new(&Node::Parallel(vec![
            rule(0),
            inner,
            Node::Wait(seconds(1)),
        ]));
        let mut ended = BTreeSet::new();
        assert_eq!(play.advance(seconds(0), &ended), [RuleId(0), RuleId(1)]);
        ended.extend([RuleId(0), RuleId(1)]);
        assert_eq!(play.advance(seconds(2), &ended), [RuleId(2)]);
        assert!(!play.is_done());
        ended.insert(RuleId(2));
        play.advance(seconds(3), &ended);
        assert!(play.is_done());
    }

    #[test]
    fn a_method_of_nothing_is_done_at_once() {
        let mut play = Play::new(&Node::Sequence(Vec::new()));
        assert_eq!(play.advance(seconds(0), &BTreeSet::new()), []);
        assert!(play.is_done());
    }
}
