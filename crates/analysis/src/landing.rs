//! What each injection was meant to do, where it landed, whether it is gone, and how either is known.
//!
//! Only what was read back counts: a landing without an observation that saw the change is not proven, and a change is
//! gone only when a reading after the undo did not find it.

use crate::lineage::{Lineage, median};
use crate::log::{Gone as Ending, Injected, Landing, Log};
use crate::num;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Place, Precision, Presence};
use squall_model::id::{InjectionId, RuleId};
use squall_model::syntax::Class;

/// Whether an injection landed, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Landed {
    /// At its aim: the process was held there, or the rule aims at no place.
    OnAim,
    /// Nothing was held; it landed near its aim, as far as events tell.
    Near,
    /// The hold ran into its deadline first.
    Late,
    /// Somewhere else than it was aimed at.
    Missed,
    /// It is said to have landed, but no reading of the world saw it.
    NotProven,
    /// It failed, or could not be shown to have acted.
    NotLanded,
    /// The log ends before it says.
    Unknown,
}

/// Whether an injection's change is out of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gone {
    /// One-shot: there is nothing to undo.
    NothingToUndo,
    /// Undone, and not found afterwards.
    Gone,
    /// The workload has itself replaced what was changed.
    Superseded,
    /// Undone, but it could not be read back.
    Unknown,
    /// Undone by the log, yet found afterwards.
    StillPresent,
    /// The undo failed; a person has to act.
    Stuck,
    /// No undo is recorded.
    Outstanding,
}

/// One injection as the report shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InjectionReport {
    /// Its id.
    pub id: InjectionId,
    /// The rule it belongs to, from 0 in file order.
    pub rule: RuleId,
    /// Name of the step, if the file gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The fault, e.g. `process-kill`.
    pub kind: String,
    /// What kind of undo it has.
    pub class: Class,
    /// What it acted on, in words.
    pub target: String,
    /// How it acted.
    pub mechanism: String,
    /// When it was to act, in words.
    pub aim: String,
    /// Where it was to land.
    pub aimed: Place,
    /// When it began to act: nanoseconds since the run started.
    pub begun_ns: u64,
    /// When it was read back: nanoseconds since the run started.
    pub landed_ns: Option<u64>,
    /// Whether it landed.
    pub landed: Landed,
    /// Where it landed.
    pub place: Option<Place>,
    /// How it was timed.
    pub precision: Option<Precision>,
    /// How long a process was held for it, in nanoseconds.
    pub held_ns: Option<u64>,
    /// Completed units between aim and landing, where both are known.
    pub steps_off: Option<i64>,
    /// Whether and where it landed, and how we know, in words.
    pub landed_words: String,
    /// Readings of the world after the injection.
    pub landed_observations: Vec<Observation>,
    /// When its undo was read back: nanoseconds since the run started.
    pub gone_ns: Option<u64>,
    /// Whether it is gone.
    pub gone: Gone,
    /// Whether it is gone, and how we know, in words.
    pub gone_words: String,
    /// Readings of the world after the undo.
    pub gone_observations: Vec<Observation>,
    /// What a person is to type or do, when something is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Landed {
    /// Whether it acted at all.
    pub fn acted(self) -> bool {
        matches!(
            self,
            Landed::OnAim | Landed::Near | Landed::Late | Landed::Missed
        )
    }
    /// Whether it asked the question that the file asks.
    pub fn as_aimed(self) -> bool {
        matches!(self, Landed::OnAim | Landed::Near)
    }
}

impl Gone {
    /// Whether something may still be injected.
    pub fn is_left(self) -> bool {
        matches!(self, Gone::StillPresent | Gone::Stuck | Gone::Outstanding)
    }
}

/// Every injection of the run, in the order in which they began.
pub(crate) fn injections(log: &Log<'_>, lineage: Option<&Lineage>) -> Vec<InjectionReport> {
    let interval = lineage.and_then(|it| median(&it.checkpoint_gaps()));
    log.injections
        .iter()
        .map(|it| report(log, it, interval))
        .collect()
}

fn report(log: &Log<'_>, injected: &Injected<'_>, interval: Option<u64>) -> InjectionReport {
    let rule = log.rules.get(&injected.rule);
    let (landed, words) = landing(injected, interval);
    let (gone, gone_words, remedy) = gone(injected);
    let (place, precision, held_ns) = match &injected.landing {
        Some((
            _,
            Landing::Landed {
                place,
                precision,
                held_ns,
            },
            _,
        )) => (Some((*place).clone()), Some(*precision), *held_ns),
        _ => (None, None, None),
    };
    InjectionReport {
        id: injected.id.clone(),
        rule: injected.rule,
        name: rule.and_then(|rule| rule.name).map(str::to_owned),
        kind: injected.kind.to_owned(),
        class: injected.class,
        target: injected.target.to_owned(),
        mechanism: injected.mechanism.to_owned(),
        aim: rule.map_or_else(|| place_words(injected.aim), |rule| rule.aim.to_owned()),
        aimed: injected.aim.clone(),
        begun_ns: injected.begun_ns,
        landed_ns: injected.landing.as_ref().map(|(t_ns, ..)| *t_ns),
        landed,
        steps_off: place
            .as_ref()
            .and_then(|place| steps_off(injected.aim, place)),
        place,
        precision,
        held_ns,
        landed_words: words,
        landed_observations: observations(injected.landing.as_ref().map(|(_, _, seen)| *seen)),
        gone_ns: injected.gone.map(|(t_ns, ..)| t_ns),
        gone,
        gone_words,
        gone_observations: observations(injected.gone.map(|(_, _, seen)| seen)),
        remedy,
    }
}

fn observations(seen: Option<&[Observation]>) -> Vec<Observation> {
    seen.unwrap_or_default().to_vec()
}

fn landing(injected: &Injected<'_>, interval: Option<u64>) -> (Landed, String) {
    let (place, precision, held_ns, seen) = match &injected.landing {
        None => {
            return (
                Landed::Unknown,
                "the record ends before it says whether it landed".into(),
            );
        }
        Some((_, Landing::Not { because }, _)) => {
            return (Landed::NotLanded, format!("did not land: {because}"));
        }
        Some((
            _,
            Landing::Landed {
                place,
                precision,
                held_ns,
            },
            seen,
        )) => (*place, *precision, *held_ns, *seen),
    };
    let Some(proof) = proof(seen, &[Presence::Present, Presence::Superseded]) else {
        return (
            Landed::NotProven,
            "said to have landed, but no reading of the world saw it".into(),
        );
    };
    let at = place_words(place);
    let at = if at.is_empty() {
        String::new()
    } else {
        format!(" in {at}")
    };
    let held = held_ns.map_or(String::new(), |ns| {
        format!(" after holding it for {}", num::duration(ns))
    });
    let off = steps_off(injected.aim, place);
    let distance = match off {
        Some(0) | None => String::new(),
        Some(n) => format!(
            ", {} {} its aim",
            num::plural(n.unsigned_abs() as usize, "step", "steps"),
            if n > 0 { "after" } else { "before" }
        ),
    };
    let state = judge(injected.aim, place, precision, off, interval);
    let how = match state {
        Landed::OnAim if precision == Precision::NotAimed => format!("landed{at}"),
        Landed::OnAim => format!("landed{at} as aimed{held}"),
        Landed::Late => format!("landed late{at}: the hold ran into its deadline{distance}"),
        Landed::Missed => format!("missed its aim: landed{at}{distance}"),
        _ => format!("landed{at}{distance}; nothing held the process"),
    };
    (state, format!("{how} · {proof}"))
}

/// Compares aim and place. Without a hold an aim that names no phase is met *nearly* when it landed after the aim and
/// within one checkpoint interval (or in the aimed or the next epoch): farther off, another question was asked.
fn judge(
    aim: &Place,
    place: &Place,
    precision: Precision,
    off: Option<i64>,
    interval: Option<u64>,
) -> Landed {
    let aimed = aim.step.is_some() || aim.epoch.is_some() || aim.phase.is_some();
    if precision == Precision::NotAimed || !aimed {
        return Landed::OnAim;
    }
    let differs =
        |aim: Option<u32>, place: Option<u32>| matches!((aim, place), (Some(a), Some(b)) if a != b);
    if precision == Precision::Late {
        return Landed::Late;
    }
    let held = precision == Precision::Held;
    let phase = if held {
        aim.phase.as_deref()
    } else {
        inner_phase(aim)
    };
    if differs(aim.rank, place.rank) || (phase.is_some() && phase != place.phase.as_deref()) {
        return Landed::Missed;
    }
    if aim.step.is_some() {
        let most = if held {
            0
        } else {
            interval.map_or(i64::MAX, |n| i64::try_from(n).unwrap_or(i64::MAX))
        };
        return match off {
            Some(n) if (0..=most).contains(&n) => {
                if held {
                    Landed::OnAim
                } else {
                    Landed::Near
                }
            }
            _ => Landed::Missed,
        };
    }
    match (aim.epoch, place.epoch) {
        (Some(a), Some(b)) if a == b => {
            if held {
                Landed::OnAim
            } else {
                Landed::Near
            }
        }
        // The epoch after the aimed one is in progress: the aimed one has ended.
        (Some(a), Some(b)) if phase.is_none() && b == a + 1 && !held => Landed::Near,
        (Some(_), _) => Landed::Missed,
        (None, _) => {
            if held {
                Landed::OnAim
            } else {
                Landed::Near
            }
        }
    }
}

/// The phase that an aim names inside a step or epoch. An end is none: what has ended once has ended for good, so an
/// aim at it that nothing held is judged by how far off it landed.
fn inner_phase(aim: &Place) -> Option<&str> {
    aim.phase
        .as_deref()
        .filter(|phase| !matches!(*phase, "step-end" | "epoch-end"))
}

/// Steps between aim and place. Without a phase an aim means that the step has completed: a step in progress is then
/// one more than the completed ones, except in the phases that follow a step's end.
fn steps_off(aim: &Place, place: &Place) -> Option<i64> {
    let (aimed, landed) = (aim.step?, place.step?);
    let after_end = matches!(
        place.phase.as_deref(),
        Some("step-end" | "epoch-end" | "evaluation" | "exit")
    ) || place
        .phase
        .as_deref()
        .is_some_and(|phase| phase.starts_with("checkpoint"));
    let landed = if inner_phase(aim).is_some() || after_end || landed <= aimed {
        landed
    } else {
        landed - 1
    };
    i64::try_from(landed)
        .ok()?
        .checked_sub(i64::try_from(aimed).ok()?)
}

fn gone(injected: &Injected<'_>) -> (Gone, String, Option<String>) {
    let one_shot = injected.class == Class::OneShot;
    let never_acted = matches!(injected.landing, Some((_, Landing::Not { .. }, _)));
    match &injected.gone {
        Some((_, Ending::Stuck { because, remedy }, _)) => (
            Gone::Stuck,
            format!("still there: the undo failed, because {because}"),
            Some((*remedy).to_owned()),
        ),
        Some((_, Ending::Undone { by }, seen)) => undone(by, seen),
        None if one_shot && (injected.landing.is_some()) && injected.undo_begun_ns.is_none() => {
            let words = if never_acted {
                "nothing to undo: it did not land"
            } else {
                "nothing to undo: it acts once"
            };
            (Gone::NothingToUndo, words.into(), None)
        }
        None => (
            Gone::Outstanding,
            "no undo is recorded, so it may still be there".into(),
            Some("squall undo --all".into()),
        ),
    }
}

fn undone(by: &str, seen: &[Observation]) -> (Gone, String, Option<String>) {
    if let Some(proof) = proof(seen, &[Presence::Present]) {
        let words = format!("undone by the {by}, yet it was found afterwards · {proof}");
        return (Gone::StillPresent, words, Some("squall undo --all".into()));
    }
    let unread = seen.is_empty() || seen.iter().any(|it| it.presence == Presence::Unknown);
    if unread {
        return (
            Gone::Unknown,
            format!("undone by the {by}, but it could not be read back"),
            None,
        );
    }
    if let Some(proof) = proof(seen, &[Presence::Superseded]) {
        let words = format!("superseded: the workload has itself replaced it · {proof}");
        return (Gone::Superseded, words, None);
    }
    let proof = proof(seen, &[Presence::Absent]).unwrap_or_default();
    (Gone::Gone, format!("undone by the {by} · {proof}"), None)
}

/// The first observation of one of these presences, as `source: evidence`.
fn proof(seen: &[Observation], presences: &[Presence]) -> Option<String> {
    let found = seen.iter().find(|it| presences.contains(&it.presence))?;
    Some(format!("{}: {}", found.source, found.evidence))
}

/// `step 640, epoch 10, phase epoch-end, rank 1`; empty when nothing is known.
pub fn place_words(place: &Place) -> String {
    let parts = [
        place.step.map(|n| format!("step {}", num::thousands(n))),
        place.epoch.map(|n| format!("epoch {}", num::thousands(n))),
        place.phase.as_ref().map(|name| format!("phase {name}")),
        place.rank.map(|n| format!("rank {n}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
