//! `llm-first-token`: the first token of an answer arrives later.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_model::units::Span;

on_requests! {
    /// The first token of an answer arrives later.
    pub struct LlmFirstToken {
        /// By how much.
        pub delay: Span,
    }
}

impl FaultKind for LlmFirstToken {
    const INFO: KindInfo = KindInfo {
        kind: "llm-first-token",
        summary: "The first token of an answer arrives later.",
        class: Class::Lasting,
        layer: "the application's time to first token; head and status come in time",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-first-token: {target: {proxy: workload}, for: 10s, delay: 1s}",
    };
}
