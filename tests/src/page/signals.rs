//! The signals of the long run.

use super::run::{LENGTH, RANKS, S, SPIKE};
use squall_analysis::run::Series;
use std::collections::BTreeMap;

/// Between two readings.
const TICK: u64 = 100_000_000;

/// Noise between 0 and 1 that is the same each time.
fn noise(tick: u64, salt: u64) -> f64 {
    let mixed = (tick ^ salt << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f64 / (1_u64 << 24) as f64
}

/// All signals: 26 of them, ten readings a second.
pub(super) fn series(outages: &[(u64, u64)]) -> Vec<Series> {
    let down = |t_ns: u64| {
        outages
            .iter()
            .any(|(from, to)| (*from..*to).contains(&t_ns))
    };
    let mut all = Vec::new();
    let mut add = |name: &str, unit: &str, rank: Option<u64>, value: &dyn Fn(u64, f64) -> f64| {
        let salt = all.len() as u64 + 1;
        let lost = name == "host.cpu";
        let mut series = Series {
            name: name.into(),
            labels: rank
                .map(|rank| {
                    BTreeMap::from([
                        ("rank".into(), rank.to_string()),
                        ("pid".into(), (4_000 + rank).to_string()),
                    ])
                })
                .unwrap_or_default(),
            unit: unit.into(),
            t_ns: Vec::new(),
            values: Vec::new(),
        };
        for tick in 0..LENGTH / TICK {
            let t_ns = tick * TICK;
            // The monitor was away for two minutes.
            if lost && (1_800 * S..1_920 * S).contains(&t_ns) {
                continue;
            }
            series.t_ns.push(t_ns);
            series.values.push(value(t_ns, noise(tick, salt)));
        }
        all.push(series);
    };
    for rank in 0..RANKS {
        let spike = move |t_ns: u64| rank == 2 && t_ns == SPIKE.1;
        add(
            SPIKE.0,
            "%",
            Some(rank),
            &|t, n| match (spike(t), down(t)) {
                (true, _) => SPIKE.2,
                (_, true) => 3.0 * n,
                _ => 82.0 + rank as f64 * 3.0 + 12.0 * n,
            },
        );
        add("process.rss", "bytes", Some(rank), &|t, n| {
            let base = if down(t) {
                0.4e9
            } else {
                5.2e9 + rank as f64 * 0.3e9
            };
            base + 2e7 * n
        });
        add("process.minor_faults", "1/s", Some(rank), &|_, n| {
            (900.0 * n * n * n).floor()
        });
        add("process.write", "bytes/s", Some(rank), &|t, n| {
            if down(t) { 0.0 } else { 4e6 * n * n }
        });
        add("process.threads", "", Some(rank), &|_, _| 14.0);
    }
    add("training.steps", "1/s", None, &|t, n| {
        if down(t) { 0.0 } else { 1.8 + 0.2 * n }
    });
    add("host.cpu", "%", None, &|t, n| {
        if down(t) { 9.0 * n } else { 350.0 + 40.0 * n }
    });
    add("host.memory_available", "bytes", None, &|_, n| {
        31e9 + 1e8 * n
    });
    add("host.load", "", None, &|_, n| 3.5 + n);
    add("host.disk_write", "bytes/s", None, &|_, n| 9e6 * n * n * n);
    add("host.network_out", "bytes/s", None, &|_, _| 0.0);
    all
}
