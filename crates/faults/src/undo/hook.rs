//! Takes away programs of ours at TCX hooks, in whatever network namespace, whoever still holds their links.

use super::way::At;
use super::{UndoError, seen};
use crate::packet::tcx::where_hooked;
use crate::sys::traffic_control::Side;
use squall_model::event::{Observation, Presence};
use std::io;

/// Detaches every program of this name.
pub(super) fn detach(name: &str, at: At<'_>) -> Result<(), UndoError> {
    let detached = at.inside(|| {
        for (_, _, program) in where_hooked(name)? {
            program.detach()?;
        }
        Ok(())
    });
    detached.map(drop).map_err(|error: io::Error| {
        UndoError::new(
            format!("take the programs {name} from their hooks"),
            error,
            format!("end the process that holds them: grep -l link_type:.*tcx /proc/*/fdinfo/*   # then {}",
                at.command(&format!("bpftool net show   # must not show {name}"))),
        )
    })
}

/// Reads from the kernel at which hooks programs of this name are.
pub(super) fn presence(name: &str, at: At<'_>) -> Observation {
    let source = "kernel state";
    match at.inside(|| where_hooked(name)) {
        Err(error) => seen(
            Presence::Unknown,
            source,
            format!("programs {name}: {error}"),
        ),
        Ok(None) => seen(Presence::Absent, source, "the network namespace is gone"),
        Ok(Some(hooks)) if hooks.is_empty() => seen(
            Presence::Absent,
            source,
            format!("no program {name} at any TCX hook"),
        ),
        Ok(Some(hooks)) => {
            let hook = |(link, side, _): &(crate::sys::traffic_control::Link, Side, _)| {
                let way = match side {
                    Side::Ingress => "in",
                    Side::Egress => "out",
                };
                format!("{} ({way})", link.name)
            };
            let hooks: Vec<String> = hooks.iter().map(hook).collect();
            seen(
                Presence::Present,
                source,
                format!(
                    "eBPF program {name} at the TCX hooks of {}",
                    hooks.join(", ")
                ),
            )
        }
    }
}
