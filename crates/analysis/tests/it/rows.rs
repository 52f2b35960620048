//! Which signals share a row of the page.

use crate::runs::held;
use crate::sim::MS;
use squall_analysis::conclude;
use squall_analysis::render::html;
use squall_analysis::run::Series;

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
