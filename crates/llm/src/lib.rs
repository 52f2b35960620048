//! What services of language models say on the wire: OpenAI's and Anthropic's shapes, and server-sent events. Pure.
#![forbid(unsafe_code)]

pub mod api;
pub mod edit;
pub mod error;
pub mod event;
pub mod mock;
pub mod retrieval;
pub mod sse;
pub mod tools;
pub mod vectors;

pub use api::Api;
