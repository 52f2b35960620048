//! `network-delay`: packets arrive later, all by the same time or by a time with jitter.

use crate::fault::FaultKind;
use crate::packet::decide::Shape;
use crate::packet::{Treatment, on_packets, problem, queue_fault, said};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::{Percent, Span};

/// The longest delay, in seconds: what waits is kept in the kernel's memory.
const LONGEST_S: u64 = 60;

on_packets! {
    /// Makes packets arrive later. One way: a round trip is longer by the delay once, unless both ends are delayed.
    pub struct NetworkDelay {
        /// How much later each packet arrives. At most 60s.
        pub delay: Span,
        /// How far the delay may deviate, at most as much as `delay`: the most of a uniform deviation, the standard deviation of the others. None unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub jitter: Option<Span>,
        /// How deviations are distributed. Uniform unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub distribution: Option<Distribution>,
        /// How much of a packet's deviation is that of the packet before. 0% unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub correlation: Option<Percent>,
        /// Whether a packet may overtake one that came before it, where jitter makes it due earlier. No unless said: then it waits for the earlier one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub may_overtake: Option<bool>,
    }
}

/// How deviations are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Each between -jitter and +jitter as likely as any other.
    Uniform,
    /// A bell around the delay; `jitter` is its standard deviation.
    Normal,
    /// Most packets a little early, few very late; its mean is the delay.
    Pareto,
}

impl FaultKind for NetworkDelay {
    const INFO: KindInfo = KindInfo {
        kind: "network-delay",
        summary: "Packets arrive later, all by the same time or with jitter.",
        class: Class::Served,
        layer: "the kernel's packet filter on the receiving side, before sockets see the packet; delaying what leaves instead holds the sender's own queue, and TCP sends little then",
        requires: said::REQUIRES_KERNEL,
        after_kill: said::AFTER_KILL_KERNEL,
        targets: said::TARGETS,
        example: "network-delay: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, delay: 50ms, jitter: 5ms, peers: [10.0.0.0/8]}",
    };
}

impl NetworkDelay {
    fn treatment(&self) -> Treatment {
        Treatment::Delay {
            delay_ns: self.delay.as_nanos(),
            jitter_ns: self.jitter.map_or(0, Span::as_nanos),
            shape: match self.distribution {
                None | Some(Distribution::Uniform) => Shape::Uniform,
                Some(Distribution::Normal) => Shape::Normal,
                Some(Distribution::Pareto) => Shape::Pareto,
            },
            correlation: self.correlation.map_or(0.0, |share| share.0 / 100.0),
            may_overtake: self.may_overtake.unwrap_or(false),
        }
    }

    fn own_problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.delay.0.as_secs() > LONGEST_S || self.delay.0.is_zero() {
            problems.push(problem(
                "delay",
                format!("{} is not a delay between 1ns and {LONGEST_S}s", self.delay),
                "write e.g. `delay: 50ms`",
            ));
        }
        match self.jitter {
            Some(jitter) if jitter > self.delay => problems.push(problem(
                "jitter",
                format!(
                    "a jitter of {jitter} is more than the delay of {}",
                    self.delay
                ),
                format!("write at most `jitter: {}`", self.delay),
            )),
            None if self.distribution.is_some() || self.correlation.is_some() => {
                problems.push(problem(
                    "jitter",
                    "without jitter there is nothing to distribute or to correlate",
                    "write e.g. `jitter: 5ms`",
                ));
            }
            _ => {}
        }
        if self.correlation.is_some_and(|share| share.0 >= 100.0) {
            problems.push(problem(
                "correlation",
                "with a correlation of 100% no packet ever deviates",
                "write less, e.g. `correlation: 25%`",
            ));
        }
        problems
    }
}

queue_fault!(NetworkDelay);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn read(text: &str) -> NetworkDelay {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_makes_no_sense_is_said_with_its_key() {
        let keys = |text: &str| -> Vec<&str> {
            let problems = read(text).problems();
            problems.iter().map(|one| one.key).collect()
        };
        assert_eq!(keys(r#"{"delay": "10ms", "ports": [80]}"#), [""; 0]);
        assert_eq!(keys(r#"{"delay": "10ms"}"#), ["peers"]);
        assert_eq!(
            keys(r#"{"delay": "10ms", "peers": ["0.0.0.0/0"]}"#),
            [""; 0]
        );
        assert_eq!(keys(r#"{"delay": "61s", "ports": [80]}"#), ["delay"]);
        assert_eq!(keys(r#"{"delay": "0s", "ports": [80]}"#), ["delay"]);
        let wide = r#"{"delay": "10ms", "jitter": "11ms", "ports": [80]}"#;
        assert_eq!(keys(wide), ["jitter"]);
        let bare = r#"{"delay": "10ms", "correlation": "25%", "ports": [80]}"#;
        assert_eq!(keys(bare), ["jitter"]);
        let stuck = r#"{"delay": "10ms", "jitter": "1ms", "correlation": "100%", "ports": [80]}"#;
        assert_eq!(keys(stuck), ["correlation"]);
    }

    #[test]
    fn the_treatment_is_what_was_written() {
        let fault = read(
            r#"{"delay": "10ms", "jitter": "2ms", "distribution": "normal", "correlation": "25%", "ports": [80]}"#,
        );
        assert_eq!(
            fault.treatment(),
            Treatment::Delay {
                delay_ns: 10_000_000,
                jitter_ns: 2_000_000,
                shape: Shape::Normal,
                correlation: 0.25,
                may_overtake: false
            }
        );
    }
}
