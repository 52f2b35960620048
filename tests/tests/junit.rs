//! JUnit files are what Jenkins takes: checked by libxml2's `xmllint`, which shares no code with us, against `schemas/jenkins-junit.xsd`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use squall_tests::product::shipped::repository;
use squall_tests::sandbox::skip;

/// The JUnit file of every kind of run, as the snapshots of the analysis have them.
fn files() -> anyhow::Result<Vec<(String, String)>> {
    let folder = repository().join("crates/analysis/tests/it/snapshots");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path: PathBuf = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.contains("__junit_") {
            let text = std::fs::read_to_string(&path)?;
            let start = text.find("<?xml").context("no XML in the snapshot")?;
            files.push((name, text[start..].to_owned()));
        }
    }
    ensure!(
        files.len() >= 19,
        "only {} snapshots in {}",
        files.len(),
        folder.display()
    );
    Ok(files)
}

/// What the validator says against a document; nothing when it is valid.
fn problems(document: &str) -> anyhow::Result<Option<String>> {
    let schema = repository().join("tests/schemas/jenkins-junit.xsd");
    let mut validator = Command::new("xmllint")
        .args(["--noout", "--nonet", "--schema"])
        .arg(schema)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut pipe = validator.stdin.take().context("no pipe")?;
    pipe.write_all(document.as_bytes())?;
    drop(pipe);
    let output = validator.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // 3 and 4: the document is not valid, 1: it is not XML. Anything else is the schema's or the program's own fault.
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1 | 3 | 4) => Ok(Some(said)),
        other => anyhow::bail!("xmllint ended with {other:?}: {said}"),
    }
}

/// Whether the validator is there; where it is not, the test says so.
fn is_there(test: &str) -> anyhow::Result<bool> {
    let there = Command::new("xmllint").arg("--version").output().is_ok();
    if !there {
        skip(test, "xmllint is not installed (Debian: libxml2-utils)")?;
    }
    Ok(there)
}

#[test]
fn jenkins_takes_the_file_of_every_kind_of_run() {
    if !is_there("jenkins_takes_the_file_of_every_kind_of_run").unwrap() {
        return;
    }
    for (name, document) in files().unwrap() {
        assert_eq!(problems(&document).unwrap(), None, "{name}");
    }
}

#[test]
fn the_schema_sees_what_jenkins_would_not_take() {
    if !is_there("the_schema_sees_what_jenkins_would_not_take").unwrap() {
        return;
    }
    let files = files().unwrap();
    let (_, whole) = files
        .iter()
        .find(|(name, _)| name.contains("junit_aborted"))
        .unwrap();
    assert_eq!(problems(whole).unwrap(), None);
    for (what, from, to) in [
        (
            "a case without a name",
            "classname=\"squall.run\" name=\"verdict\"",
            "classname=\"squall.run\"",
        ),
        ("an unknown element", "<system-out>", "<output>"),
        (
            "an unknown attribute",
            "<testcase classname",
            "<testcase squall=\"1\" classname",
        ),
        ("a suite without its errors", " errors=\"", " mistakes=\""),
        ("a count that is no number", " tests=\"", " tests=\"about "),
        ("a time in words", " time=\"", " time=\"1 min "),
        (
            "a property without a value",
            "<property name=\"run\" value=",
            "<property name=\"run\" is=",
        ),
        (
            "a timestamp with a zone",
            " timestamp=\"2026-11-24T10:00:00\"",
            " timestamp=\"2026-11-24T10:00:00Z\"",
        ),
        ("a control character", "<system-out>", "<system-out>\u{1}"),
    ] {
        assert!(whole.contains(from), "{what}: the file has no {from}");
        let broken = whole.replacen(from, to, 1);
        assert!(problems(&broken).unwrap().is_some(), "{what} is not seen");
    }
}
