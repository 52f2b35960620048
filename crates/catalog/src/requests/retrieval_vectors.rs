//! `retrieval-vectors`: embeddings are wrong: another dimension, zero, NaN, or those of another text.

use super::{on_requests, said};
use squall_faults::fault::FaultKind;
use squall_model::syntax::{Class, KindInfo};
use squall_proxy::web::VectorsWrong;

on_requests! {
    /// Embeddings are wrong: another dimension, zero, NaN, or those of another text.
    pub struct RetrievalVectors {
        /// How.
        pub how: VectorsWrong,
    }
}

impl FaultKind for RetrievalVectors {
    const INFO: KindInfo = KindInfo {
        kind: "retrieval-vectors",
        summary: "Embeddings are wrong: another dimension, zero, NaN, or those of another text.",
        class: Class::Lasting,
        layer: "the application: the answer is whole, what it computes with is not",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "retrieval-vectors: {target: {proxy: workload}, for: 10s, how: permuted}",
    };
}
