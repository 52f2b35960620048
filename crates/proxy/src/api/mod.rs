//! Toxiproxy's HTTP API, so that its clients work unchanged; and beside it what that API does not tell.
//!
//! Where Toxiproxy has a defect, this does the right thing; [`Settings::strict`] keeps what clients may depend on.

mod routes;
mod server;
mod toxic;

pub use server::{Api, Settings};

use crate::ProxyError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of Toxiproxy's API that is spoken, and ours.
const VERSION: &str = concat!("2.12.0+squall.", env!("CARGO_PKG_VERSION"));

/// What is answered instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
struct ApiError {
    status: u16,
    message: String,
}

impl ApiError {
    fn new(status: u16, message: &str) -> ApiError {
        ApiError {
            status,
            message: message.to_owned(),
        }
    }

    fn bad_body(because: &str) -> ApiError {
        ApiError::new(400, &format!("bad request body: {because}"))
    }
}

impl From<ProxyError> for ApiError {
    fn from(error: ProxyError) -> ApiError {
        match error {
            ProxyError::Exists(_) => ApiError::new(409, "proxy already exists"),
            ProxyError::Unknown(_) => ApiError::new(404, "proxy not found"),
            ProxyError::RuleExists(_) => ApiError::new(409, "toxic already exists"),
            ProxyError::UnknownRule(_) => ApiError::new(404, "toxic not found"),
            ProxyError::Listen { .. } | ProxyError::Tls(_) => {
                ApiError::new(500, &error.to_string())
            }
            ProxyError::TooMany(_) | ProxyError::WrongKind(_) => {
                ApiError::new(400, &error.to_string())
            }
        }
    }
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    fn json(status: u16, value: &impl Serialize) -> Result<Answer, ApiError> {
        let body =
            serde_json::to_vec(value).map_err(|error| ApiError::new(500, &error.to_string()))?;
        Ok(Answer {
            status,
            content_type: JSON,
            body,
        })
    }

    fn text(status: u16, text: &str) -> Answer {
        Answer {
            status,
            content_type: TEXT,
            body: text.as_bytes().to_vec(),
        }
    }

    fn nothing(status: u16) -> Answer {
        Answer {
            status,
            content_type: JSON,
            body: Vec::new(),
        }
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_body(&error.to_string()))
}
