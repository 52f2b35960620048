//! Served children of crates that the agent's crate must not know.

use squall_faults::serve::{Body, Child};
use squall_faults::sys::spawn;
use std::time::Duration;

/// The body of a kind.
pub fn body(kind: &str) -> Option<Body> {
    (kind == squall_model::proxying::SERVED).then_some(proxy as Body)
}

/// A proxy ends cleanly on TERM too: its last records are told first.
fn proxy(config: serde_json::Value, child: &Child) -> Result<(), String> {
    let signals = spawn::signals(&spawn::ENDING).map_err(|error| error.to_string())?;
    let mut stopped = |within: Duration| {
        let told = spawn::next_signal(&signals).is_ok_and(|signal| signal.is_some());
        told || child.stopped(within)
    };
    squall_proxy::served::serve(config, &mut || child.ready(), &mut stopped)
}
