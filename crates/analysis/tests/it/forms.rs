//! The forms of the report: well-formed, self-contained, true to the schema, whatever text a run carries.

use crate::runs::*;
use crate::scenarios::*;
use crate::sim::*;
use proptest::prelude::*;
use squall_analysis::chart::POINTS_MAX;
use squall_analysis::conclude;
use squall_analysis::render::{html, json, junit, markdown, text};
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
            !matches!(node.tag_name().name(), "iframe" | "object" | "link" | "img"),
            "{node:?}"
        );
        if node.has_tag_name("script") {
            carries_no_text_of_a_run(node);
        }
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{node:?}");
            assert!(!matches!(attribute.name(), "src" | "href"), "{node:?}");
        }
    }
    tables_are_whole(&markdown::markdown(report));
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

/// The script is the same for every run, and what it reads is numbers.
fn carries_no_text_of_a_run(script: roxmltree::Node<'_, '_>) {
    let text = script.text().unwrap_or_default();
    match script.attribute("id") {
        Some("index") => assert!(text.bytes().all(|c| b"0123456789[],".contains(&c))),
        Some("words") => assert!(
            text.bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"+/=".contains(&c))
        ),
        _ => assert!(text.contains(include_str!("../../templates/report.js").trim())),
    }
}

/// Each row of each table has as many cells as its head, whatever its text.
fn tables_are_whole(page: &str) {
    let cells = |line: &str| {
        line.replace("\\\\", "")
            .replace("\\|", "")
            .matches('|')
            .count()
    };
    let mut head = None;
    let (before, block) = page.split_once("```").unwrap();
    for line in before.lines() {
        assert!(
            !line.replace("\\\\", "").replace("\\<", "").contains('<'),
            "{line:?}"
        );
        head = line.starts_with('|').then(|| {
            let found = cells(line);
            assert_eq!(found, head.unwrap_or(found), "{line:?}");
            found
        });
    }
    assert_eq!(block.matches("\n```").count(), 1, "{block}");
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
    for page in [html::html(&report), html::detailed(&report, &run)] {
        let page = page.unwrap();
        assert!(
            line_of(&page, "process.cpu").contains(" 4.0"),
            "the spike is not drawn"
        );
        assert!(page.len() < 3 << 20);
    }
}

/// The first line drawn in the row of a signal.
fn line_of<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, row) = page.split_once(&format!("title=\"{name}\"")).unwrap();
    let (_, plot) = row.split_once("class=\"plot\"").unwrap();
    let (_, line) = plot.split_once(" d=\"").unwrap();
    line.split('"').next().unwrap()
}

/// Relative luminance and contrast as WCAG 2.2 defines them.
fn contrast(a: &str, b: &str) -> f64 {
    let luminance = |hex: &str| {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_text_colour_can_be_read_in_light_dark_and_print() {
    let page = html::html(&conclude(&held())).unwrap();
    let schemes: Vec<BTreeMap<&str, &str>> = page
        .split(":root {")
        .skip(1)
        .map(|scheme| {
            let scheme = scheme.split('}').next().unwrap();
            let entries = scheme.split(';').filter_map(|entry| entry.split_once(':'));
            entries
                .map(|(name, value)| (name.trim(), value.trim()))
                .collect()
        })
        .collect();
    assert_eq!(schemes.len(), 3);
    for scheme in schemes {
        for text in ["--fg", "--muted", "--signal", "--fault", "--good"] {
            for background in ["--bg", "--soft"] {
                let ratio = contrast(scheme[text], scheme[background]);
                assert!(
                    ratio >= 4.5,
                    "{text} on {background}: {ratio:.2} in {scheme:?}"
                );
            }
        }
    }
    assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
}

#[test]
fn gaps_in_data_are_gaps_in_the_line_and_values_that_are_no_numbers_are_counted() {
    let mut run = held();
    let mut t_ns: Vec<u64> = (0..10).map(|i| 4_000 * MS + i * 100 * MS).collect();
    t_ns.extend((0..10).map(|i| 7_000 * MS + i * 100 * MS));
    let mut values = vec![1.0; 20];
    values[3] = f64::NAN;
    values[5] = 2.0;
    run.series.push(Series {
        name: "process.rss".into(),
        labels: BTreeMap::new(),
        unit: "bytes".into(),
        t_ns,
        values,
    });
    let report = conclude(&run);
    let series = report.series.last().unwrap();
    assert_eq!(
        (series.samples, series.not_finite, series.gap_count),
        (20, 1, 1)
    );
    assert_eq!((series.min, series.max), (Some(1.0), Some(2.0)));
    assert_eq!(
        (series.gaps[0].from_ns, series.gaps[0].to_ns),
        (4_900 * MS, 7_000 * MS)
    );
    assert_eq!(report.data_quality.gaps, 1);
    assert!(
        report
            .data_quality
            .notes
            .iter()
            .any(|line| line.contains("not finite"))
    );
    let page = html::html(&report).unwrap();
    assert_eq!(line_of(&page, "process.rss").matches('M').count(), 2);
}
