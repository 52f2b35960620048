//! What the controller orders, and when it counts as lost.

use super::core::Agent;
use super::procs;
use super::training::Rate;
use crate::fault::Injectable;
use crate::protocol::{FromAgent, ToAgent, VERSION};
use std::sync::Arc;

/// A controller that is this far behind is lost.
const LOST: usize = 64 * 1024 * 1024;

impl<L: Injectable> Agent<L> {
    pub(super) fn hear_controller(&mut self) {
        if self.control.ended() {
            return;
        }
        let mut failed = self.control.fill().err().map(|error| error.to_string());
        while failed.is_none() {
            match self.control.next::<ToAgent>() {
                Ok(Some(message)) => self.obey(message),
                Ok(None) => break,
                Err(error) => failed = Some(error.to_string()),
            }
        }
        if self.control.ended() {
            failed = Some("its line to the agent ended".into());
        }
        if self.control.queued() > LOST {
            failed = Some("it does not read what it is told".into());
        }
        if procs::boot_ns() > self.lease_ns && self.ending.is_none() {
            failed = Some(format!(
                "it did not renew its lease for {} ms",
                self.options.lease_ms
            ));
        }
        if let Some(because) = failed {
            self.controller_lost = true;
            self.end(&format!("the controller was lost: {because}"));
        }
    }

    fn obey(&mut self, message: ToAgent) {
        self.lease_ns =
            procs::boot_ns().saturating_add(self.options.lease_ms.saturating_mul(1_000_000));
        if !self.greeted && !matches!(message, ToAgent::Hello { .. } | ToAgent::Renew) {
            return self.refuse("start", "the first message is not `hello`", "");
        }
        match message {
            ToAgent::Hello {
                v,
                seed,
                lease_ms,
                patterns_rate_max,
                ..
            } => self.greet(v, seed, lease_ms, patterns_rate_max),
            ToAgent::Renew => {}
            ToAgent::StartWorkload(spec) => self.start_workload(spec),
            ToAgent::EndWorkload => self.end_workload("the controller asked for it"),
            ToAgent::Arm(rule) => self.arm(rule),
            ToAgent::Disarm { rule } => self.disarm(rule, "it was disarmed"),
            ToAgent::Undo { injection } => self.undo_one(&injection, "the controller asked for it"),
            ToAgent::Finish { because } => self.end(&because),
        }
    }

    fn greet(&mut self, v: u32, seed: u64, lease_ms: u64, rate: u32) {
        if v != VERSION {
            let because = format!("this agent speaks version {VERSION} of the protocol, not {v}");
            return self.refuse(
                "hello",
                &because,
                "use the same version of squall on both sides",
            );
        }
        // No thread holds it yet: the first job starts after the greeting.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.seed = seed;
            shared
                .scope
                .get_mut()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .seed = seed;
        }
        self.options.lease_ms = lease_ms.clamp(100, 3_600_000);
        self.rate = Rate::new(u64::from(rate.max(1)));
        self.greeted = true;
        let facts = self.shared.facts.clone();
        self.send(&FromAgent::Hello {
            v: VERSION,
            pid: std::process::id(),
            facts,
        });
    }
}
