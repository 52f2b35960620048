//! `network-blackhole`: packets vanish, and nobody is told: not even a sender on the same host.

use crate::fault::FaultKind;
use crate::packet::{Treatment, on_packets, queue_fault, said};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};

on_packets! {
    /// Swallows packets without an error anywhere. Unlike after network-partition, a datagram that leaves seems to be sent.
    pub struct NetworkBlackhole {
    }
}

impl FaultKind for NetworkBlackhole {
    const INFO: KindInfo = KindInfo {
        kind: "network-blackhole",
        summary: "Packets vanish without an error, even for a sender on this host.",
        class: Class::Served,
        layer: "the kernel's packet filter: senders have sent, receivers hear nothing, connections time out",
        requires: said::REQUIRES_KERNEL,
        after_kill: said::AFTER_KILL_KERNEL,
        targets: said::TARGETS,
        example: "network-blackhole: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, direction: out, peers: [10.0.0.0/8]}",
    };
}

impl NetworkBlackhole {
    fn treatment(&self) -> Treatment {
        Treatment::Loss { chance: 1.0 }
    }

    fn own_problems(&self) -> Vec<ConfigProblem> {
        Vec::new()
    }
}

queue_fault!(NetworkBlackhole);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn whom_it_swallows_is_said() {
        let problems = |text: &str| {
            let fault: NetworkBlackhole = serde_json::from_str(text).unwrap();
            fault.problems().len()
        };
        assert_eq!(problems(r#"{"ports": [80], "direction": "out"}"#), 0);
        assert_eq!(problems("{}"), 1);
    }
}
