//! Which signals share a row of the page.

use crate::runs::held;
use crate::sim::MS;
use squall_analysis::conclude;
use squall_analysis::render::html;
use squall_analysis::run::Series;
use squall_model::event::Body;
use std::collections::BTreeMap;

#[test]
fn one_row_for_a_signal_one_line_for_a_rank_and_what_never_changes_is_listed() {
    let mut run = held();
    for (name, rank, pid, from, value) in [
        ("process.cpu", Some("0"), "10", 4_000, 1.0),
        ("process.cpu", Some("1"), "11", 4_000, 2.0),
        ("process.cpu", Some("1"), "12", 6_000, 3.0),
        ("process.cpu", None, "9", 4_000, 4.0),
        ("process.threads", Some("0"), "10", 4_000, 2.0),
        ("host.cpu", None, "", 4_000, 5.0),
    ] {
        let labels = [("rank", rank), ("pid", Some(pid))];
        let constant = name == "process.threads";
        run.series.push(Series {
            name: name.into(),
            labels: labels
                .iter()
                .filter_map(|(key, value)| Some(((*key).into(), (*value)?.into())))
                .collect(),
            unit: "%".into(),
            t_ns: (0..10).map(|i| (from + i * 100) * MS).collect(),
            values: (0..10)
                .map(|i| {
                    if constant {
                        value
                    } else {
                        value + f64::from(i)
                    }
                })
                .collect(),
        });
    }
    let page = html::html(&conclude(&run)).unwrap();
    let (main, rest) = page.split_once("<details").unwrap();
    assert_eq!(main.matches("title=\"process.cpu\"").count(), 1);
    assert!(!main.contains("title=\"host.cpu\"") && rest.contains("title=\"host.cpu\""));
    let (_, row) = main.split_once("title=\"process.cpu\"").unwrap();
    let (row, _) = row.split_once("class=\"scale\"").unwrap();
    assert_eq!(
        row.matches("rank ").count(),
        2,
        "two ranks, whatever the pids"
    );
    assert!(rest.contains("process: threads") && !page.contains("title=\"process.threads\""));
}

#[test]
fn a_process_without_a_rank_gets_the_one_that_its_own_events_tell() {
    let mut run = held();
    let life = |from: u64| (0..10).map(|i| (from + i * 100) * MS).collect();
    let mut series = |pid: &str, from| {
        run.series.push(Series {
            name: "process.cpu".into(),
            labels: BTreeMap::from([("pid".into(), pid.into())]),
            unit: "%".into(),
            t_ns: life(from),
            values: (0..10).map(f64::from).collect(),
        });
    };
    let told = run.events.iter().find_map(|event| match event.body {
        Body::Training {
            pid: Some(pid),
            rank: Some(1),
            reference: false,
            ..
        } => Some((u32::to_string(&pid), event.t_ns / MS)),
        _ => None,
    });
    let (pid, at) = told.unwrap();
    series(&pid, at);
    // The same number in another life, and a number that tells of nothing.
    series(&pid, 900_000);
    series("424242", at);
    let report = conclude(&run);
    let ranks: Vec<Option<&str>> = report
        .series
        .iter()
        .filter(|it| it.name == "process.cpu")
        .map(|it| it.labels.get("rank").map(String::as_str))
        .collect();
    assert_eq!(ranks, [Some("1"), None, None]);
}
