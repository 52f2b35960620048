//! Which cells are run: the regular selection, everything, or random trials.

use super::cause::{CAUSES, KILL_AGENT};
use super::cell::{Cell, Moment};
use super::points::BOUNDARIES;
use super::squall::{WORKLOAD, WORKLOAD_OF_NOBODY};
use crate::catalogue::{class_name, kinds};
use squall_model::seed;

/// How long after its start a run is over at the latest when nobody interferes: uncoordinated strikes fall within.
pub const WINDOW_US: u64 = 450_000;

/// What is let loose: each fault of the catalogue, and the owned workload, with its class.
pub fn subjects() -> Vec<(String, String)> {
    let faults = kinds()
        .iter()
        .map(|info| (info.kind.to_owned(), class_name(info.class).to_owned()));
    let workloads =
        [WORKLOAD, WORKLOAD_OF_NOBODY].map(|name| (name.to_owned(), WORKLOAD.to_owned()));
    faults.chain(workloads).collect()
}

fn cell(subject: &(String, String), boundary: &str, cause: &str) -> Cell {
    Cell {
        number: 0,
        fault: subject.0.clone(),
        class: subject.1.clone(),
        cause: cause.to_owned(),
        moment: Moment::Boundary(boundary.to_owned()),
        env: Vec::new(),
    }
}

fn numbered(mut cells: Vec<Cell>) -> Vec<Cell> {
    for (number, cell) in cells.iter_mut().enumerate() {
        cell.number = number + 1;
    }
    cells
}

/// What is run regularly: each fault at each boundary once with the agent killed, and each cause twice per class.
pub fn regular(subjects: &[(String, String)]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for subject in subjects {
        cells.extend(
            BOUNDARIES
                .iter()
                .map(|boundary| cell(subject, boundary, KILL_AGENT)),
        );
    }
    let mut classes: Vec<&String> = subjects.iter().map(|(_, class)| class).collect();
    classes.sort();
    classes.dedup();
    // Strides without common factor with the nine boundaries: the two of a cause differ, and causes walk over all boundaries.
    let mut turn = 0;
    for class in classes {
        let members: Vec<_> = subjects
            .iter()
            .filter(|subject| subject.1 == **class)
            .collect();
        for cause in CAUSES.iter().filter(|cause| cause.name != KILL_AGENT) {
            for _ in 0..2 {
                let boundary = BOUNDARIES[(turn * 4 + 1) % BOUNDARIES.len()];
                cells.push(cell(members[turn % members.len()], boundary, cause.name));
                turn += 1;
            }
        }
    }
    numbered(cells)
}

/// Every fault at every boundary with every cause.
pub fn full(subjects: &[(String, String)]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for subject in subjects {
        for boundary in BOUNDARIES {
            cells.extend(
                CAUSES
                    .iter()
                    .map(|cause| cell(subject, boundary, cause.name)),
            );
        }
    }
    numbered(cells)
}

/// Random trials: kills of random holders, every second one at a boundary, the others at any time. Faults and boundaries take turns, so that
/// none is rare.
pub fn trials(subjects: &[(String, String)], count: usize, run_seed: u64) -> Vec<Cell> {
    let kills: Vec<_> = CAUSES
        .iter()
        .filter(|cause| cause.name.starts_with("kill-"))
        .collect();
    let mut cells = Vec::new();
    for trial in 0..count {
        let key = trial.to_le_bytes();
        let draw = |what: &[u8], len| seed::index(run_seed, &[what, &key], len);
        let subject = &subjects[(trial / 2) % subjects.len()];
        let round = trial / 2 / subjects.len();
        let boundary = BOUNDARIES[(round + draw_offset(run_seed, &subject.0)) % BOUNDARIES.len()];
        let mut cell = cell(subject, boundary, kills[draw(b"cause", kills.len())].name);
        if trial % 2 == 1 {
            let window = usize::try_from(WINDOW_US).unwrap_or(usize::MAX);
            cell.moment = Moment::Microseconds(draw(b"instant", window) as u64);
        }
        cells.push(cell);
    }
    numbered(cells)
}

fn draw_offset(run_seed: u64, subject: &str) -> usize {
    seed::index(run_seed, &[b"offset", subject.as_bytes()], BOUNDARIES.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_regular_selection_holds_what_is_promised() {
        let subjects = subjects();
        let cells = regular(&subjects);
        for (fault, class) in &subjects {
            for boundary in BOUNDARIES {
                let is_it = |cell: &&Cell| {
                    cell.fault == *fault
                        && cell.cause == KILL_AGENT
                        && cell.moment == Moment::Boundary(boundary.to_owned())
                };
                assert_eq!(cells.iter().filter(is_it).count(), 1, "{fault} {boundary}");
            }
            for cause in &CAUSES {
                let of_class: Vec<_> = cells
                    .iter()
                    .filter(|cell| cell.class == *class && cell.cause == cause.name)
                    .collect();
                assert!(of_class.len() >= 2, "{class} {}", cause.name);
                assert_ne!(of_class[0].name(), of_class[1].name());
            }
        }
    }

    #[test]
    fn enough_trials_hit_every_fault_and_every_boundary_often() {
        let subjects = subjects();
        // A thousand were enough for eight subjects.
        let count = 125 * subjects.len();
        let cells = trials(&subjects, count, 7);
        assert_eq!(cells, trials(&subjects, count, 7));
        let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
        let mut boundaries: BTreeMap<&str, usize> = BTreeMap::new();
        for cell in &cells {
            *faults.entry(&cell.fault).or_default() += 1;
            if let Moment::Boundary(boundary) = &cell.moment {
                *boundaries.entry(boundary).or_default() += 1;
            }
        }
        assert!(faults.values().all(|count| *count >= 100), "{faults:?}");
        assert!(
            boundaries.len() == BOUNDARIES.len() && boundaries.values().all(|count| *count >= 50),
            "{boundaries:?}"
        );
    }
}
