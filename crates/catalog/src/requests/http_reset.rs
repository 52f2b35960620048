//! `http-reset`: clients are reset in place of an answer.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};

on_requests! {
    /// Clients are reset in place of an answer.
    pub struct HttpReset {
    }
}

impl FaultKind for HttpReset {
    const INFO: KindInfo = KindInfo {
        kind: "http-reset",
        summary: "Clients are reset in place of an answer.",
        class: Class::Lasting,
        layer: "the client's TCP stack: a RST (connection reset by peer)",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "http-reset: {target: {proxy: workload}, for: 10s, share: 20%}",
    };
}
