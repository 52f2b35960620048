//! `llm-structure`: structured output violates its schema: a key more or less, another type, words before it.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_proxy::web::StructureWrong;

on_requests! {
    /// Structured output violates its schema: a key more or less, another type, words before it.
    pub struct LlmStructure {
        /// How.
        pub how: StructureWrong,
    }
}

impl FaultKind for LlmStructure {
    const INFO: KindInfo = KindInfo {
        kind: "llm-structure",
        summary: "Structured output violates its schema: a key more or less, another type, words before it.",
        class: Class::Lasting,
        layer: "the application: the answer is whole, its JSON is not what was asked for",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-structure: {target: {proxy: workload}, for: 10s, how: missing-key}",
    };
}
