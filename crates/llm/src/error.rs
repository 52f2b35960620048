//! Errors in each provider's own shape.

use crate::Api;
use serde_json::{Value, json};

/// The body of an error with this status.
pub fn body(api: Api, status: u16, request: &str) -> Value {
    if api.is_anthropic() {
        let (kind, message) = anthropic(status);
        return json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request});
    }
    let (kind, code, message) = openai(status);
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// The field that carries the request's id.
pub fn id_field(api: Api) -> &'static str {
    if api.is_anthropic() {
        "request-id"
    } else {
        "x-request-id"
    }
}

/// What stands in an event that tells an error after the stream has begun with status 200.
pub fn event(api: Api) -> (Option<&'static str>, Value) {
    match api {
        Api::AnthropicMessages => (
            Some("error"),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        ),
        Api::OpenAiResponses => {
            let message = "The server had an error while processing your request.";
            (
                Some("error"),
                json!({"type": "error", "code": "server_error", "message": message, "param": null}),
            )
        }
        _ => {
            let message = "The server had an error while processing your request.";
            (
                None,
                json!({"error": {"message": message, "type": "server_error", "param": null, "code": null}}),
            )
        }
    }
}

/// The usual words for a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ => "Error",
    }
}

fn openai(status: u16) -> (&'static str, Option<&'static str>, &'static str) {
    match status {
        400 => ("invalid_request_error", None, "Invalid request."),
        401 => (
            "authentication_error",
            Some("invalid_api_key"),
            "Incorrect API key provided.",
        ),
        402 => (
            "billing_error",
            Some("billing_required"),
            "Billing is required.",
        ),
        403 => (
            "permission_error",
            Some("forbidden"),
            "You are not allowed to do this.",
        ),
        404 => (
            "invalid_request_error",
            Some("not_found"),
            "The requested resource does not exist.",
        ),
        408 => (
            "request_timeout",
            Some("request_timeout"),
            "The request timed out.",
        ),
        409 => (
            "conflict_error",
            Some("conflict"),
            "The request conflicts with another.",
        ),
        413 => (
            "invalid_request_error",
            Some("request_too_large"),
            "The request is too large.",
        ),
        422 => (
            "invalid_request_error",
            Some("unprocessable_entity"),
            "The request could not be processed.",
        ),
        429 => (
            "rate_limit_error",
            Some("rate_limit_exceeded"),
            "Rate limit reached. Please try again later.",
        ),
        501 => (
            "server_error",
            Some("not_implemented"),
            "This is not implemented.",
        ),
        502 => ("server_error", Some("bad_gateway"), "Bad gateway."),
        503 => (
            "server_error",
            Some("service_unavailable"),
            "The service is temporarily unavailable.",
        ),
        504 => (
            "server_error",
            Some("gateway_timeout"),
            "The gateway timed out.",
        ),
        529 => (
            "server_error",
            Some("overloaded"),
            "The service is overloaded.",
        ),
        _ => (
            "server_error",
            Some("internal_error"),
            "The server had an error while processing your request.",
        ),
    }
}

fn anthropic(status: u16) -> (&'static str, &'static str) {
    match status {
        400 | 422 => ("invalid_request_error", "Invalid request."),
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low."),
        403 => (
            "permission_error",
            "Your API key does not have permission to use the specified resource.",
        ),
        404 => (
            "not_found_error",
            "The requested resource could not be found.",
        ),
        409 => ("conflict_error", "The request conflicts with another."),
        413 => ("request_too_large", "Request exceeds the maximum size."),
        429 => (
            "rate_limit_error",
            "This request would exceed your rate limit. Please try again later.",
        ),
        408 | 504 => ("timeout_error", "The request timed out."),
        503 | 529 => ("overloaded_error", "Overloaded"),
        _ => ("api_error", "Internal server error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_provider_s_shape() {
        let openai = body(Api::OpenAiChat, 429, "r");
        assert_eq!(openai["error"]["code"], "rate_limit_exceeded");
        let anthropic = body(Api::AnthropicMessages, 529, "r");
        assert_eq!(
            (&anthropic["type"], &anthropic["error"]["type"]),
            (&json!("error"), &json!("overloaded_error"))
        );
        assert_eq!(anthropic["request_id"], "r");
        assert_eq!(event(Api::AnthropicMessages).0, Some("error"));
        assert!(event(Api::OpenAiChat).1["error"].is_object());
    }
}
