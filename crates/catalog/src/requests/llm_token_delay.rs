//! `llm-token-delay`: every further token arrives later than the one before it.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_model::units::Span;

on_requests! {
    /// Every further token arrives later than the one before it.
    pub struct LlmTokenDelay {
        /// By how much.
        pub delay: Span,
        /// Up to so much more or less, uniformly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub jitter: Option<Span>,
    }
}

impl FaultKind for LlmTokenDelay {
    const INFO: KindInfo = KindInfo {
        kind: "llm-token-delay",
        summary: "Every further token arrives later than the one before it.",
        class: Class::Lasting,
        layer: "the application's inter-token latency",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-token-delay: {target: {proxy: workload}, for: 10s, delay: 200ms}",
    };
}
