//! Probes that are one question: a TCP connection, a process, free disk space, progress of training.

use super::{Context, Probed, seconds};
use squall_faults::agent::procs::Known;
use squall_faults::agent::targets::{Scope, resolve};
use squall_model::experiment::{DiskFreeProbe, TcpProbe, TrainingEventProbe, Unit};
use squall_model::timing::Selector;
use squall_model::units::Bytes;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(2);

pub(super) fn tcp(probe: &TcpProbe) -> Probed {
    let within = probe.within.map_or(WITHIN, |span| span.0);
    let asked = Instant::now();
    let addresses = match look_up(&probe.address, within) {
        Ok(addresses) => addresses,
        Err(because) => return Probed::failed(format!("{}: {because}", probe.address)),
    };
    let mut last = String::from("the name has no address");
    for address in addresses {
        let left = within.saturating_sub(asked.elapsed());
        if left.is_zero() {
            last = format!("not accepted within {}", seconds(within));
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => {
                let took = asked.elapsed();
                let text = format!("{} accepted after {}", probe.address, seconds(took));
                return Probed::new(true, text, Some(took.as_secs_f64()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                last = format!("not accepted within {}", seconds(within));
            }
            Err(error) => last = error.to_string(),
        }
    }
    Probed::failed(format!("{}: {last}", probe.address))
}

/// Looking up a name cannot be bounded from outside, so a thread does it and is left behind if it takes too long.
fn look_up(address: &str, within: Duration) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    let (answer, answered) = channel();
    let name = address.to_owned();
    std::thread::Builder::new()
        .name("look-up".into())
        .spawn(move || {
            let found = name
                .to_socket_addrs()
                .map(Iterator::collect)
                .map_err(|error| error.to_string());
            // Whoever asked may have given up.
            answer.send(found).ok()
        })
        .map_err(|error| error.to_string())?;
    answered
        .recv_timeout(within)
        .unwrap_or_else(|_| Err(format!("its name was not found within {}", seconds(within))))
}

pub(super) fn alive(target: &Selector, context: &Context) -> Probed {
    let workload = context.board.workload().unwrap_or_default();
    let scope = Scope {
        mark: Some(context.board.run.0.clone()),
        root: workload.process.as_ref().map(|process| Known {
            pid: process.pid,
            start_time: process.start_time,
        }),
        announced: workload
            .ranks
            .into_iter()
            .filter_map(|(rank, pid)| Some((rank, Known::of(pid)?)))
            .collect(),
        own: [std::process::id()].into(),
        ..Scope::default()
    };
    match resolve(target, &scope) {
        Ok(found) => {
            let pids: Vec<String> = found
                .iter()
                .filter_map(|target| match target {
                    squall_faults::fault::Target::Process { identity, .. }
                    | squall_faults::fault::Target::Container { init: identity, .. } => {
                        Some(identity.pid.to_string())
                    }
                    _ => None,
                })
                .collect();
            let text = format!("alive: pid {}", pids.join(" "));
            Probed::new(!pids.is_empty(), text, Some(pids.len() as f64))
        }
        Err(none) => Probed::new(false, format!("not alive: {none}"), Some(0.0)),
    }
}

pub(super) fn disk(probe: &DiskFreeProbe, context: &Context) -> Probed {
    let path = context.path(&probe.path);
    match rustix::fs::statvfs(&path) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let text = format!("{} free ({} allowed at least)", size(free), probe.below);
            Probed::new(free >= probe.below.0, text, Some(free as f64))
        }
        Err(error) => {
            let error = std::io::Error::from(error);
            Probed::failed(format!(
                "the file system of {} cannot be read: {error}",
                path.display()
            ))
        }
    }
}

/// A size with three significant digits; the exact spelling of [`Bytes`] serves only round numbers.
pub(super) fn size(bytes: u64) -> String {
    let units = [("TiB", 40u32), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => Bytes(bytes).to_string(),
    }
}

/// Holds while the last event, or at first the workload's start, is not longer ago than allowed.
pub(super) fn training(probe: &TrainingEventProbe, context: &Context) -> Probed {
    let unit = match probe.every {
        Unit::Step => "step",
        Unit::Epoch => "epoch",
        Unit::Checkpoint => "checkpoint",
    };
    let found = context
        .board
        .of_workload(|workload| (workload.progress(probe.every), workload.started_ns));
    let Some((progress, started_ns)) = found else {
        return Probed::failed("no workload runs");
    };
    let now = context.board.clock.now_ns();
    let ago = Duration::from_nanos(now.saturating_sub(progress.last_ns.unwrap_or(started_ns)));
    let held = progress.last_ns.is_some() && ago <= probe.within.0;
    let text = match progress.last_ns {
        Some(_) => {
            let number = match progress.highest {
                0 => String::new(),
                highest => format!(" ({highest})"),
            };
            format!(
                "last {unit}{number} {} ago ({} allowed)",
                seconds(ago),
                probe.within
            )
        }
        None => format!("no {unit} yet, {} after the start", seconds(ago)),
    };
    Probed::new(held, text, Some(ago.as_secs_f64()))
}
