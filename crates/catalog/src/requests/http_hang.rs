//! `http-hang`: requests are taken, and nothing is ever answered.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};

on_requests! {
    /// Requests are taken, and nothing is ever answered.
    pub struct HttpHang {
    }
}

impl FaultKind for HttpHang {
    const INFO: KindInfo = KindInfo {
        kind: "http-hang",
        summary: "Requests are taken, and nothing is ever answered.",
        class: Class::Lasting,
        layer: "the client's read time-out, where it has one",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "http-hang: {target: {proxy: workload}, for: 10s, when: {path: \"/v1/*\"}}",
    };
}
