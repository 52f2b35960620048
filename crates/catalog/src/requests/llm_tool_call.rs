//! `llm-tool-call`: tool calls are wrong: an unknown tool, or arguments that are no JSON.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_proxy::web::CallWrong;

on_requests! {
    /// Tool calls are wrong: an unknown tool, or arguments that are no JSON.
    pub struct LlmToolCall {
        /// How.
        pub how: CallWrong,
    }
}

impl FaultKind for LlmToolCall {
    const INFO: KindInfo = KindInfo {
        kind: "llm-tool-call",
        summary: "Tool calls are wrong: an unknown tool, or arguments that are no JSON.",
        class: Class::Lasting,
        layer: "the application: the answer is whole, the call in it cannot be made",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-tool-call: {target: {proxy: workload}, for: 10s, how: unknown-tool}",
    };
}
