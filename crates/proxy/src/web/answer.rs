//! Answers of our own: errors in the provider's shape, and rate limits.

use super::rule::{WebFault, WebRule};
use crate::proxy::locked;
use crate::stream::Nanos;
use squall_llm::{Api, error};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An answer that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// An error in the shape of `api`; `request` is its id.
    pub(super) fn error(api: Api, status: u16, request: &str) -> Answer {
        let body = error::body(api, status, request).to_string();
        let fields = vec![
            ("content-type".into(), "application/json".into()),
            (error::id_field(api).into(), request.to_owned()),
        ];
        Answer {
            status,
            fields,
            body: body.into_bytes(),
        }
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.fields
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    /// Head and body as bytes. Some answers have no body: a client would read one as the next answer.
    pub(super) fn written(&self, keeps: bool, method: &str) -> (Vec<u8>, &[u8]) {
        let tells_length = !matches!(self.status, 204 | 304);
        let has_body = tells_length && method != "HEAD";
        let mut text = format!(
            "HTTP/1.1 {} {}\r\n",
            self.status,
            error::reason(self.status)
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if tells_length {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        text.push_str(if keeps {
            "\r\n"
        } else {
            "connection: close\r\n\r\n"
        });
        let body = if has_body { self.body.as_slice() } else { &[] };
        (text.into_bytes(), body)
    }
}

/// What `http-status` answers; nothing for other faults.
pub(super) fn of_status(fault: &WebFault, api: Api, request: &str) -> Option<Answer> {
    let WebFault::HttpStatus {
        code,
        retry_after,
        headers,
        body,
    } = fault
    else {
        return None;
    };
    let mut answer = Answer::error(api, *code, request);
    if let Some(body) = body {
        answer.body = body.clone().into_bytes();
    }
    if let Some(value) = retry_after {
        answer.set("retry-after", &retry_value(value));
    }
    for (name, value) in headers {
        answer.set(name, value);
    }
    Some(answer)
}

/// As it stands, or the date in so much time.
fn retry_value(value: &str) -> String {
    let span = value
        .strip_prefix("date:")
        .and_then(|span| span.trim().parse::<squall_model::units::Span>().ok());
    let Some(span) = span else {
        return value.to_owned();
    };
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        + span.0;
    date(since.as_secs())
}

/// A date as HTTP writes it, from seconds since 1970.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let names = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let name = names[(month - 1) as usize % 12];
    format!(
        "{week}, {day:02} {name} {year} {:02}:{:02}:{:02} GMT",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Year, month and day of the `days`-th day after 1970-01-01: years are counted from March, so that leap days come last.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let (day, month) = (
        of_year - (153 * march + 2) / 5 + 1,
        if march < 10 { march + 3 } else { march - 9 },
    );
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// What a rate limit says of a request.
pub(super) struct Limited {
    /// The fields that every answer gets.
    pub(super) fields: Vec<(String, String)>,
    /// How long a refused request has to wait; none when it is admitted.
    pub(super) wait: Option<Duration>,
}

/// Takes one request from a rule's bucket.
pub(super) fn limited(rule: &WebRule, api: Api, now: Nanos) -> Option<Limited> {
    let WebFault::HttpRateLimit { per_minute, burst } = rule.fault else {
        return None;
    };
    let rate = f64::from(per_minute) / 60e9;
    let most = f64::from(burst.unwrap_or(per_minute));
    let mut bucket = locked(&rule.bucket);
    let (left, at) = bucket.unwrap_or((most, now));
    let left = (left + now.saturating_sub(at) as f64 * rate).min(most);
    let wait = (left < 1.0).then(|| Duration::from_nanos(((1.0 - left) / rate).ceil() as u64));
    let left = if wait.is_some() { left } else { left - 1.0 };
    *bucket = Some((left, now));
    drop(bucket);
    let full = Duration::from_nanos(((most - left) / rate) as u64);
    let mut fields = match api.is_anthropic() {
        true => anthropic(per_minute, left, full),
        false => openai(per_minute, left, full),
    };
    if let Some(wait) = wait {
        fields.push((
            "retry-after".into(),
            (wait.as_millis().div_ceil(1000)).to_string(),
        ));
        if !api.is_anthropic() {
            fields.push(("retry-after-ms".into(), wait.as_millis().max(1).to_string()));
        }
    }
    Some(Limited { fields, wait })
}

fn openai(limit: u32, left: f64, full: Duration) -> Vec<(String, String)> {
    let reset = match full.as_secs() {
        0 => format!("{}ms", full.as_millis()),
        seconds if seconds < 60 => format!("{seconds}s"),
        seconds => format!("{}m{}s", seconds / 60, seconds % 60),
    };
    let field = |name: &str, value: String| (format!("x-ratelimit-{name}-requests"), value);
    vec![
        field("limit", limit.to_string()),
        field("remaining", (left as u64).to_string()),
        field("reset", reset),
    ]
}

fn anthropic(limit: u32, left: f64, full: Duration) -> Vec<(String, String)> {
    let at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        + full;
    let (year, month, day) = civil(at.as_secs() / 86_400);
    let rest = at.as_secs() % 86_400;
    let reset = format!(
        "{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    let field = |name: &str, value: String| (format!("anthropic-ratelimit-requests-{name}"), value);
    vec![
        field("limit", limit.to_string()),
        field("remaining", (left as u64).to_string()),
        field("reset", reset),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_writes_them() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(951_827_696), "Tue, 29 Feb 2000 12:34:56 GMT");
        assert_eq!(date(1_795_529_430), "Tue, 24 Nov 2026 14:10:30 GMT");
    }

    #[test]
    fn a_bucket_admits_its_burst_and_then_tells_the_true_wait() {
        let rule = WebRule::new(
            "limit",
            WebFault::HttpRateLimit {
                per_minute: 60,
                burst: Some(2),
            },
        );
        let ask = |now: Nanos| limited(&rule, Api::OpenAiChat, now).expect("it is a rate limit");
        assert_eq!([ask(0).wait, ask(0).wait], [None, None]);
        let refused = ask(0);
        assert_eq!(refused.wait, Some(Duration::from_secs(1)));
        assert!(refused.fields.contains(&("retry-after".into(), "1".into())));
        assert_eq!(ask(999_999_999).wait, Some(Duration::from_nanos(1)));
        assert_eq!(ask(1_000_000_001).wait, None);
        let hours = 10_000_000_000_000;
        assert_eq!([ask(hours).wait, ask(hours).wait], [None, None]);
        assert!(
            ask(hours).wait.is_some(),
            "more than the burst is not saved up"
        );
    }

    #[test]
    fn retry_after_is_written_as_it_stands() {
        let fault = |value: &str| WebFault::HttpStatus {
            code: 429,
            retry_after: Some(value.to_owned()),
            headers: [("x-should-retry".to_owned(), "false".to_owned())].into(),
            body: None,
        };
        for value in ["2", "0.5", "-1", "soon", "Wed, 21 Oct 2065 07:28:00 GMT"] {
            let answer = of_status(&fault(value), Api::OpenAiChat, "r").expect("an answer");
            assert!(
                answer
                    .fields
                    .contains(&("retry-after".into(), value.into())),
                "{value}"
            );
            assert!(
                answer
                    .fields
                    .contains(&("x-should-retry".into(), "false".into()))
            );
        }
        let dated = of_status(&fault("date:30s"), Api::OpenAiChat, "r").expect("an answer");
        assert!(
            dated
                .fields
                .iter()
                .any(|(name, value)| name == "retry-after" && value.ends_with(" GMT"))
        );
    }
}
