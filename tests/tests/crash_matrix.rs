//! The crash matrix is proven able to see: a broken undo is a leftover, a boundary that is not reached is a failure. And what the matrix itself
//! does not run: every fault at every boundary with the guard killed, so that the agent must undo, and with everybody killed.

use squall_tests::catalogue::{class_name, kinds};
use squall_tests::crash::cell::{Cell, Ended, Moment, Verdict};
use squall_tests::crash::points::BOUNDARIES;
use squall_tests::crash::report::Report;
use squall_tests::crash::squall::Squall;
use squall_tests::crash::{pool, select};

fn run(cells: &[Cell]) -> Vec<Ended> {
    let program = Squall::beside_us().unwrap_or_else(|error| panic!("{error:#}"));
    pool::run(cells, &program, 2, |_| {}).unwrap_or_else(|error| panic!("{error:#}"))
}

fn cell(fault: &str, boundary: &str, cause: &str) -> Cell {
    let (_, class) = select::subjects()
        .into_iter()
        .find(|(name, _)| name == fault)
        .unwrap_or_else(|| panic!("there is no {fault}"));
    Cell {
        number: 1,
        fault: fault.to_owned(),
        class,
        cause: cause.to_owned(),
        moment: Moment::Boundary(boundary.to_owned()),
        env: Vec::new(),
    }
}

#[test]
fn a_broken_undo_is_reported_as_a_leftover_and_a_working_one_is_not() {
    let lasting = kinds()
        .iter()
        .filter(|info| class_name(info.class) == "lasting");
    for info in lasting {
        for cause in ["kill-agent", "kill-guard", "kill-all"] {
            let working = cell(info.kind, "after-active", cause);
            let mut broken = working.clone();
            broken
                .env
                .push(("SQUALL_BROKEN_UNDO".to_owned(), "1".to_owned()));
            let ended = run(&[working, broken]);
            let is_broken = |one: &&Ended| !one.cell.env.is_empty();
            let (broken, working) = (
                ended.iter().find(is_broken).unwrap(),
                ended.iter().find(|one| !is_broken(one)).unwrap(),
            );
            assert_eq!(working.verdict, Verdict::Clean, "{} {cause}", info.kind);
            // After everybody's death the next command says by itself that it could not undo.
            let is_noticed = match &broken.verdict {
                Verdict::Left(left) => !left.is_empty(),
                Verdict::Failed(why) => {
                    cause == "kill-all" && why.contains("undo --all ended with Exit(40)")
                }
                Verdict::Clean | Verdict::Skipped(_) => false,
            };
            assert!(is_noticed, "{} {cause}: {:?}", info.kind, broken.verdict);
            assert!(!Report::of(&ended).passed());
        }
    }
}

#[test]
fn a_boundary_that_is_never_reached_is_a_failure() {
    let mut cell = cell("process-pause", "after-act", "kill-agent");
    cell.env
        .push(("SQUALL_CRASH_SOCKET".to_owned(), "/nowhere".to_owned()));
    let ended = run(&[cell]);
    let Verdict::Failed(why) = &ended[0].verdict else {
        panic!("{:?}", ended[0].verdict);
    };
    assert!(why.contains("never reached after-act"), "{why}");
    assert!(!Report::of(&ended).passed());
}

#[test]
fn every_fault_is_undone_by_each_recovery_after_death_at_every_boundary() {
    let mut cells = Vec::new();
    for (fault, _) in select::subjects() {
        for boundary in BOUNDARIES {
            // The guard's recovery is the regular matrix's: kill-agent.
            for cause in ["kill-guard", "kill-all"] {
                let number = cells.len() + 1;
                cells.push(Cell {
                    number,
                    ..cell(&fault, boundary, cause)
                });
            }
        }
    }
    let ended = run(&cells);
    let report = Report::of(&ended);
    assert!(report.passed(), "{}", report.text());
}
