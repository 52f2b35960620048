//! A proxy that makes what an application calls misbehave: faults as verdicts on chunks, requests and stream events.
#![forbid(unsafe_code)]

mod api;
mod dry;
pub mod file;
mod http;
mod proxies;
mod proxy;
mod record;
mod relay;
pub mod served;
pub mod stream;
mod tls;
mod watch;
pub mod web;

pub use api::{Api, Settings};
pub use dry::Dry;
pub use proxies::{Proxies, ProxyError, Seen, Told, Wanted};
pub use proxy::Counters;
pub use record::{Record, Recorder, What};
pub use tls::{Security, Serve, TlsError};
