//! Exit codes: what a script can rely on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every way in which `squall` ends. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// 0: the hypothesis held and everything was rolled back.
    Held,
    /// 1: unexpected; a bug of Squall's.
    Bug,
    /// 2: the command line is wrong.
    Usage,
    /// 3: the experiment file is invalid.
    Invalid,
    /// 10: ran to the end and the hypothesis did not hold: a finding, not a failure of the tool.
    Deviated,
    /// 11: the baseline failed; nothing was injected.
    NotSteady,
    /// 12: an abort condition fired; rolled back.
    Aborted,
    /// 13: Ctrl-C or SIGTERM; rolled back.
    Interrupted,
    /// 14: ran and rolled back, but an effect could not be decided, or an injection missed its aim or did not land.
    Inconclusive,
    /// 20: the selection is empty or over the blast-radius limit.
    NoTarget,
    /// 21: the host lacks a requirement; nothing was injected.
    Unmet,
    /// 22: a daemon, agent or cluster could not be reached.
    Unreachable,
    /// 23: refused by policy.
    Refused,
    /// 40: something is still injected. Wins over every other code.
    NotRolledBack,
}

impl Exit {
    /// The number the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Held => 0,
            Exit::Bug => 1,
            Exit::Usage => 2,
            Exit::Invalid => 3,
            Exit::Deviated => 10,
            Exit::NotSteady => 11,
            Exit::Aborted => 12,
            Exit::Interrupted => 13,
            Exit::Inconclusive => 14,
            Exit::NoTarget => 20,
            Exit::Unmet => 21,
            Exit::Unreachable => 22,
            Exit::Refused => 23,
            Exit::NotRolledBack => 40,
        }
    }

    /// Of two ways to end the same run, the one that outranks: 40 > 1 > 13 > 12 > 11 > 10 > 14 > 0; refusals
    /// (2, 3, 20–23) happen before a run and rank between 1 and 13.
    pub fn outranking(self, other: Exit) -> Exit {
        if self.rank() >= other.rank() {
            self
        } else {
            other
        }
    }

    fn rank(self) -> u8 {
        match self {
            Exit::NotRolledBack => 100,
            Exit::Bug => 90,
            Exit::Usage | Exit::Invalid => 85,
            Exit::Refused => 84,
            Exit::NoTarget => 83,
            Exit::Unmet => 82,
            Exit::Unreachable => 81,
            Exit::Interrupted => 70,
            Exit::Aborted => 60,
            Exit::NotSteady => 50,
            Exit::Deviated => 40,
            Exit::Inconclusive => 30,
            Exit::Held => 0,
        }
    }
}
