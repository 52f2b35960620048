//! The forms of the report: well-formed, self-contained, true to the schema, whatever text a run carries.

use crate::runs::*;
use crate::scenarios::*;
use crate::sim::*;
use proptest::prelude::*;
use squall_analysis::chart::POINTS_MAX;
use squall_analysis::conclude;
use squall_analysis::render::{html, json, junit, text};
use squall_analysis::report::{Report, report_schema};
use squall_analysis::run::{Run, Series};
use squall_model::event::Body;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn hostile_text_breaks_no_form(evil in "\\PC{0,12}[<>&\"'\u{0}-\u{1f}\u{7f}\u{85}\u{202e}\u{fffe}]{0,6}.{0,12}", run in 0usize..4) {
        let run = poisoned([held, not_landed, aborted, dropped][run](), &evil);
        forms_are_well_formed(&conclude(&run));
    }
}

/// The same run with hostile text wherever a run carries text.
fn poisoned(mut run: Run, evil: &str) -> Run {
    let poison = |text: &mut String| text.push_str(evil);
    poison(&mut run.ask.title);
    poison(&mut run.ask.file);
    poison(&mut run.id.0);
    run.policies = BTreeMap::from([(evil.to_owned(), evil.to_owned())]);
    if let Some(requirement) = &mut run.ask.requirement {
        requirement.because = Some(evil.to_owned());
        requirement.accept = Some(evil.to_owned());
    }
    run.series.push(Series {
        name: evil.to_owned(),
        labels: BTreeMap::from([(evil.to_owned(), evil.to_owned())]),
        unit: evil.to_owned(),
        t_ns: vec![1, 2, 3],
        values: vec![1.0, f64::NAN, f64::INFINITY],
    });
    for event in &mut run.events {
        match &mut event.body {
            Body::RunStarted {
                host,
                squall,
                experiment,
                ..
            } => {
                host.insert(evil.to_owned(), evil.to_owned());
                poison(squall);
                poison(experiment);
            }
            Body::InjectionBegun {
                target, mechanism, ..
            } => {
                poison(target);
                poison(mechanism);
            }
            Body::Landed {
                observations,
                place,
                ..
            } => {
                place.phase = Some(evil.to_owned());
                observations
                    .iter_mut()
                    .for_each(|it| poison(&mut it.evidence));
            }
            Body::Armed { aim, .. } => poison(aim),
            Body::AbortFired { check, measured } => {
                poison(check);
                poison(measured);
            }
            Body::NotLanded { because, .. } => poison(because),
            Body::Training { event, .. } => {
                if let Some(digest) = &mut event.digest {
                    poison(digest);
                }
            }
            _ => {}
        }
    }
    run
}

fn forms_are_well_formed(report: &Report) {
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let page = html::html(report).unwrap();
    let page = roxmltree::Document::parse_with_options(&page, options)
        .unwrap_or_else(|error| panic!("{error}\n{page}"));
    for node in page.descendants().filter(|node| node.is_element()) {
        assert!(
            !matches!(
                node.tag_name().name(),
                "script" | "iframe" | "object" | "link" | "img"
            ),
            "{node:?}"
        );
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{node:?}");
            assert!(!matches!(attribute.name(), "src" | "href"), "{node:?}");
        }
    }
    let xml = junit::junit(report);
    junit_fits_its_schema(
        &roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}")),
    );
    let shown = text::full(report, None);
    assert!(
        shown.chars().all(|c| c == '\n' || !c.is_control()),
        "{shown:?}"
    );
    let back: Report = serde_json::from_str(&json(report).unwrap()).unwrap();
    assert_eq!(&back, report);
}

/// The structure that Jenkins' junit-10.xsd demands, as far as it concerns us: names, order-free children, attributes.
fn junit_fits_its_schema(document: &roxmltree::Document<'_>) {
    for node in document.descendants().filter(|node| node.is_element()) {
        let (children, attributes, required): (&[&str], &[&str], &[&str]) =
            match node.tag_name().name() {
                "testsuites" => (&["testsuite"], &[], &[]),
                "testsuite" => (
                    &["properties", "testcase"],
                    &[
                        "name",
                        "tests",
                        "failures",
                        "errors",
                        "skipped",
                        "time",
                        "timestamp",
                        "id",
                    ],
                    &["name", "tests", "failures", "errors"],
                ),
                "properties" => (&["property"], &[], &[]),
                "property" => (&[], &["name", "value"], &["name", "value"]),
                "testcase" => (
                    &["failure", "error", "system-out"],
                    &["name", "time", "classname"],
                    &["name"],
                ),
                "failure" | "error" => (&[], &["type", "message"], &[]),
                "system-out" => (&[], &[], &[]),
                other => panic!("{other} is not an element of the schema"),
            };
        assert!(
            node.children()
                .filter(|it| it.is_element())
                .all(|it| children.contains(&it.tag_name().name()))
        );
        assert!(
            node.attributes().all(|it| attributes.contains(&it.name())),
            "{node:?}"
        );
        assert!(
            required.iter().all(|name| node.has_attribute(*name)),
            "{node:?}"
        );
        if let Some(time) = node.attribute("time") {
            let (whole, fraction) = time.split_once('.').unwrap();
            assert!(
                whole
                    .bytes()
                    .chain(fraction.bytes())
                    .all(|c| c.is_ascii_digit())
            );
        }
    }
    let suite = document
        .descendants()
        .find(|node| node.has_tag_name("testsuite"))
        .unwrap();
    let count = |name: &str| {
        document
            .descendants()
            .filter(|node| node.has_tag_name(name))
            .count()
            .to_string()
    };
    assert_eq!(suite.attribute("tests").unwrap(), count("testcase"));
    assert_eq!(suite.attribute("failures").unwrap(), count("failure"));
    assert_eq!(suite.attribute("errors").unwrap(), count("error"));
}

#[test]
fn every_report_fits_the_schema() {
    let schema = report_schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for run in [
        held(),
        buggy(Bug::Samples),
        log_only(),
        paused(Undo::Sticks),
        not_landed(),
        aborted(),
        not_steady(),
        dropped(),
        given_up(),
    ] {
        let report: serde_json::Value =
            serde_json::from_str(&json(&conclude(&run)).unwrap()).unwrap();
        let problems: Vec<String> = validator
            .iter_errors(&report)
            .map(|it| it.to_string())
            .collect();
        assert!(problems.is_empty(), "{problems:#?}");
        let mut broken = report.clone();
        broken["verdict"]["exit"] = "fine".into();
        assert!(!validator.is_valid(&broken), "the schema accepts anything");
    }
}

#[test]
fn one_spike_among_a_million_samples_stays_in_the_page() {
    let mut run = held();
    let n = 1_000_000u64;
    let end = run.events.last().unwrap().t_ns;
    let mut values = vec![50.0; n as usize];
    values[777_777] = 98.5;
    run.series.push(Series {
        name: "process.cpu".into(),
        labels: BTreeMap::new(),
        unit: "%".into(),
        t_ns: (0..n).map(|i| i * (end / n)).collect(),
        values,
    });
    let report = conclude(&run);
    let series = report.series.last().unwrap();
    assert!(series.t_ns.len() <= POINTS_MAX);
    assert_eq!(series.samples, n);
    assert!(series.values.contains(&98.5));
    // The largest value is drawn at the top margin of its chart: 4 of 100.
    let page = html::html(&report).unwrap();
    let line = page
        .lines()
        .skip_while(|line| !line.contains("process.cpu"))
        .find(|line| line.contains("<path"))
        .unwrap();
    assert!(line.contains(" 4.00"), "the spike is not drawn");
}
