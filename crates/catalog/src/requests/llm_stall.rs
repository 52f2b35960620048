//! `llm-stall`: a stream stands still, with the connection open.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_model::units::Span;

on_requests! {
    /// A stream stands still, with the connection open.
    pub struct LlmStall {
        /// So many tokens arrive before.
        pub tokens: u64,
        /// When it goes on; never unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub resume: Option<Span>,
    }
}

impl FaultKind for LlmStall {
    const INFO: KindInfo = KindInfo {
        kind: "llm-stall",
        summary: "A stream stands still, with the connection open.",
        class: Class::Lasting,
        layer: "the client's read time-out between two events, where it has one",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-stall: {target: {proxy: workload}, for: 10s, tokens: 5}",
    };
}
