//! Starts the ranks, notices when one is lost, and starts them all again from the last checkpoint.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::json;

use crate::console::say;
use crate::failure::{Context, Failure, GAVE_UP, Result, TERMINATED};
use crate::fleet::{Fleet, Outcome};
use crate::hook::{Hook, Identity};
use crate::options::Options;
use crate::signal;

/// Trains to the end with up to `max_restarts` restarts; returns the exit code.
pub(crate) fn run(options: &Options) -> Result<u8> {
    signal::catch_termination().context("catching SIGTERM")?;
    std::fs::create_dir_all(&options.out)
        .map_err(|error| Failure::usage(format!("--out {}: {error}", options.out.display())))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for ranks")?;
    listener
        .set_nonblocking(true)
        .context("listening for ranks")?;
    let identity = Identity {
        rank: None,
        world: None,
        restart: 0,
        role: "supervisor",
        phases: &[],
    };
    let mut hook = Hook::from_environment(&identity);
    let code = supervise(options, &listener, &mut hook)?;
    hook.event("exit", json!({"code": code}));
    Ok(code)
}

fn supervise(options: &Options, listener: &TcpListener, hook: &mut Hook) -> Result<u8> {
    let mut restart = 0;
    loop {
        let mut fleet = Fleet::start(options, restart, listener)?;
        if restart > 0 {
            hook.event("recovery", json!({"stage": "started"}));
        }
        let because = match fleet.watch() {
            Outcome::Finished => {
                say(format_args!("training finished"));
                return Ok(0);
            }
            Outcome::Preempted(because) | Outcome::Failed(because) => because,
        };
        if signal::termination_requested() {
            fleet.tear_down();
            say(format_args!("supervisor stopped by SIGTERM"));
            return Ok(TERMINATED);
        }
        hook.event("recovery", json!({"stage": "detected", "because": because}));
        fleet.tear_down();
        hook.event("recovery", json!({"stage": "torn-down"}));
        if let Some(code) = fleet.usage_failure() {
            return Ok(code);
        }
        if restart == options.max_restarts {
            say(format_args!("giving up after {restart} restarts"));
            return Ok(GAVE_UP);
        }
        restart += 1;
        say(format_args!("restarting all ranks, attempt {restart}"));
    }
}
