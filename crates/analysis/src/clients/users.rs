//! What users saw, with and without a fault: errors, cut-off answers, the time to the first token and between tokens.

use super::calls::calls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::exchange::Exchange;

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// So many …
    pub of: u64,
    /// … of these.
    pub all: u64,
}

/// What users saw of some calls.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Experience {
    /// `without a fault`, or the kind of fault.
    pub under: String,
    /// Calls that ended without a whole answer.
    pub failed: Share,
    /// Of those, calls whose last answer was cut off.
    pub cut_off: u64,
    /// Attempts beside the first of each call.
    pub retries: u64,
    /// Middle time to the first token in nanoseconds, from the first attempt on; absent when no token came.
    pub first_token_p50_ns: Option<u64>,
    /// The same, 95th percentile.
    pub first_token_p95_ns: Option<u64>,
    /// Middle of the longest wait between two tokens of each answer.
    pub longest_gap_p50_ns: Option<u64>,
    /// The same, 95th percentile.
    pub longest_gap_p95_ns: Option<u64>,
}

/// What users saw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Users {
    /// Requests that went through the proxy.
    pub requests: u64,
    /// Records of requests that were lost: the figures below are of the others.
    pub lost: u64,
    /// First without a fault, then by kind of fault.
    pub seen: Vec<Experience>,
}

/// Sums up what users saw. A call belongs to the first fault that acted on any of its attempts.
pub fn users(exchanges: &[Exchange], lost: u64) -> Users {
    let calls = calls(exchanges);
    let under = |call: &super::Call<'_>| {
        let mut fired = call.attempts.iter().flat_map(|one| &one.fired);
        fired
            .next()
            .map_or_else(|| NONE.to_owned(), |fired| fired.fault.clone())
    };
    let mut names: Vec<String> = calls
        .iter()
        .map(under)
        .filter(|name| name != NONE)
        .collect();
    names.sort();
    names.dedup();
    names.insert(0, NONE.to_owned());
    let seen = names.into_iter().map(|name| {
        let own: Vec<_> = calls.iter().filter(|call| under(call) == name).collect();
        let last_of = |call: &&super::Call<'_>| call.last().is_some_and(|last| !last.succeeded());
        let first_token = |call: &&super::Call<'_>| {
            let begun = call.attempts.first()?.asked_ns;
            let one = call
                .attempts
                .iter()
                .find(|one| one.first_token_ns.is_some())?;
            Some((one.asked_ns + one.first_token_ns?).saturating_sub(begun))
        };
        let firsts: Vec<u64> = own
            .iter()
            .copied()
            .filter_map(|call| first_token(&call))
            .collect();
        let gaps: Vec<u64> = own
            .iter()
            .filter_map(|call| call.last()?.longest_gap_ns)
            .collect();
        Experience {
            under: name,
            failed: Share {
                of: own.iter().copied().filter(|call| last_of(call)).count() as u64,
                all: own.len() as u64,
            },
            cut_off: own
                .iter()
                .filter(|call| call.last().is_some_and(Exchange::is_cut_off))
                .count() as u64,
            retries: own.iter().map(|call| call.attempts.len() as u64 - 1).sum(),
            first_token_p50_ns: quantile(&firsts, 0.5),
            first_token_p95_ns: quantile(&firsts, 0.95),
            longest_gap_p50_ns: quantile(&gaps, 0.5),
            longest_gap_p95_ns: quantile(&gaps, 0.95),
        }
    });
    Users {
        requests: exchanges.len() as u64,
        lost,
        seen: seen.collect(),
    }
}

/// What calls are under that met no fault.
pub(super) const NONE: &str = "without a fault";

/// The smallest value that at least this share does not exceed.
fn quantile(values: &[u64], share: f64) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied()
}
