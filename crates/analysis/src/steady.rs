//! Whether the steady state is back: by the probes taken after the last undo.

use crate::expect::{Answer, Findings, deviated, held, inconclusive};
use crate::num;
use squall_model::event::Stage;
use squall_model::units::Span;
use std::collections::{BTreeMap, BTreeSet};

impl Findings<'_> {
    /// Steady from the first probe, of each check, after the last one that did not hold.
    pub(crate) fn steady_within(&self, limit: Span) -> Answer {
        let from = self
            .injections
            .iter()
            .filter_map(|it| it.gone_ns.or(it.landed_ns))
            .max();
        let from = from.or(self.log.entered(Stage::Recovery));
        let Some(from) = from else {
            return inconclusive("nothing was undone");
        };
        let probes: Vec<_> = self
            .log
            .probes
            .iter()
            .filter(|it| it.check.starts_with("steady-state") && it.t_ns >= from)
            .collect();
        let checks: BTreeSet<&str> = probes.iter().map(|it| it.check).collect();
        if checks.is_empty() {
            return inconclusive("no steady-state probe was taken after the last undo");
        }
        let mut slowest = from;
        for check in checks {
            // Steady from the first probe after the last one that did not hold.
            let mut of = probes.iter().filter(|it| it.check == check).rev();
            let streak = of.by_ref().take_while(|it| it.held).last();
            match streak {
                Some(first) => slowest = slowest.max(first.t_ns),
                None => {
                    let last = probes.iter().rev().find(|it| it.check == check);
                    let measured = last.map_or("", |it| it.measured);
                    let watched = self.log.end_ns - from;
                    let words = format!("{check} did not hold again: {measured}");
                    return if watched >= limit.as_nanos() {
                        deviated(words)
                    } else {
                        inconclusive(words)
                    };
                }
            }
        }
        let took = slowest - from;
        let words = format!("steady again after {}", num::duration(took));
        if took <= limit.as_nanos() {
            held(words)
        } else {
            deviated(words)
        }
    }

    /// The last probe of each check in the recovery stage; `None` when that was not looked at or nothing runs any more.
    pub(crate) fn steady_at_the_end(&self) -> Option<Answer> {
        if self.log.work.ended.is_some() || self.cut_short() {
            return None;
        }
        let recovery =
            self.log.probes.iter().filter(|it| {
                it.stage == Some(Stage::Recovery) && it.check.starts_with("steady-state")
            });
        let mut last = BTreeMap::new();
        for probe in recovery {
            last.insert(probe.check, probe);
        }
        if last.is_empty() {
            return None;
        }
        Some(match last.values().find(|it| !it.held) {
            Some(it) => deviated(format!("{}: {}", it.check, it.measured)),
            None => held(num::plural(last.len(), "probe holds", "probes hold")),
        })
    }
}
