//! How much of the wall time was training that counts.
//!
//! Effective training time ratio (ETTR) = P / W. W: from the start of the workload to its end. P: the durations of the
//! steps in the final lineage; a step lasts from the end of the one before (the first of an attempt: from the moment
//! its checkpoint was loaded or its first phase began) to its own end, less a checkpoint save that lay wholly in it.
//! ByteRobust (arXiv 2509.16293) counts the same way; Meta (arXiv 2410.21680) adds queueing to W, which does not occur
//! here. A stall inside a step counts as productive by this definition, so goodput is given beside it: steps in the
//! final lineage × their median time ÷ W.

use crate::lineage::{Attempt, Lineage, median};
use crate::log::Work;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One share of the wall time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// `productive`, `wasted`, `checkpoints`, `start-up`, `restarts`, `after-the-last-step`, `other`.
    pub name: String,
    /// What it is, in words.
    pub meaning: String,
    /// Its length in nanoseconds. All shares add up to the wall time.
    pub duration_ns: u64,
}

/// Where the wall time went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Effectiveness {
    /// Productive time ÷ wall time, 0 to 1.
    pub ettr: f64,
    /// Steps in the final lineage × median step time ÷ wall time, 0 to 1. Absent when no step time is known.
    pub goodput: Option<f64>,
    /// Start and end of the wall time, in nanoseconds since the run started.
    pub from_ns: u64,
    /// End of the wall time.
    pub to_ns: u64,
    /// What start and end are.
    pub definition: String,
    /// The shares of the wall time, productive first.
    pub shares: Vec<Share>,
    /// First steps of attempts whose beginning no event tells: their time counts as start-up or restart.
    pub unmeasured_steps: u64,
}

#[derive(Default)]
struct Sums {
    productive: u64,
    wasted: u64,
    checkpoints: u64,
    startup: u64,
    restarts: u64,
    after: u64,
    unmeasured: u64,
}

/// Where the wall time of the workload went; `None` when no step was completed or its wall time is not known.
pub(crate) fn effectiveness(
    work: &Work<'_>,
    lineage: &Lineage,
    log_end_ns: u64,
) -> Option<Effectiveness> {
    let first_event = lineage.attempts.first()?.start_ns;
    let from = work.started_ns.unwrap_or(first_event).min(first_event);
    let last_step = lineage
        .attempts
        .iter()
        .filter_map(Attempt::last_end_ns)
        .max()?;
    let to = work
        .ended
        .map_or(log_end_ns, |ended| ended.t_ns)
        .max(last_step);
    let wall = to - from;
    if wall == 0 || lineage.problem.is_some() {
        return None;
    }
    let sums = sums(lineage, from, to);
    let (kept, _) = lineage.kept_and_wasted();
    let times: Vec<u64> = lineage.step_times().iter().map(|(_, t)| *t).collect();
    let goodput = median(&times).map(|usual| kept as f64 * usual as f64 / wall as f64);
    let start = if work.started_ns.is_some() {
        "the workload's start"
    } else {
        "the first training event"
    };
    let end = if work.ended.is_some() {
        "the workload's end"
    } else {
        "the end of the record"
    };
    Some(Effectiveness {
        ettr: sums.productive as f64 / wall as f64,
        goodput: goodput.map(|share| share.min(1.0)),
        from_ns: from,
        to_ns: to,
        definition: format!(
            "time in {}s of the final lineage ÷ wall time, from {start} to {end}",
            lineage.unit.word()
        ),
        unmeasured_steps: sums.unmeasured,
        shares: sums.shares(wall),
    })
}

fn sums(lineage: &Lineage, from: u64, to: u64) -> Sums {
    let mut sums = Sums::default();
    // Time is walked once, left to right, so no moment is counted twice even where attempts overlap.
    let mut clock = from;
    for (index, attempt) in lineage.attempts.iter().enumerate() {
        let Some(first) = attempt.steps.first() else {
            continue;
        };
        let loaded = attempt.loaded.map(|(_, t_ns)| t_ns);
        let known = attempt
            .first_begun_ns
            .or(loaded)
            .filter(|t_ns| *t_ns <= first.t_ns);
        let begins = known.unwrap_or(first.t_ns);
        sums.unmeasured += u64::from(known.is_none());
        let idle = if index == 0 {
            &mut sums.startup
        } else {
            &mut sums.restarts
        };
        *idle += begins.saturating_sub(clock);
        clock = clock.max(begins);
        for end in &attempt.steps {
            let length = end.t_ns.saturating_sub(clock);
            let saving = saving_between(attempt, clock, end.t_ns).min(length);
            let part = if lineage.keeps(index, end.step) {
                &mut sums.productive
            } else {
                &mut sums.wasted
            };
            *part += length - saving;
            sums.checkpoints += saving;
            clock = clock.max(end.t_ns);
        }
    }
    sums.after = to.saturating_sub(clock);
    sums
}

/// Time of checkpoint saves that lie wholly between two step ends: training waited for them.
fn saving_between(attempt: &Attempt, from: u64, to: u64) -> u64 {
    let saves = attempt.saved.iter().filter_map(|saved| {
        let begun = saved.begun_ns?;
        (from <= begun && saved.renamed_ns <= to).then(|| saved.renamed_ns.saturating_sub(begun))
    });
    saves.sum()
}

impl Sums {
    fn shares(&self, wall: u64) -> Vec<Share> {
        let share = |name: &str, meaning: &str, duration_ns| Share {
            name: name.into(),
            meaning: meaning.into(),
            duration_ns,
        };
        let mut shares = vec![
            share(
                "productive",
                "steps that the final state grew from",
                self.productive,
            ),
            share("wasted", "steps that were rolled back", self.wasted),
            share(
                "checkpoints",
                "training waited for a checkpoint to be saved",
                self.checkpoints,
            ),
            share("start-up", "from the start to the first step", self.startup),
            share(
                "restarts",
                "from the last step before a restart to the first after it",
                self.restarts,
            ),
            share(
                "after-the-last-step",
                "from the last step to the end",
                self.after,
            ),
        ];
        let named: u64 = shares.iter().map(|share| share.duration_ns).sum();
        if named < wall {
            shares.push(share(
                "other",
                "not put down to any of the above",
                wall - named,
            ));
        }
        shares
    }
}
