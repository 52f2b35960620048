//! A proxy that makes what an application calls misbehave: faults as verdicts on chunks, requests and stream events.
#![forbid(unsafe_code)]

pub mod stream;
