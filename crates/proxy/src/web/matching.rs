//! Which requests a rule acts on.

use super::rule::{WebRule, When};
use crate::http::Head;
use crate::stream::Nanos;
use serde_json::Value;
use squall_model::policy::matches as glob;
use squall_model::seed;
use squall_model::units::Span;
use std::sync::atomic::Ordering;

/// What a decision is keyed by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) seed: u64,
    pub(super) connection: u64,
    pub(super) request: u64,
}

impl Key {
    /// A draw for a rule on this request, at a place of its answer.
    pub(super) fn unit(self, rule: &str, what: &[u8], place: u64) -> f64 {
        let (connection, request) = (self.connection.to_le_bytes(), self.request.to_le_bytes());
        let key: [&[u8]; 5] = [
            rule.as_bytes(),
            &connection,
            &request,
            what,
            &place.to_le_bytes(),
        ];
        seed::unit(self.seed, &key)
    }

    /// A time, give or take its jitter.
    pub(super) fn time(self, rule: &str, place: u64, delay: Span, jitter: Option<Span>) -> Nanos {
        let spread = jitter.map_or(0.0, |jitter| jitter.0.as_nanos() as f64);
        let drawn = if spread > 0.0 {
            self.unit(rule, b"jitter", place) * 2.0 - 1.0
        } else {
            0.0
        };
        (delay.0.as_nanos() as f64 + drawn * spread).max(0.0) as Nanos
    }
}

impl When {
    /// Whether it can only be told with the request's body.
    fn needs_body(&self) -> bool {
        self.model.is_some() || self.streaming.is_some() || !self.json.is_empty()
    }

    fn fits_head(&self, head: &Head) -> bool {
        let fits = |pattern: &Option<String>, text: &str| {
            pattern.as_ref().is_none_or(|it| glob(it, text, None))
        };
        let method = self
            .method
            .as_ref()
            .is_none_or(|method| method.eq_ignore_ascii_case(head.method()));
        let header = |(name, pattern): (&String, &String)| {
            head.get(name)
                .is_some_and(|value| glob(pattern, value, None))
        };
        method && fits(&self.path, head.path()) && self.header.iter().all(header)
    }

    fn fits_body(&self, body: &Value) -> bool {
        let at = |place: &str, pattern: &str| match body.pointer(place) {
            Some(Value::String(text)) => glob(pattern, text, None),
            Some(value) => glob(pattern, &value.to_string(), None),
            None => false,
        };
        let streams = body["stream"].as_bool().unwrap_or(false);
        self.model
            .as_ref()
            .is_none_or(|pattern| at("/model", pattern))
            && self.streaming.is_none_or(|wanted| wanted == streams)
            && self.json.iter().all(|(place, pattern)| at(place, pattern))
    }
}

impl WebRule {
    /// Whether the request's body decides.
    pub(super) fn wants_body(&self, head: &Head) -> bool {
        self.when.needs_body() && self.when.fits_head(head)
    }

    /// Whether it acts on this request. Counts those that fit.
    pub(super) fn chooses(&self, head: &Head, body: Option<&Value>, key: Key) -> bool {
        let fits = self.when.fits_head(head)
            && (!self.when.needs_body() || body.is_some_and(|body| self.when.fits_body(body)));
        if !fits {
            return false;
        }
        let number = self.fitted.fetch_add(1, Ordering::Relaxed) + 1;
        self.when.first.is_none_or(|first| number <= first)
            && self
                .when
                .every
                .is_none_or(|every| number.is_multiple_of(every.max(1)))
            && (self.probability >= 1.0 || key.unit(&self.name, b"request", 0) < self.probability)
    }
}
