//! `llm-malformed`: a token of a stream is damaged.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_proxy::web::Damage;

on_requests! {
    /// A token of a stream is damaged.
    pub struct LlmMalformed {
        /// Which.
        #[schemars(range(min = 1))]
        pub token: u64,
        /// How.
        #[serde(default)]
        pub how: Damage,
    }
}

impl FaultKind for LlmMalformed {
    const INFO: KindInfo = KindInfo {
        kind: "llm-malformed",
        summary: "A token of a stream is damaged.",
        class: Class::Lasting,
        layer: "the client's parser of events and of JSON",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "llm-malformed: {target: {proxy: workload}, for: 10s, token: 3, how: utf8}",
    };
}
