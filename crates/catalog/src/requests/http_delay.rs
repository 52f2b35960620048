//! `http-delay`: answers begin later.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_model::units::Span;

on_requests! {
    /// Answers begin later.
    pub struct HttpDelay {
        /// By how much.
        pub delay: Span,
        /// Up to so much more or less, uniformly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub jitter: Option<Span>,
    }
}

impl FaultKind for HttpDelay {
    const INFO: KindInfo = KindInfo {
        kind: "http-delay",
        summary: "Answers begin later.",
        class: Class::Lasting,
        layer: "the client's HTTP library: silence before the first byte",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "http-delay: {target: {proxy: workload}, for: 10s, delay: 2s, jitter: 500ms}",
    };
}
