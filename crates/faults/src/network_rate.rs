//! `network-rate`: what arrives comes at most so fast.

use crate::fault::FaultKind;
use crate::packet::{Treatment, on_packets, problem, queue_fault, said};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::{Bytes, Span};
use std::time::Duration;

/// What may come at once, unless the file says otherwise: one of the large packets that kernels make.
const BURST: Bytes = Bytes(64 << 10);
/// How long a packet may wait, unless the file says otherwise.
const WAIT: Span = Span(Duration::from_millis(500));

on_packets! {
    /// Limits how fast packets arrive, by one bucket for all of them: they wait for their turn, and are lost when the wait would be too long.
    pub struct NetworkRate {
        /// How much arrives within a second, headers included. At least 1kB.
        pub per_second: Bytes,
        /// How much may come at once after a quiet time. At least 1500B; 64KiB unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub burst: Option<Bytes>,
        /// How long a packet may wait for its turn; one that would wait longer is lost. At most 60s; 500ms unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub wait_at_most: Option<Span>,
    }
}

impl FaultKind for NetworkRate {
    const INFO: KindInfo = KindInfo {
        kind: "network-rate",
        summary: "What arrives comes at most so fast.",
        class: Class::Served,
        layer: "the kernel's packet filter on the receiving side: packets wait, then are lost, and TCP adapts to both",
        requires: said::REQUIRES_KERNEL,
        after_kill: said::AFTER_KILL_KERNEL,
        targets: said::TARGETS,
        example: "network-rate: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, per-second: 10MB, peers: [10.0.0.0/8]}",
    };
}

impl NetworkRate {
    fn treatment(&self) -> Treatment {
        Treatment::Rate {
            bytes_per_second: self.per_second.0,
            burst: self.burst.unwrap_or(BURST).0,
            at_most_ns: self.wait_at_most.unwrap_or(WAIT).as_nanos(),
        }
    }

    fn own_problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.per_second.0 < 1000 {
            problems.push(problem(
                "per-second",
                format!("{} a second is less than 1kB", self.per_second),
                "write e.g. `per-second: 10MB`, or use network-partition",
            ));
        }
        if self.burst.is_some_and(|burst| burst.0 < 1500) {
            problems.push(problem(
                "burst",
                "a burst of less than 1500B is less than a packet",
                "write e.g. `burst: 64KiB`",
            ));
        }
        let in_range = Duration::from_millis(1)..=Duration::from_secs(60);
        if self
            .wait_at_most
            .is_some_and(|span| !in_range.contains(&span.0))
        {
            problems.push(problem(
                "wait-at-most",
                "a packet waits for 1ms to 60s",
                "write e.g. `wait-at-most: 500ms`",
            ));
        }
        problems
    }
}

queue_fault!(NetworkRate);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn values_out_of_range_are_said_with_their_key() {
        let keys = |text: &str| -> Vec<&str> {
            let fault: NetworkRate = serde_json::from_str(text).unwrap();
            fault.problems().iter().map(|one| one.key).collect()
        };
        assert_eq!(keys(r#"{"per-second": "1MB", "ports": [80]}"#), [""; 0]);
        assert_eq!(
            keys(r#"{"per-second": "1B", "ports": [80]}"#),
            ["per-second"]
        );
        let small = r#"{"per-second": "1MB", "burst": "100B", "ports": [80]}"#;
        assert_eq!(keys(small), ["burst"]);
        let long = r#"{"per-second": "1MB", "wait-at-most": "61s", "ports": [80]}"#;
        assert_eq!(keys(long), ["wait-at-most"]);
    }
}
