//! Attempts belong to one call: the same question, asked again after its last attempt had failed and was over.

use squall_model::exchange::Exchange;
use std::collections::BTreeMap;

/// An attempt that begins later than this after the last one's end is a call of its own, whatever it asks. Longer than any back-off of the SDKs,
/// and than most waits that services ask for.
const APART_NS: u64 = 130_000_000_000;

/// A call: one question, and every attempt to have it answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Call<'a> {
    /// In the order in which they began.
    pub attempts: Vec<&'a Exchange>,
}

impl<'a> Call<'a> {
    /// Each retry with the attempt before it.
    pub fn retries(&self) -> impl Iterator<Item = (&'a Exchange, &'a Exchange)> + '_ {
        self.attempts.windows(2).map(|pair| (pair[0], pair[1]))
    }

    /// The last attempt.
    pub fn last(&self) -> Option<&'a Exchange> {
        self.attempts.last().copied()
    }
}

/// Joins exchanges to calls. Identical questions that overlap stay apart, and so do those whose last answer was good: nobody retries that.
pub fn calls(exchanges: &[Exchange]) -> Vec<Call<'_>> {
    let mut sorted: Vec<&Exchange> = exchanges.iter().collect();
    sorted.sort_by_key(|one| (one.asked_ns, one.connection, one.request));
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut open: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for exchange in sorted {
        let candidates = open.entry(&exchange.question).or_default();
        let continues = |index: &usize| {
            calls[*index].last().is_some_and(|last| {
                let gap = exchange.asked_ns.checked_sub(last.over_ns());
                !last.succeeded()
                    && gap.is_some_and(|gap| gap <= APART_NS)
                    && follows(last, exchange)
            })
        };
        match candidates.iter().rposition(continues) {
            Some(at) => calls[candidates[at]].attempts.push(exchange),
            None => {
                candidates.push(calls.len());
                calls.push(Call {
                    attempts: vec![exchange],
                });
            }
        }
    }
    calls
}

/// A library that counts its own retries says when a call is a new one.
fn follows(last: &Exchange, next: &Exchange) -> bool {
    match (last.retry_count, next.retry_count) {
        // An application that asks again starts the count anew: a retry all the same.
        (Some(_), Some(0)) | (None, _) | (_, None) => true,
        (Some(before), Some(now)) => now > before,
    }
}
