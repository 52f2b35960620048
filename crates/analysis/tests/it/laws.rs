//! Laws that hold for every run: of time, order, sums, samples and hostile text.

use crate::runs::*;
use crate::sim::*;
use proptest::prelude::*;
use squall_analysis::chart::{POINTS_MAX, reduce};
use squall_analysis::conclude;
use squall_analysis::recovery::Recovery;
use squall_analysis::run::Run;
use squall_analysis::same_result::Sameness;
use squall_analysis::sieve::Sieve;
use squall_model::event::{Body, Event, Precision};
use std::collections::BTreeMap;

fn any_run() -> impl Strategy<Value = Run> {
    (0u64..6, any::<bool>(), 0u64..200).prop_flat_map(|(kills, hook, jitter)| {
        proptest::collection::vec((1u64..STEPS + 1, 0u64..3_000), kills as usize)
            .prop_map(move |plan| random_run(&plan, hook, jitter))
    })
}

/// Kills after the planned steps, each with a recovery that takes an arbitrary time.
fn random_run(plan: &[(u64, u64)], hook: bool, jitter: u64) -> Run {
    let mut sim = Sim::new();
    sim.hook = hook;
    sim.reference();
    sim.begin();
    for (step, wait) in plan {
        sim.train(*step);
        sim.wait(jitter);
        sim.kill(
            *step,
            if hook {
                Precision::Held
            } else {
                Precision::Observed
            },
        );
        sim.wait(*wait);
        sim.recover();
    }
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.run()
}

fn durations(recovery: &Recovery) -> Recovery {
    let mut same = recovery.clone();
    same.start_ns = 0;
    for mark in &mut same.marks {
        mark.t_ns = 0;
    }
    same
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sieved_log_ends_with_the_same_report(run in any_run()) {
        for run in [within_processes(phased(&run)), phased(&run)] {
            prop_assert_eq!(conclude(&sieved(&run).0), conclude(&run));
        }
    }

    #[test]
    fn the_parts_of_each_recovery_add_up_to_its_whole(run in any_run()) {
        let report = conclude(&run);
        for it in &report.recoveries {
            prop_assert_eq!(it.segments.iter().map(|part| part.duration_ns).sum::<u64>(), it.total_ns);
            prop_assert_eq!(Some(it.total_ns), it.caught_up_ns);
        }
    }

    #[test]
    fn the_shares_of_time_add_up_to_the_wall_time(run in any_run()) {
        let report = conclude(&run);
        let time = report.training.unwrap().effectiveness.unwrap();
        prop_assert_eq!(time.shares.iter().map(|share| share.duration_ns).sum::<u64>(), time.to_ns - time.from_ns);
        prop_assert!((0.0..=1.0).contains(&time.ettr));
    }

    #[test]
    fn what_the_injections_cost_is_what_was_wasted(run in any_run()) {
        let report = conclude(&run);
        let training = report.training.unwrap();
        let repeated: u64 = report.recoveries.iter().map(|it| it.repeated.unwrap()).sum();
        prop_assert_eq!(repeated, training.wasted);
        prop_assert_eq!(training.kept, STEPS);
    }

    #[test]
    fn a_clean_trainer_is_never_called_different(run in any_run()) {
        let report = conclude(&run);
        prop_assert_eq!(report.same_result.sameness, Sameness::Same);
        prop_assert!(report.same_result.rungs.iter().all(|rung| rung.sameness != Sameness::Different));
    }

    #[test]
    fn a_later_start_changes_no_duration(run in any_run(), shift in 0u64..1_000_000_000_000) {
        let mut later = run.clone();
        for event in later.events.iter_mut().skip(1) {
            event.t_ns += shift;
        }
        let (a, b) = (conclude(&run), conclude(&later));
        prop_assert_eq!(
            a.recoveries.iter().map(durations).collect::<Vec<_>>(),
            b.recoveries.iter().map(durations).collect::<Vec<_>>()
        );
        prop_assert_eq!(&a.training.unwrap().effectiveness.unwrap().shares, &b.training.unwrap().effectiveness.unwrap().shares);
        prop_assert_eq!(a.verdict, b.verdict);
    }

    #[test]
    fn the_order_of_simultaneous_events_of_ranks_changes_nothing(run in any_run(), seed in any::<u64>()) {
        // Time is coarsened so that events of both ranks fall together, then ranks are interleaved anew.
        let mut coarse = run.clone();
        for event in &mut coarse.events {
            event.t_ns = event.t_ns / (20 * MS) * (20 * MS);
        }
        let shuffled = interleave(&coarse, seed);
        let (a, b) = (conclude(&coarse), conclude(&shuffled));
        prop_assert_eq!(a.recoveries, b.recoveries);
        prop_assert_eq!(a.same_result, b.same_result);
        prop_assert_eq!(a.verdict, b.verdict);
        let (a, b) = (a.training.unwrap(), b.training.unwrap());
        prop_assert_eq!((a.kept, a.wasted, a.high_water, a.attempts), (b.kept, b.wasted, b.high_water, b.attempts));
    }

    #[test]
    fn reduction_keeps_every_extreme(values in proptest::collection::vec(-1e12f64..1e12, 1..9_000), step in 1u64..1_000) {
        let points: Vec<(u64, f64)> = values.iter().enumerate().map(|(i, v)| (i as u64 * step, *v)).collect();
        let kept = reduce(&points, POINTS_MAX);
        let least = |points: &[(u64, f64)]| points.iter().map(|it| it.1).fold(f64::INFINITY, f64::min);
        let most = |points: &[(u64, f64)]| points.iter().map(|it| it.1).fold(f64::NEG_INFINITY, f64::max);
        prop_assert!(kept.len() <= POINTS_MAX);
        prop_assert_eq!(least(&points), least(&kept));
        prop_assert_eq!(most(&points), most(&kept));
        prop_assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
        prop_assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
    }

    #[test]
    fn any_single_wrong_sample_is_found(pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), how in 0u8..3) {
        let mut run = held();
        let lineage = final_sample_events(&run);
        let index = lineage[pick.index(lineage.len())];
        let Body::Training { event, .. } = &mut run.events[index].body else { unreachable!() };
        let ids = event.ids.as_mut().unwrap();
        let at = at.index(ids.len());
        match how {
            0 => { ids.remove(at); }
            1 => ids.push(ids[at]),
            _ => event.epoch = event.epoch.map(|epoch| epoch % EPOCHS + 1),
        }
        let report = conclude(&run);
        let samples = &report.same_result.rungs[1];
        prop_assert_eq!(samples.sameness, Sameness::Different, "{}", samples.evidence);
    }
}

/// Events of ranks in another order wherever their times are equal; each rank's own order is kept.
fn interleave(run: &Run, seed: u64) -> Run {
    let rank = |body: &Body| match body {
        Body::Training { rank, event, .. } if event.kind != "recovery" => Some(*rank),
        _ => None,
    };
    let mut run = run.clone();
    let mut events = Vec::new();
    for (number, group) in run
        .events
        .chunk_by(|a, b| a.t_ns == b.t_ns && rank(&a.body).is_some() && rank(&b.body).is_some())
        .enumerate()
    {
        let mut group = group.to_vec();
        // Stable: sorting by rank only moves ranks against each other.
        if (seed >> (number % 64)) & 1 == 1 {
            group.sort_by_key(|event| std::cmp::Reverse(rank(&event.body)));
        } else {
            group.sort_by_key(|event| rank(&event.body));
        }
        events.extend(group);
    }
    for (index, event) in events.iter_mut().enumerate() {
        event.seq = index as u64 + 1;
    }
    run.events = events;
    run
}

/// Indices of the sample events of the disturbed run that are not rolled back: the last of each rank and step.
fn final_sample_events(run: &Run) -> Vec<usize> {
    let mut last = BTreeMap::new();
    for (index, event) in run.events.iter().enumerate() {
        if let Body::Training {
            reference: false,
            rank,
            event,
            ..
        } = &event.body
            && event.kind == "sample-ids"
        {
            last.insert((*rank, event.step), index);
        }
    }
    last.into_values().collect()
}

/// What a sieve lets through, and how many events it took out.
fn sieved(run: &Run) -> (Run, usize) {
    let mut sieve = Sieve::default();
    run.events
        .iter()
        .cloned()
        .for_each(|event| sieve.take(event));
    let events = sieve.finish();
    let less = run.events.len() - events.len();
    let run = Run {
        events,
        ..run.clone()
    };
    (run, less)
}

/// The same run by a trainer that tells of three phases more in each step.
fn phased(run: &Run) -> Run {
    let mut events: Vec<Event> = Vec::new();
    let mut add = |event: &Event| {
        let seq = events.len() as u64 + 1;
        events.push(Event {
            seq,
            ..event.clone()
        });
    };
    for event in &run.events {
        add(event);
        let mut event = event.clone();
        if !matches!(&event.body, Body::Training { event, .. } if event.kind == "sample-ids") {
            continue;
        }
        for phase in ["forward", "backward", "all-reduce"] {
            for kind in ["phase-begin", "phase-end"] {
                if let Body::Training { event, .. } = &mut event.body {
                    (event.ids, event.kind, event.phase) = (None, kind.into(), Some(phase.into()));
                }
                event.t_ns += 1;
                add(&event);
            }
        }
    }
    Run {
        events,
        ..run.clone()
    }
}

/// The same run by a trainer that restarts within its processes and counts no restarts.
fn within_processes(mut run: Run) -> Run {
    for event in &mut run.events {
        if let Body::Training { pid, restart, .. } = &mut event.body {
            (*pid, *restart) = (None, 0);
        }
    }
    run
}

#[test]
fn a_sieved_log_ends_with_the_same_report() {
    let mut less = 0;
    for (name, run) in crate::golden::all() {
        for run in [within_processes(phased(&run)), phased(&run), run] {
            let (kept, fewer) = sieved(&run);
            assert_eq!(conclude(&kept), conclude(&run), "{name}");
            less += fewer;
        }
    }
    assert!(less > 1_000, "only {less} events were sieved out");
}

#[test]
fn a_log_that_breaks_off_among_phases_reaches_as_far_when_sieved() {
    let whole = phased(&held());
    for len in 1..400 {
        let mut run = whole.clone();
        run.events.truncate(len);
        let (kept, _) = sieved(&run);
        assert_eq!(conclude(&kept), conclude(&run), "{len} events");
    }
}
