//! `network-duplicate`: packets arrive twice.

use crate::fault::FaultKind;
use crate::packet::{Treatment, chance, on_packets, problem, queue_fault, said};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::Percent;

on_packets! {
    /// Makes packets arrive twice: the copy is sent right behind the original.
    pub struct NetworkDuplicate {
        /// The chance of each packet to arrive twice.
        pub duplicates: Percent,
    }
}

impl FaultKind for NetworkDuplicate {
    const INFO: KindInfo = KindInfo {
        kind: "network-duplicate",
        summary: "Packets arrive twice.",
        class: Class::Served,
        layer: "the interface, or the kernel's packet filter; the copy has a mark of ours. By a queue it is sent by a raw socket, on the receiving side it comes in by loopback, and IPv6 link-local packets are not doubled",
        requires: "CAP_NET_ADMIN in the network namespace, and with CAP_SYS_ADMIN eBPF and the TCX hook in the kernel; else nf_tables and nfnetlink_queue, the nftables expression `queue` or the xtables target NFQUEUE, and CAP_NET_RAW",
        after_kill: said::AFTER_KILL_HOOK,
        targets: said::TARGETS,
        example: "network-duplicate: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, duplicates: 5%, peers: [10.0.0.0/8]}",
    };
}

impl NetworkDuplicate {
    fn treatment(&self) -> Treatment {
        Treatment::Duplicate {
            chance: chance(self.duplicates),
        }
    }

    fn own_problems(&self) -> Vec<ConfigProblem> {
        if self.duplicates.0 > 0.0 {
            return Vec::new();
        }
        vec![problem(
            "duplicates",
            "0% of the packets are none",
            "write more than 0%, e.g. `duplicates: 5%`",
        )]
    }
}

queue_fault!(NetworkDuplicate);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Target};
    use crate::kind::HostFacts;

    #[test]
    fn without_raw_sockets_it_is_refused_before_anything_is_touched() {
        let fault: NetworkDuplicate =
            serde_json::from_str(r#"{"duplicates": "1%", "ports": [80]}"#).unwrap();
        let facts = HostFacts {
            net_admin: true,
            nftables: true,
            ..HostFacts::default()
        };
        let raw = |facts| {
            let unmet = fault.unmet(&Target::Host, facts);
            unmet.iter().any(|one| one.what.contains("CAP_NET_RAW"))
        };
        assert!(raw(&facts));
        assert!(!raw(&HostFacts {
            net_raw: true,
            ..facts.clone()
        }));
    }

    #[test]
    fn no_duplicates_are_no_fault() {
        let problems = |text: &str| {
            let fault: NetworkDuplicate = serde_json::from_str(text).unwrap();
            fault.problems().len()
        };
        assert_eq!(problems(r#"{"duplicates": "1%", "ports": [80]}"#), 0);
        assert_eq!(problems(r#"{"duplicates": "0%", "ports": [80]}"#), 1);
        assert_eq!(problems(r#"{"duplicates": "1%"}"#), 1);
    }
}
