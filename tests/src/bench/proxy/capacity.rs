//! How many connections and how much at once, against the best that there is for each: nginx, and a thread for each way.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use super::peers::{nginx, threads};
use super::{BULK_TIME, bulk, connected, echo, source, start_squall};
use crate::bench::{Figure, median};
use crate::product::Desk;

const CONNECTS: usize = 1000;
/// 0.90 of the rate.
const CONNECT_TIME: f64 = 1.11;

/// Seconds that so many workers need for a number of connections: connect, 1 byte there and back, close.
fn connects(address: &str, workers: usize) -> anyhow::Result<f64> {
    let start = Instant::now();
    let threads: Vec<_> = (0..workers)
        .map(|_| {
            let address = address.to_owned();
            std::thread::spawn(move || -> anyhow::Result<()> {
                for _ in 0..CONNECTS / workers {
                    let mut client = connected(&address)?;
                    client.write_all(b"x")?;
                    client.read_exact(&mut [0; 1])?;
                }
                Ok(())
            })
        })
        .collect();
    joined(threads)?;
    Ok(start.elapsed().as_secs_f64())
}

fn joined(threads: Vec<std::thread::JoinHandle<anyhow::Result<()>>>) -> anyhow::Result<()> {
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a client failed"))??;
    }
    Ok(())
}

/// Medians of paired ratios; each goes first in every other round.
fn paired(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut theirs: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<[f64; 3]> {
    let (mut ratios, mut all) = (Vec::new(), [Vec::new(), Vec::new()]);
    for round in 0..rounds {
        let (our, their) = match round % 2 {
            0 => {
                let their = theirs()?;
                (ours()?, their)
            }
            _ => (ours()?, theirs()?),
        };
        ratios.push(our / their);
        all[0].push(our);
        all[1].push(their);
    }
    let [mut ours, mut theirs] = all;
    Ok([median(&mut ratios), median(&mut ours), median(&mut theirs)])
}

pub(super) fn connecting(desk: &Desk, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let upstream = echo()?;
    let (ours, theirs) = (start_squall(desk, &upstream)?, nginx(desk, &upstream)?);
    let mut figures = Vec::new();
    for workers in [1, 16] {
        let [ratio, our, their] = paired(
            rounds,
            || connects(&ours.address, workers),
            || connects(&theirs.address, workers),
        )?;
        let count = CONNECTS as f64;
        let how = format!(
            "connect, 1 byte, close, unpinned, log on; median of {rounds} paired ratios; {:.0} against {:.0} each second",
            count / our,
            count / their
        );
        let name = format!("proxy: time of a connection, {workers} at once");
        figures.push(Figure::at_most(&name, ratio, "× nginx", CONNECT_TIME, how));
    }
    Ok(figures)
}

/// Four streams at once: the relay with a thread for each way of each connection is the best floor there.
pub(super) fn bulk_of_four(desk: &Desk, rounds: usize) -> anyhow::Result<Figure> {
    let upstream = source()?;
    let (ours, floor) = (start_squall(desk, &upstream)?, threads(&upstream)?);
    let four = |address: &str| -> anyhow::Result<f64> {
        let start = Instant::now();
        let streams = (0..4).map(|_| {
            let address = address.to_owned();
            std::thread::spawn(move || bulk(&address).map(drop))
        });
        joined(streams.collect())?;
        Ok(start.elapsed().as_secs_f64())
    };
    let [ratio, our, their] = paired(rounds, || four(&ours.address), || four(&floor))?;
    let how = format!(
        "4 streams, unpinned, log on; median of {rounds} paired ratios; {:.0} ms against {:.0} ms",
        our * 1e3,
        their * 1e3
    );
    Ok(Figure::at_most(
        "proxy: time of 4 × 256 MiB",
        ratio,
        "× threads",
        BULK_TIME,
        how,
    ))
}
