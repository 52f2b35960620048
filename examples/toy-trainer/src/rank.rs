//! One rank: how it joins the others, what it resumes from, and how it ends.

use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use serde_json::json;

use crate::checkpoint;
use crate::console::{complain, say};
use crate::data::{Data, Sampler};
use crate::failure::{Context, Failure, RANK_FAILED, Result};
use crate::hook::Place;
use crate::model::{initial_parameters, parameter_count};
use crate::observer::Observer;
use crate::optimizer::Adam;
use crate::options::{Bug, Options};
use crate::progress::{self, ProgressFile};
use crate::random::Random;
use crate::ring::Ring;
use crate::signal;
use crate::snapshot::Snapshot;
use crate::training::Trainer;

/// Stream number of the noise of rank 0; those of the others follow.
const NOISE_STREAM: u64 = 3 << 32;

/// What the supervisor tells a rank through its environment.
struct Environment {
    rank: usize,
    restart: u32,
    /// Port on which the supervisor collects the ports of the ranks.
    master_port: u16,
}

impl Environment {
    fn read() -> Result<Self> {
        fn number<T: std::str::FromStr>(name: &str) -> Result<T> {
            let value = std::env::var(name)
                .ok()
                .and_then(|value| value.parse().ok());
            value.ok_or_else(|| {
                Failure::usage(format!(
                    "a rank is started by its supervisor: {name} is not set"
                ))
            })
        }
        Ok(Self {
            rank: number("RANK")?,
            restart: number("RESTART")?,
            master_port: number("MASTER_PORT")?,
        })
    }
}

/// Trains as one rank; returns the exit code.
pub(crate) fn run(options: &Options) -> Result<u8> {
    signal::catch_termination().context("catching SIGTERM")?;
    let environment = Environment::read()?;
    let (rank, world) = (environment.rank as u32, options.world as u32);
    let mut observer = Observer::new(
        rank,
        world,
        environment.restart,
        options.phase_log.as_deref(),
    )?;
    match train(options, &environment, &mut observer) {
        Ok((code, at)) => {
            observer.enter_announcing("exit", at, &[("exit", json!({"code": code}))]);
            observer.leave("exit", at);
            Ok(code)
        }
        Err(failure) => {
            observer.hook.event("exit", json!({"code": failure.code}));
            Err(Failure {
                message: format!("rank {rank}: {failure}"),
                ..failure
            })
        }
    }
}

fn train(
    options: &Options,
    environment: &Environment,
    observer: &mut Observer,
) -> Result<(u8, Place)> {
    let rank = environment.rank;
    let mut ring = join(options, environment).context("joining the other ranks")?;
    let (snapshot, position) = resume(options, environment, observer)?;
    let steps = ring
        .all_gather(&snapshot.step.to_le_bytes())
        .context("comparing the resumed step")?;
    if steps
        .iter()
        .any(|step| *step != snapshot.step.to_le_bytes())
    {
        return Err(Failure::rank("the ranks resumed from different steps"));
    }
    let samples = options.world * options.batch * options.steps_per_epoch as usize;
    let sampler = Sampler::new(
        options.seed,
        options.steps_per_epoch as usize,
        options.world * options.batch,
        position,
    );
    let progress = if rank == 0 {
        Some(ProgressFile::open(&options.out)?)
    } else {
        None
    };
    let mut trainer = Trainer {
        options,
        rank,
        observer,
        ring,
        data: Data::generate(options.seed, samples),
        sampler,
        noise: Random::from_state(snapshot.noise[rank]),
        parameters: snapshot.parameters,
        optimizer: snapshot.optimizer,
        completed: snapshot.step,
        schedule_start: if options.has(Bug::LearningRate) {
            snapshot.step
        } else {
            0
        },
        progress,
    };
    let code = trainer.run()?;
    Ok((code, trainer.place()))
}

/// Makes this rank's port known, learns those of the others, and closes the ring.
fn join(options: &Options, environment: &Environment) -> std::io::Result<Ring> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let (rank, restart) = (environment.rank, environment.restart);
    let mut supervisor = TcpStream::connect((Ipv4Addr::LOCALHOST, environment.master_port))?;
    supervisor.write_all(format!("{restart} {rank} {port}\n").as_bytes())?;
    drop(supervisor);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let ports: Vec<u16> = line
        .split_whitespace()
        .filter_map(|port| port.parse().ok())
        .collect();
    if ports.len() != options.world {
        return Err(std::io::Error::other(
            "the supervisor did not say where the other ranks are",
        ));
    }
    leave_with_supervisor(rank);
    Ring::connect(rank, &ports, restart, &listener, options.peer_timeout)
}

/// Ends this process when the pipe from the supervisor closes: the supervisor is gone.
fn leave_with_supervisor(rank: usize) {
    std::thread::spawn(move || {
        let mut byte = [0];
        while std::io::stdin()
            .lock()
            .read(&mut byte)
            .is_ok_and(|read| read > 0)
        {}
        complain(format_args!("rank {rank}: the supervisor is gone"));
        #[expect(
            clippy::exit,
            reason = "the training thread may be blocked; nothing here needs a destructor"
        )]
        std::process::exit(RANK_FAILED.into());
    });
}

/// The state to start from, and the position of the sampler in it.
fn resume(
    options: &Options,
    environment: &Environment,
    observer: &mut Observer,
) -> Result<(Snapshot, u64)> {
    let rank = environment.rank;
    let fresh = fresh_state(options);
    if rank == 0 {
        checkpoint::remove_unnamed(&options.out)?;
    }
    let verify = !options.has(Bug::TornCheckpoint);
    let found = checkpoint::load(&options.out, &fresh, verify, rank == 0)?;
    let (mut snapshot, path) =
        found.map_or((fresh, None), |(snapshot, path)| (snapshot, Some(path)));
    let position = sampler_position(options, &snapshot, rank == 0);
    if path.is_some() && options.has(Bug::OptimizerState) {
        snapshot.optimizer = Adam::new(parameter_count());
    }
    let step = snapshot.step;
    let at = Place {
        step,
        epoch: step.div_ceil(options.steps_per_epoch),
    };
    let loaded = match &path {
        Some(path) => json!({"path": path.to_string_lossy()}),
        None => json!({}),
    };
    observer.event("checkpoint-loaded", at, loaded);
    if rank == 0 && (path.is_some() || environment.restart > 0) {
        say(format_args!("resumed from step {step}"));
    }
    Ok((snapshot, position))
}

fn fresh_state(options: &Options) -> Snapshot {
    let noise = (0..options.world as u64)
        .map(|rank| Random::new(options.seed, NOISE_STREAM + rank).state());
    Snapshot {
        step: 0,
        fingerprint: options.fingerprint(),
        parameters: initial_parameters(options.seed),
        optimizer: Adam::new(parameter_count()),
        sampler_position: 0,
        noise: noise.collect(),
    }
}

/// Where the sampler goes on: after a planned stop at the position that the progress file names, provided that the
/// checkpoint is of the same step; otherwise at the checkpoint's own.
fn sampler_position(options: &Options, snapshot: &Snapshot, speak: bool) -> u64 {
    let recorded = progress::read(&options.out);
    let planned = recorded
        .filter(|p| p.preempted && (p.step == snapshot.step || options.has(Bug::SaveHandler)));
    let lost = recorded.map_or(0, |p| p.step.saturating_sub(snapshot.step));
    if speak && planned.is_none() && lost > 0 {
        say(format_args!("repeating {lost} steps"));
    }
    let position = planned.map_or(snapshot.sampler_position, |p| p.sampler_position);
    // The batch that a prefetching loader would already hold counts as consumed.
    if snapshot.step > 0 && options.has(Bug::Samples) {
        position + 1
    } else {
        position
    }
}
