//! Each mistake against the clues of a restart. The six rules exclude each other where everything was told.

use super::clues::{Clues, Stop};
use super::made::Cmp;
use super::{Mistake, Standing, Suspect};
use crate::num;

pub(super) fn all(clues: &Clues) -> Vec<Suspect> {
    let rules: [(Mistake, Rule); 6] = [
        (Mistake::TornCheckpoint, torn),
        (Mistake::SaveHandler, handler),
        (Mistake::Samples, samples),
        (Mistake::LearningRate, rate),
        (Mistake::Rank0State, rank0),
        (Mistake::OptimizerState, optimizer),
    ];
    rules
        .into_iter()
        .map(|(mistake, rule)| {
            let (standing, evidence) = rule(clues);
            Suspect {
                mistake,
                standing,
                evidence,
            }
        })
        .collect()
}

type Answer = (Standing, String);
type Rule = fn(&Clues) -> Answer;

fn fits(words: impl Into<String>) -> Answer {
    (Standing::Fits, words.into())
}
fn open(words: impl Into<String>) -> Answer {
    (Standing::Open, words.into())
}
fn out(words: impl Into<String>) -> Answer {
    (Standing::RuledOut, words.into())
}

fn first(clues: &Clues) -> String {
    num::thousands(clues.resumed + 1)
}

/// Every rank's loss at the first step is wrong; `None` when too little was told.
fn all_ranks_off(clues: &Clues) -> Option<bool> {
    let (same, other) = clues.first.ranks(&clues.first_twin);
    if same.is_empty() && other.is_empty() {
        // Only a shared loss: that it is right says that all are; that it is wrong says nothing about single ranks.
        return (clues.loss() == Cmp::Equal).then_some(false);
    }
    Some(same.is_empty())
}

/// Weights are wrong from the first step on, because what was loaded was not whole.
fn is_torn(clues: &Clues) -> bool {
    let jump = clues.jump.is_some_and(|jump| jump.is_one());
    let wrong = clues.loss() == Cmp::Differs && all_ranks_off(clues) != Some(false);
    // Other samples alone make another loss; then only a jump speaks.
    let cut_off = clues.unfinished || clues.mixed.is_some();
    wrong && (jump || (cut_off && clues.data() != Cmp::Differs))
}

fn torn(clues: &Clues) -> Answer {
    let step = first(clues);
    match clues.loss() {
        Cmp::Equal => {
            return out(format!(
                "the loss of step {step}, the first after the restart, is as without it, so the parameters came back whole"
            ));
        }
        Cmp::Unknown => return open(format!("the loss of step {step} was not told by both runs")),
        Cmp::Differs => {}
    }
    if !is_torn(clues) {
        let words = match all_ranks_off(clues) {
            Some(false) => {
                format!("at step {step} the loss of some rank is as without the restart")
            }
            _ => format!(
                "the loss of step {step} is not back towards the beginning, and no save was cut off"
            ),
        };
        // Small damage cannot be told from another cause that touches every rank.
        return if all_ranks_off(clues) != Some(false) && clues.data() != Cmp::Differs {
            open(words)
        } else {
            out(words)
        };
    }
    let mut words = Vec::new();
    if clues.unfinished {
        let path = clues.path.as_deref().unwrap_or("the file");
        words.push(format!(
            "the save of {path} had begun, and nothing tells that it ended, yet it was loaded"
        ));
    }
    if let Some((one, other)) = clues.mixed {
        words.push(format!(
            "files of step {} and of step {} were loaded together",
            num::thousands(one),
            num::thousands(other)
        ));
    }
    if let Some(jump) = clues.jump.filter(|jump| jump.share() > 0.0) {
        words.push(format!(
            "the loss of step {step} is {} instead of {} ({} of what was learned is gone)",
            num::significant(jump.loss),
            num::significant(jump.twin),
            num::percent(jump.share().clamp(0.0, 1.0))
        ));
    }
    fits(words.join("; "))
}

/// The samples are ahead of the weights, and nothing was saved where the job stopped.
fn ahead(clues: &Clues) -> Option<u64> {
    let ahead = clues.shift.filter(|shift| *shift > 0)?.unsigned_abs();
    (!clues.saved_at_stop && !is_torn(clues)).then_some(ahead)
}

/// Ahead by exactly the steps that were lost, after an orderly stop.
fn is_handler(clues: &Clues) -> bool {
    clues.stop == Stop::Orderly && ahead(clues) == Some(clues.lost())
}

/// It may be the handler: how the job stopped, or after which step, is not told.
fn may_be_handler(clues: &Clues) -> bool {
    let untold = !clues.whole && ahead(clues).is_some();
    let exactly = clues.stop == Stop::Unknown && ahead(clues) == Some(clues.lost());
    // What was renamed at the stop was not what the job went on from: a note of where it stopped, perhaps.
    let by_shift = clues
        .shift
        .filter(|shift| *shift > 0)
        .map(i64::unsigned_abs);
    let noted = clues.stop != Stop::Vanished
        && clues.saved_at_stop
        && !is_torn(clues)
        && by_shift == Some(clues.lost());
    !is_handler(clues) && (untold || exactly || noted)
}

fn handler(clues: &Clues) -> Answer {
    let stop = clues.completed.map_or("an unknown step".into(), |step| {
        format!("step {}", num::thousands(step))
    });
    if is_handler(clues) {
        return fits(format!(
            "all ranks left by themselves after {stop}, no checkpoint of it was put in place, and the job went on with the weights of step {} but the samples after {stop}",
            num::thousands(clues.resumed)
        ));
    }
    if may_be_handler(clues) {
        return open(format!(
            "the samples are ahead of the weights, as if the job had gone on after {stop}; whether it stopped there by itself is not told"
        ));
    }
    if clues.stop == Stop::Vanished {
        return out("the job did not stop by itself: a rank vanished without a word");
    }
    if clues.saved_at_stop {
        return out(format!(
            "when the job stopped by itself it saved a checkpoint of {stop}"
        ));
    }
    match clues.data() {
        Cmp::Unknown => open(
            "the job stopped by itself without saving, and no event names the samples it went on with",
        ),
        Cmp::Equal => out("the samples after the restart are those that belong to its weights"),
        Cmp::Differs => out(format!(
            "the samples after the restart are not those after {stop}"
        )),
    }
}

fn samples(clues: &Clues) -> Answer {
    let step = first(clues);
    match clues.data() {
        Cmp::Equal => out(format!(
            "step {step} used the same samples as without the restart"
        )),
        Cmp::Unknown => open("no event names the samples of both runs"),
        Cmp::Differs if is_torn(clues) => out(
            "the samples are others, but the parameters are wrong too, which samples do not explain",
        ),
        Cmp::Differs if is_handler(clues) => {
            out("the samples are exactly those after the place where the job had stopped by itself")
        }
        Cmp::Differs if may_be_handler(clues) => open(
            "the samples are ahead of the weights; whether the job had stopped there by itself is not told",
        ),
        Cmp::Differs => fits(match clues.shift {
            Some(ahead @ 1..) => format!(
                "step {step} used the samples of step {}: {} skipped",
                num::thousands(clues.resumed + 1 + ahead.unsigned_abs()),
                num::plural(ahead.unsigned_abs() as usize, "batch", "batches")
            ),
            Some(behind) => format!(
                "step {step} used the samples of {} before: they were used twice",
                num::plural(behind.unsigned_abs() as usize, "step", "steps")
            ),
            None => {
                format!("step {step} used samples that no step near it has without the restart")
            }
        }),
    }
}

fn rate(clues: &Clues) -> Answer {
    let step = first(clues);
    let told = |made: &super::made::Made| made.told(|it| it.lr).map(num::significant);
    match clues.lr() {
        Cmp::Equal => out(format!(
            "the learning rate of step {step} is as without the restart"
        )),
        Cmp::Unknown if clues.loss() == Cmp::Differs => out(format!(
            "the loss differs at step {step} already, before the learning rate of any step after the restart could matter"
        )),
        Cmp::Unknown => open("the learning rate was not told"),
        Cmp::Differs if clues.loss() == Cmp::Differs || clues.data() == Cmp::Differs => {
            out(format!(
                "the learning rate is another one, but step {step} had other samples or another loss before it was used"
            ))
        }
        Cmp::Differs => fits(format!(
            "the learning rate of step {step} is {} instead of {}, while its loss is as without the restart",
            told(&clues.first).unwrap_or_default(),
            told(&clues.first_twin).unwrap_or_default()
        )),
    }
}

fn rank0(clues: &Clues) -> Answer {
    let step = first(clues);
    let (same, other) = clues.first.ranks(&clues.first_twin);
    if clues.data() == Cmp::Differs {
        return out(format!(
            "step {step} used other samples, so no rank's loss can be compared"
        ));
    }
    if same.is_empty() && other.is_empty() {
        return match clues.loss() {
            Cmp::Equal => out(format!("the loss of step {step} is as without the restart")),
            _ if is_torn(clues) => {
                out("too much of what was learned is gone for random state alone")
            }
            _ => open("the ranks do not tell a loss of their own"),
        };
    }
    if other.is_empty() {
        return out(format!(
            "the loss of every rank at step {step} is as without the restart"
        ));
    }
    if same == [clues.writer] {
        let names: Vec<String> = other.iter().map(u32::to_string).collect();
        let who = if names.len() == 1 { "rank" } else { "ranks" };
        return fits(format!(
            "at step {step}, with the same samples, the loss of rank {}, which saves the checkpoints, is as without the restart, and that of {who} {} is not",
            clues.writer,
            crate::words::list(&names)
        ));
    }
    if same.is_empty() {
        return out(format!(
            "at step {step} the loss of rank {} is wrong as well",
            clues.writer
        ));
    }
    open(format!(
        "at step {step} the loss of some ranks is wrong, but they are not all but the one that saves"
    ))
}

fn optimizer(clues: &Clues) -> Answer {
    let (one, two) = (clues.resumed + 1, clues.resumed + 2);
    let step = num::thousands(one);
    if clues.loss() == Cmp::Differs
        || all_ranks_off(clues) == Some(true)
        || !clues.first.ranks(&clues.first_twin).1.is_empty()
    {
        return out(format!(
            "the loss differs at step {step} already, before the optimiser had moved anything"
        ));
    }
    if clues.data() == Cmp::Differs {
        return out(format!("step {step} used other samples"));
    }
    if clues.gradient() == Cmp::Differs {
        return out(format!("the gradient of step {step} differs already"));
    }
    if clues.lr() == Cmp::Differs {
        return out("the learning rate is another one, which explains it");
    }
    if clues.loss() == Cmp::Unknown {
        return open(format!("the loss of step {step} was not told by both runs"));
    }
    if clues.loss_parted != Some(two) {
        return out(format!(
            "the loss does not part at step {}, right after the first update",
            num::thousands(two)
        ));
    }
    if clues.lr() == Cmp::Unknown {
        return open(
            "the loss parts right after the first update, but the learning rate was not told",
        );
    }
    let gradient = if clues.gradient() == Cmp::Equal {
        ", gradient"
    } else {
        ""
    };
    fits(format!(
        "loss{gradient} and learning rate of step {step} are as without the restart, and after its update the loss of step {} is not",
        num::thousands(two)
    ))
}
