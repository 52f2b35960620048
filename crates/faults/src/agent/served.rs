//! A served child that ended by itself: what its injection had changed is taken back at once.

use super::core::Agent;
use crate::fault::Injectable;
use crate::undo::Undo;
use crate::undo::perform::locked;
use squall_model::event::Body;

impl<L: Injectable> Agent<L> {
    /// Undoes the injection whose child this was. A child that an undo ended is none of ours any more by then.
    pub(super) fn server_ended(&mut self, pid: u32, exit: Option<i32>, signal: Option<i32>) {
        if super::proxied::was(&self.shared, pid) {
            return self.proxy_ended(&how(exit, signal));
        }
        let is_its =
            |undo: &Undo| matches!(undo, Undo::EndProcess { process, .. } if process.pid == pid);
        let injection = locked(&self.shared.journal)
            .state()
            .outstanding()
            .find(|one| one.undos.iter().any(is_its))
            .map(|one| one.id.clone());
        let Some(injection) = injection else {
            return;
        };
        let because = format!("its served child was lost: {}", how(exit, signal));
        if self.rules.lasting.contains_key(&injection) {
            self.undo_one(&injection, &because);
        } else {
            // Its thread has not said yet that it lasts.
            self.rules.lost_early.insert(injection, because);
        }
    }

    /// Without its proxy a workload calls nobody, and what it does then says nothing.
    fn proxy_ended(&mut self, how: &str) {
        if self.ending.is_none() {
            self.event(Body::Lost {
                what: "proxy".into(),
                because: how.to_owned(),
            });
            self.end(&format!("the workload's proxy was lost: {how}"));
        }
    }
}

fn how(exit: Option<i32>, signal: Option<i32>) -> String {
    match (exit, signal) {
        (_, Some(signal)) => format!("signal {signal} ended it"),
        (Some(status), None) => format!("it exited with status {status}"),
        (None, None) => "how is unknown".to_owned(),
    }
}
