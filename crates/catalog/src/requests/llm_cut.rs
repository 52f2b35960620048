//! `llm-cut`: a stream is cut off in the middle of the answer.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_proxy::web::Cut;

on_requests! {
    /// A stream is cut off in the middle of the answer.
    pub struct LlmCut {
        /// So many tokens arrive before.
        pub tokens: u64,
        /// How it ends.
        #[serde(default)]
        pub how: Cut,
    }
}

impl FaultKind for LlmCut {
    const INFO: KindInfo = KindInfo {
        kind: "llm-cut",
        summary: "A stream is cut off in the middle of the answer.",
        class: Class::Lasting,
        layer: "the client's parser of events: an end in order, a closed or a reset connection",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-cut: {target: {proxy: workload}, for: 10s, tokens: 5, how: reset, when: {streaming: true}}",
    };
}
