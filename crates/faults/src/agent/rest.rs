//! The agent's rest from the hooks: it reads what they sent in one go, every few milliseconds, instead of being woken by each sending.
//!
//! A sending that wakes somebody costs the trainer ten times as much as one that does not, and a context switch on a processor that
//! trains. Nothing is lost meanwhile: it waits in the kernel's buffer, also when its sender is killed. Nothing is late where it matters:
//! there is no rest near an aim, while an injection is under way or a process is held, and a rest only keeps the loop asleep:
//! whatever else wakes it, it hears the hooks first.

use super::core::Agent;
use super::hook::FromHook;
use crate::fault::Injectable;
use squall_model::event::Place;

/// Two steps of a fast trainer.
pub(super) const REST_NS: u64 = 20_000_000;
/// Bytes of one process in one reading beyond which there is no rest: a twelfth of what the kernel keeps for it.
const BUSY: usize = 16 * 1024;
/// An aim is near when training may reach it during a rest.
const NEAR_STEPS: u64 = 256;
const NEAR_EPOCHS: u64 = 1;
/// A moment so near that something may have to be decided by what the hooks say.
const SOON_NS: u64 = 100_000_000;

impl<L: Injectable> Agent<L> {
    /// After the hooks were heard: until when they may be left alone. `read`: the most bytes of one of them.
    pub(super) fn rest_from_hooks(&mut self, now_ns: u64, read: usize, said: &[FromHook]) {
        if said.is_empty() {
            return;
        }
        let events = |word: &FromHook| matches!(word, FromHook::Event { .. });
        let quiet = read < BUSY && said.iter().all(events);
        self.rest_until_ns = if quiet { now_ns + REST_NS } else { 0 };
    }

    /// Nanoseconds that the hooks are still left alone; None when each word of theirs is to be heard at once.
    pub(super) fn rest_left(&self, now_ns: u64) -> Option<u64> {
        let left = self.rest_until_ns.checked_sub(now_ns)?;
        let busy = self.jobs + self.undos > 0 || !self.waiting.is_empty() || self.ending.is_some();
        (left > 0 && !busy && !self.aim_is_near(now_ns)).then_some(left)
    }

    fn aim_is_near(&self, now_ns: u64) -> bool {
        let soon = |at: u64| at.saturating_sub(now_ns) < SOON_NS;
        if self.rules.next_deadline_ns().is_some_and(soon) {
            return true;
        }
        let (step, epoch) = (self.rules.high_step, self.rules.high_epoch);
        let mut armed = self.rules.armed.values().filter(|armed| !armed.disarmed);
        armed.any(|armed| {
            armed
                .trigger
                .next_place()
                .is_some_and(|place| is_near(&place, step, epoch))
        })
    }
}

/// Whether training, which has completed so much, may reach `place` during a rest. What names no unit may come at any time.
fn is_near(place: &Place, step: u64, epoch: u64) -> bool {
    let near = |unit: Option<u64>, done: u64, within: u64| {
        unit.is_none_or(|unit| unit <= done.saturating_add(within))
    };
    near(place.step, step, NEAR_STEPS) && near(place.epoch, epoch, NEAR_EPOCHS)
}

#[cfg(test)]
mod tests {
    use super::is_near;
    use squall_model::event::Place;

    #[test]
    fn an_aim_is_near_when_a_rest_could_pass_it() {
        let place = |step, epoch| Place {
            step,
            epoch,
            ..Place::default()
        };
        let near = [
            place(None, None),
            place(Some(640), None),
            place(Some(1), None),
            place(None, Some(10)),
        ];
        assert!(near.iter().all(|place| is_near(place, 640 - 256, 9)));
        let far = [place(Some(641), None), place(None, Some(11))];
        assert!(!far.iter().any(|place| is_near(place, 640 - 256, 9)));
    }
}
