//! `llm-text`: answers say something else: nothing, garbage, a refusal, or a canary before their own words.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_proxy::web::Speech;

on_requests! {
    /// Answers say something else: nothing, garbage, a refusal, or a canary before their own words.
    pub struct LlmText {
        /// What.
        pub says: Speech,
    }
}

impl FaultKind for LlmText {
    const INFO: KindInfo = KindInfo {
        kind: "llm-text",
        summary: "Answers say something else: nothing, garbage, a refusal, or a canary before their own words.",
        class: Class::Lasting,
        layer: "the application: the answer is whole and well-formed",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-text: {target: {proxy: workload}, for: 10s, says: refusal}",
    };
}
