//! `http-rate-limit`: requests beyond a rate are refused with 429 and the true time to wait.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};

on_requests! {
    /// Requests beyond a rate are refused with 429 and the true time to wait.
    pub struct HttpRateLimit {
        /// So many requests in each minute.
        #[schemars(range(min = 1))]
        pub per_minute: u32,
        /// So many at once; a minute's worth unless given.
        #[schemars(range(min = 1))]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub burst: Option<u32>,
    }
}

impl FaultKind for HttpRateLimit {
    const INFO: KindInfo = KindInfo {
        kind: "http-rate-limit",
        summary: "Requests beyond a rate are refused with 429 and the true time to wait.",
        class: Class::Lasting,
        layer: "the client's HTTP library: 429 and the provider's rate-limit fields",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "http-rate-limit: {target: {proxy: workload}, for: 30s, per-minute: 60, burst: 5}",
    };
}
