//! `network-reorder`: packets are overtaken by later ones.

use crate::fault::FaultKind;
use crate::packet::{Treatment, chance, on_packets, problem, queue_fault, said};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::{Percent, Span};
use std::time::Duration;

/// How long a packet waits at most for others to pass it, unless the file says more.
const AT_MOST: Span = Span(Duration::from_millis(100));

on_packets! {
    /// Holds packets back until later ones have passed them.
    pub struct NetworkReorder {
        /// The chance of each packet to be held back.
        pub reordered: Percent,
        /// How many later packets pass it, 1 to 1000. 1 unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub behind: Option<u32>,
        /// How long it waits for them at most; then it goes on though fewer have passed. At most 60s; 100ms unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub at_most: Option<Span>,
    }
}

impl FaultKind for NetworkReorder {
    const INFO: KindInfo = KindInfo {
        kind: "network-reorder",
        summary: "Packets are overtaken by later ones.",
        class: Class::Served,
        layer: "the kernel's packet filter on the receiving side: TCP sees holes, acknowledges the same again and may retransmit",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "network-reorder: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, reordered: 5%, behind: 3, peers: [10.0.0.0/8]}",
    };
}

impl NetworkReorder {
    fn treatment(&self) -> Treatment {
        Treatment::Reorder {
            chance: chance(self.reordered),
            behind: self.behind.unwrap_or(1),
            at_most_ns: self.at_most.unwrap_or(AT_MOST).as_nanos(),
        }
    }

    fn own_problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.reordered.0 <= 0.0 || self.reordered.0 > 50.0 {
            problems.push(problem(
                "reordered",
                format!(
                    "{} is not between 0% and 50%: a packet is only late when others are not",
                    self.reordered
                ),
                "write e.g. `reordered: 5%`",
            ));
        }
        if self
            .behind
            .is_some_and(|count| !(1..=1000).contains(&count))
        {
            problems.push(problem(
                "behind",
                "a packet is passed by 1 to 1000 others",
                "write a number from 1 to 1000",
            ));
        }
        let in_range = Duration::from_millis(1)..=Duration::from_secs(60);
        if self.at_most.is_some_and(|span| !in_range.contains(&span.0)) {
            problems.push(problem(
                "at-most",
                "a packet waits for 1ms to 60s",
                "write e.g. `at-most: 100ms`",
            ));
        }
        problems
    }
}

queue_fault!(NetworkReorder);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn values_out_of_range_are_said_with_their_key() {
        let keys = |text: &str| -> Vec<&str> {
            let fault: NetworkReorder = serde_json::from_str(text).unwrap();
            fault.problems().iter().map(|one| one.key).collect()
        };
        assert_eq!(keys(r#"{"reordered": "5%", "ports": [80]}"#), [""; 0]);
        assert_eq!(
            keys(r#"{"reordered": "51%", "ports": [80]}"#),
            ["reordered"]
        );
        let none = r#"{"reordered": "5%", "behind": 0, "ports": [80]}"#;
        assert_eq!(keys(none), ["behind"]);
        let long = r#"{"reordered": "5%", "at-most": "61s", "ports": [80]}"#;
        assert_eq!(keys(long), ["at-most"]);
    }
}
