//! `network-corrupt`: bits of what packets carry are turned, and the checksum is left wrong or made to fit.

use crate::fault::FaultKind;
use crate::packet::{Treatment, chance, on_packets, problem, queue_fault, said};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::Percent;

on_packets! {
    /// Turns bits of what packets carry. Packets that carry nothing (bare acknowledgements) stay as they are.
    pub struct NetworkCorrupt {
        /// The chance of each packet to be changed.
        pub corrupted: Percent,
        /// How many bits are turned in each, 1 to 64. 1 unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bits: Option<u32>,
        /// What becomes of the checksum. Broken unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub checksum: Option<Checksum>,
    }
}

/// What becomes of the transport checksum of a changed packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// It stays as it was, so the receiver notices and throws the packet away.
    Broken,
    /// It is made to fit, so what was changed reaches the application, as after a fault in memory on the way.
    Fitting,
}

impl FaultKind for NetworkCorrupt {
    const INFO: KindInfo = KindInfo {
        kind: "network-corrupt",
        summary: "Bits of what packets carry are turned, with the checksum left wrong or made to fit.",
        class: Class::Served,
        layer: "the kernel's packet filter (with a fitting checksum: the interface) on the receiving side: with a broken checksum the packet is lost and counted as bad, with a fitting one the application reads wrong bytes",
        requires: said::REQUIRES_HOOK,
        after_kill: said::AFTER_KILL_HOOK,
        targets: said::TARGETS,
        example: "network-corrupt: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, corrupted: 1%, checksum: fitting, peers: [10.0.0.0/8]}",
    };
}

impl NetworkCorrupt {
    fn treatment(&self) -> Treatment {
        Treatment::Corrupt {
            chance: chance(self.corrupted),
            bits: self.bits.unwrap_or(1),
            fits: self.checksum == Some(Checksum::Fitting),
        }
    }

    fn own_problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.corrupted.0 <= 0.0 {
            problems.push(problem(
                "corrupted",
                "0% of the packets are none",
                "write more than 0%, e.g. `corrupted: 1%`",
            ));
        }
        if self.bits.is_some_and(|bits| !(1..=64).contains(&bits)) {
            problems.push(problem(
                "bits",
                "1 to 64 bits are turned",
                "write a number from 1 to 64",
            ));
        }
        problems
    }
}

queue_fault!(NetworkCorrupt);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn values_out_of_range_are_said_with_their_key() {
        let keys = |text: &str| -> Vec<&str> {
            let fault: NetworkCorrupt = serde_json::from_str(text).unwrap();
            fault.problems().iter().map(|one| one.key).collect()
        };
        assert_eq!(keys(r#"{"corrupted": "5%", "ports": [80]}"#), [""; 0]);
        assert_eq!(keys(r#"{"corrupted": "0%", "ports": [80]}"#), ["corrupted"]);
        let many = r#"{"corrupted": "5%", "bits": 65, "ports": [80]}"#;
        assert_eq!(keys(many), ["bits"]);
    }
}
