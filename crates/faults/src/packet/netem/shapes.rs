//! The qdiscs of a treatment, with their options as the kernel reads them.

use super::super::decide::{Draws, Shape};
use crate::packet::Treatment;
use crate::sys::netlink::Attributes;
use crate::sys::traffic_control as tc;

/// The most packets that wait in one interface.
const PACKETS_MAX: u32 = 1 << 20;
/// The head of a link and a tag.
const HEAD: u32 = 18;
/// Bytes a second that never hold a packet up: where a bucket only cuts large packets up.
const UNLIMITED: u64 = 100_000_000_000;
/// The entries of a table of deviations, and their unit.
const TABLE: u64 = 4096;
const UNIT: f64 = 8192.0;
/// The handles of our qdiscs. They are alone on an interface of ours.
pub(super) const OUTER: u32 = 0x5a00_0000;
pub(super) const INNER: u32 = 0x5a01_0000;

pub(super) type Shapes = Vec<(u32, u32, tc::Shape)>;

/// The qdiscs of a treatment, for packets of at most `mtu` bytes: handle, parent and shape, in the order in which they are made.
pub(super) fn shapes(treatment: &Treatment, mtu: u32, seed: u64) -> Option<Shapes> {
    let longest = mtu.saturating_add(HEAD);
    // Each packet has its own chance as it goes over the wire: a bucket that is never empty cuts up the large ones that kernels make.
    let cut = |netem| {
        let bucket = tbf(UNLIMITED, longest, u32::MAX);
        Some(vec![(OUTER, 0, bucket), (INNER, OUTER | 1, netem)])
    };
    match treatment {
        Treatment::Delay {
            delay_ns,
            jitter_ns,
            shape,
            correlation,
            may_overtake,
        } => {
            let mut more = Attributes::new()
                .bytes(10, &delay_ns.to_ne_bytes())
                .bytes(11, &jitter_ns.to_ne_bytes())
                .bytes(14, &seed.to_ne_bytes());
            if *jitter_ns > 0 {
                let correlations = [share(*correlation), 0, 0];
                more = more.bytes(1, &words(&correlations));
                if *shape != Shape::Uniform {
                    more = more.bytes(2, &table(*shape));
                }
                if !may_overtake {
                    // With a rate, netem reckons from the packet before; this one adds nothing.
                    more = more
                        .bytes(6, &words(&[u32::MAX, 0, 0, 0]))
                        .bytes(8, &UNLIMITED.to_ne_bytes());
                }
            }
            Some(vec![(OUTER, 0, netem(0, more))])
        }
        Treatment::Loss { chance } => cut(netem(
            share(*chance),
            Attributes::new().bytes(14, &seed.to_ne_bytes()),
        )),
        Treatment::Bursts {
            begin,
            end,
            loss_within,
            loss_outside,
        } => {
            let states = [
                share(*begin),
                share(*end),
                share(1.0 - loss_within),
                share(*loss_outside),
            ];
            let model = Attributes::new().bytes(2, &words(&states));
            let more = Attributes::new()
                .nested(5, model)
                .bytes(14, &seed.to_ne_bytes());
            cut(netem(0, more))
        }
        Treatment::Rate {
            bytes_per_second,
            burst,
            at_most_ns,
        } => {
            let wait = u128::from(*bytes_per_second) * u128::from(*at_most_ns) / 1_000_000_000;
            let waiting = wait.saturating_add(u128::from(*burst));
            let burst = u32::try_from(*burst).unwrap_or(u32::MAX).max(longest);
            let limit = u32::try_from(waiting).unwrap_or(u32::MAX).max(longest);
            Some(vec![(OUTER, 0, tbf(*bytes_per_second, burst, limit))])
        }
        Treatment::Duplicate { .. } | Treatment::Reorder { .. } | Treatment::Corrupt { .. } => None,
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A chance as netem counts it.
fn share(chance: f64) -> u32 {
    (chance.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32
}

fn netem(loss: u32, more: Attributes) -> tc::Shape {
    // struct tc_netem_qopt: delay, limit, loss, gap, duplicates, jitter; the times are in attributes, as nanoseconds.
    let options = Attributes::after(&words(&[0, PACKETS_MAX, loss, 0, 0, 0]));
    tc::Shape {
        kind: "netem",
        options: options.and(&more),
    }
}

fn tbf(bytes_per_second: u64, burst: u32, limit: u32) -> tc::Shape {
    let short = u32::try_from(bytes_per_second).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt: two struct tc_ratespec (the link is Ethernet's), limit, bucket and mtu in time, which attributes say better.
    let rate = [u32::from_ne_bytes([0, 1, 0, 0]), 0, short];
    let parameters = [&rate[..], &[0; 3], &[limit, 0, 0]].concat();
    let options = Attributes::new()
        .bytes(1, &words(&parameters))
        .bytes(4, &bytes_per_second.to_ne_bytes())
        .host(6, burst);
    tc::Shape {
        kind: "tbf",
        options,
    }
}

/// Deviations as netem draws them, made from our own.
fn table(shape: Shape) -> Vec<u8> {
    let entries = (0..TABLE).map(|at| {
        let deviation = shape.deviation(&mut Draws::new(at, 0));
        let limit = f64::from(i16::MAX);
        (deviation * UNIT).clamp(-limit, limit) as i16
    });
    entries.flat_map(i16::to_ne_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_whole_at_its_ends() {
        assert_eq!((share(0.0), share(1.0)), (0, u32::MAX));
    }

    #[test]
    fn a_table_has_the_mean_of_the_deviations_it_is_made_from() {
        for shape in [Shape::Normal, Shape::Pareto] {
            let bytes = table(shape);
            let entries = bytes
                .chunks_exact(2)
                .map(|pair| f64::from(i16::from_ne_bytes([pair[0], pair[1]])));
            let mean = entries.clone().sum::<f64>() / TABLE as f64 / UNIT;
            assert!(mean.abs() < 0.05, "{shape:?}: {mean}");
            assert_eq!(entries.count() as u64, TABLE);
        }
    }
}
