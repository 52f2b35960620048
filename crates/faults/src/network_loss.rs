//! `network-loss`: packets are lost, each by itself or in bursts.

use crate::fault::FaultKind;
use crate::packet::{Treatment, chance, on_packets, problem, queue_fault, said};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::Percent;

on_packets! {
    /// Loses packets, each by its own chance or in bursts. Exactly one of `loss` and `bursts` is given.
    pub struct NetworkLoss {
        /// The chance of each packet to be lost, on its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub loss: Option<Percent>,
        /// Losses that come together, after Gilbert and Elliott.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bursts: Option<Bursts>,
    }
}

/// Two states, a good and a bad one, and a chance to leave each with every packet. The bad one lasts for 1 / `end` packets on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bursts {
    /// The chance with each packet that a burst begins.
    pub begin: Percent,
    /// The chance with each packet that the burst ends.
    pub end: Percent,
    /// The chance of a packet to be lost within a burst. 100% unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_within: Option<Percent>,
    /// The chance of a packet to be lost outside a burst. 0% unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_outside: Option<Percent>,
}

impl FaultKind for NetworkLoss {
    const INFO: KindInfo = KindInfo {
        kind: "network-loss",
        summary: "Packets are lost, each by its own chance or in bursts.",
        class: Class::Served,
        layer: "the interface or the kernel's packet filter, on the receiving side: TCP retransmits and slows down, datagrams are missing",
        requires: said::REQUIRES_HOOK_OR_KERNEL,
        after_kill: said::AFTER_KILL_HOOK_OR_KERNEL,
        targets: said::TARGETS,
        example: "network-loss: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, loss: 5%, peers: [10.0.0.0/8]}",
    };
}

impl NetworkLoss {
    fn treatment(&self) -> Treatment {
        match self.bursts {
            Some(bursts) => Treatment::Bursts {
                begin: chance(bursts.begin),
                end: chance(bursts.end),
                loss_within: bursts.loss_within.map_or(1.0, chance),
                loss_outside: bursts.loss_outside.map_or(0.0, chance),
            },
            None => Treatment::Loss {
                chance: self.loss.map_or(0.0, chance),
            },
        }
    }

    fn own_problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        match (self.loss, self.bursts) {
            (None, None) | (Some(_), Some(_)) => problems.push(problem(
                "loss",
                "exactly one of `loss` and `bursts` says what is lost",
                "write e.g. `loss: 5%`, or `bursts: {begin: 1%, end: 25%}`",
            )),
            (Some(loss), None) if loss.0 <= 0.0 => problems.push(problem(
                "loss",
                "a loss of 0% loses nothing",
                "write more than 0%, e.g. `loss: 5%`",
            )),
            (None, Some(bursts)) if bursts.begin.0 <= 0.0 || bursts.end.0 <= 0.0 => {
                problems.push(problem(
                    "bursts",
                    "a burst that never begins or never ends is none",
                    "write more than 0% for `begin` and `end`",
                ));
            }
            _ => {}
        }
        problems
    }
}

queue_fault!(NetworkLoss);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn exactly_one_way_to_lose_is_written_and_it_loses_something() {
        let keys = |text: &str| -> Vec<&str> {
            let fault: NetworkLoss = serde_json::from_str(text).unwrap();
            fault.problems().iter().map(|one| one.key).collect()
        };
        assert_eq!(keys(r#"{"loss": "5%", "ports": [80]}"#), [""; 0]);
        let bursts = r#"{"bursts": {"begin": "1%", "end": "25%"}, "ports": [80]}"#;
        assert_eq!(keys(bursts), [""; 0]);
        assert_eq!(keys(r#"{"ports": [80]}"#), ["loss"]);
        assert_eq!(keys(r#"{"loss": "0%", "ports": [80]}"#), ["loss"]);
        let endless = r#"{"bursts": {"begin": "1%", "end": "0%"}, "ports": [80]}"#;
        assert_eq!(keys(endless), ["bursts"]);
        let both = r#"{"loss": "5%", "bursts": {"begin": "1%", "end": "25%"}, "ports": [80]}"#;
        assert_eq!(keys(both), ["loss"]);
    }
}
