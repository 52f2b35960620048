//! Every shipped experiment is valid, says what it shows, and ends as it says.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value};
use squall_catalog::Faults;
use squall_model::load::{self, Node, NodeValue};
use squall_tests::product::{Desk, Report, shipped};
use squall_tests::prove::each;

/// What a file was written as, for a validator that knows nothing of ours.
fn json(node: &Node) -> Value {
    match &node.value {
        NodeValue::Map(entries) => {
            let entries = entries
                .iter()
                .map(|entry| (entry.key.clone(), json(&entry.value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        NodeValue::List(items) => Value::Array(items.iter().map(json).collect()),
        NodeValue::Scalar { text, plain: true } => {
            serde_json::from_str(text).unwrap_or_else(|_| text.clone().into())
        }
        NodeValue::Scalar { text, .. } => text.clone().into(),
        NodeValue::Refused => Value::Null,
    }
}

fn committed_schema(name: &str) -> anyhow::Result<jsonschema::Validator> {
    let path = shipped::repository().join("schema").join(name);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} is not there; type `cargo xtask docs`", path.display()))?;
    Ok(jsonschema::draft202012::new(&serde_json::from_str(&text)?)?)
}

/// The exit code that the first comment promises: `Ends with HELD (0).`
fn promised(text: &str) -> anyhow::Result<i32> {
    let end = text
        .split("Ends with ")
        .nth(1)
        .context("no comment says how it ends")?;
    let number = end.split(['(', ')']).nth(1).context("no exit code")?;
    Ok(number.parse()?)
}

#[test]
fn every_shipped_experiment_fits_the_committed_schema() {
    let validator = committed_schema("experiment.json").unwrap();
    for name in shipped::names().unwrap() {
        let text = shipped::text(&name).unwrap();
        let loaded =
            load::read::<Faults>(&text, &name).unwrap_or_else(|found| panic!("{name}: {found:#?}"));
        let errors: Vec<String> = validator
            .iter_errors(&json(&loaded.tree))
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn every_shipped_experiment_says_what_it_shows_and_why_it_is_asked() {
    for name in shipped::names().unwrap() {
        let text = shipped::text(&name).unwrap();
        assert!(text.starts_with("# ") && text.contains("hows "), "{name}");
        promised(&text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let loaded = load::read::<Faults>(&text, &name).unwrap();
        let asked = loaded.experiment.requirement.expect("a requirement");
        assert!(asked.because.is_some() && asked.accept.is_some(), "{name}");
    }
    for bug in shipped::BUGS {
        shipped::text(&format!("bug-{bug}")).unwrap();
    }
}

#[test]
fn the_real_check_accepts_every_shipped_experiment() {
    let desk = Desk::new().unwrap();
    for name in shipped::names().unwrap() {
        let file = shipped::folder().join(format!("{name}.yaml"));
        let ended = desk.squall(&["check", &file.to_string_lossy()]).unwrap();
        assert_eq!(ended.code, Some(0), "{name} {}", ended.told());
    }
}

/// Demo and bugs are run by suites of their own.
#[test]
fn every_other_shipped_experiment_ends_as_it_says() {
    let names: Vec<String> = shipped::names()
        .unwrap()
        .into_iter()
        .filter(|name| !name.starts_with("bug-") && name != shipped::DEMO)
        .collect();
    let outcomes = each(2, &names, |name| ends_as_promised(name));
    let failed: Vec<String> = names
        .iter()
        .zip(outcomes)
        .filter_map(|(name, outcome)| Some(format!("{name}: {:#}", outcome.err()?)))
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n\n"));
}

fn ends_as_promised(name: &str) -> anyhow::Result<()> {
    let file = shipped::folder().join(format!("{name}.yaml"));
    let desk = Desk::new()?;
    let ended = desk.run(&file)?;
    ended.expect(promised(&shipped::text(name)?)?)?;
    let report = desk.report()?;
    ensure!(!report.injections().is_empty(), "{}", report.told());
    ensure!(report.all_gone(), "{}", report.told());
    lasts_as_long_as_it_says(&report)?;
    if name == "damage-the-newest-checkpoint" {
        // The trainer went back to the checkpoint before the damaged one, and threw that away.
        ensure!(
            report.injections()[0]["gone"] == "superseded",
            "{}",
            report.told()
        );
        ensure!(report.0["recoveries"][1]["lost"] == 29, "{}", report.told());
    }
    well_formed(&desk, report.run())?;
    desk.is_clean()
}

/// What is to stay for a second or more is not taken back before.
fn lasts_as_long_as_it_says(report: &Report) -> anyhow::Result<()> {
    for it in report
        .injections()
        .iter()
        .filter(|it| it["class"] != "one-shot")
    {
        let stayed = it["gone_ns"].as_u64().zip(it["landed_ns"].as_u64());
        let stayed = stayed.map_or(0, |(gone, landed)| gone.saturating_sub(landed));
        ensure!(stayed >= 950_000_000, "{} ns: {}", stayed, report.told());
    }
    Ok(())
}

/// An independent parser reads the report for CI servers.
fn well_formed(desk: &Desk, run: &str) -> anyhow::Result<()> {
    let ended = desk.squall(&["report", run, "--format", "junit"])?;
    ended.expect(0)?;
    let file = desk.write("report.xml", &ended.out)?;
    parses_as_xml(&file)
}

fn parses_as_xml(file: &Path) -> anyhow::Result<()> {
    let script = "import sys, xml.etree.ElementTree as tree\n\
                  root = tree.parse(sys.argv[1]).getroot()\n\
                  assert root.tag == 'testsuites', root.tag\n\
                  assert root.findall('.//testcase'), 'no test case'\n";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(file)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no JUnit file: {said}");
    Ok(())
}
