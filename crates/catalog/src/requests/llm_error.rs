//! `llm-error`: an error is told in the stream, after status 200, and the stream ends.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};

on_requests! {
    /// An error is told in the stream, after status 200, and the stream ends.
    pub struct LlmError {
        /// So many tokens arrive before.
        pub tokens: u64,
    }
}

impl FaultKind for LlmError {
    const INFO: KindInfo = KindInfo {
        kind: "llm-error",
        summary: "An error is told in the stream, after status 200, and the stream ends.",
        class: Class::Lasting,
        layer: "the client's parser of events: an error in the provider's shape",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-error: {target: {proxy: workload}, for: 10s, tokens: 5}",
    };
}
