//! `http-status`: requests are answered with an error, and the service is not asked.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use std::collections::BTreeMap;

on_requests! {
    /// Requests are answered with an error, and the service is not asked.
    pub struct HttpStatus {
        /// The status.
        #[schemars(range(min = 200, max = 599))]
        pub code: u16,
        /// The value of `retry-after`, written as it stands here, legal or not; `date:30s` becomes the date in 30 s.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub retry_after: Option<String>,
        /// Further header fields.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub headers: BTreeMap<String, String>,
        /// Another body.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub body: Option<String>,
    }
}

impl FaultKind for HttpStatus {
    const INFO: KindInfo = KindInfo {
        kind: "http-status",
        summary: "Requests are answered with an error, and the service is not asked.",
        class: Class::Lasting,
        layer: "the client's HTTP library: a complete answer with the provider's own error body",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "http-status: {target: {proxy: workload}, for: 10s, code: 429, retry-after: \"1\", when: {first: 3}}",
    };
}
