//! The demo: what it says, and that everything it wrote can be read by others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use squall_tests::folder::Folder;
use squall_tests::product::{Desk, Report, binaries, shipped};
use squall_tests::sandbox::skip;

use super::{alone, short_demo};

/// A user without any right.
const NOBODY: u32 = 65534;

#[test]
fn the_demo_holds_and_leaves_nothing() {
    alone("demo::the_demo_holds_and_leaves_nothing", |desk| {
        let (ended, report) = desk.report_of(&short_demo()?)?;
        ended.expect(0).context(report.told())?;
        ensure!(ended.out.contains("HELD"), "{}", ended.told());
        three_held_kills_and_the_same_result(&report)?;
        fits_the_schema(&report)?;
        others_can_read(desk, report.run())
    });
}

fn three_held_kills_and_the_same_result(report: &Report) -> anyhow::Result<()> {
    let told = || report.told();
    ensure!(report.code() == 0, "{}", told());
    let epochs: Vec<_> = report
        .injections()
        .iter()
        .map(|it| it["aimed"]["epoch"].as_u64())
        .collect();
    ensure!(
        epochs == [Some(10), Some(20), Some(30)],
        "{epochs:?}: {}",
        told()
    );
    for injection in report.injections() {
        ensure!(
            injection["place"]["epoch"] == injection["aimed"]["epoch"],
            "{}",
            told()
        );
        ensure!(injection["place"]["rank"] == 1, "{}", told());
    }
    ensure!(report.all_held() && report.all_gone(), "{}", told());
    ensure!(report.sameness() == "same", "{}", told());
    ensure!(
        report.text("/same_result/decided_by") == "bit-equal",
        "{}",
        told()
    );
    let recoveries = report.0["recoveries"].as_array().context("recoveries")?;
    let caught_up = recoveries.iter().filter(|it| it["outcome"] == "caught-up");
    ensure!(caught_up.count() == 3, "{recoveries:#?}");
    // Killed before the checkpoint of the epoch: all of its 8 steps are repeated, and no more.
    ensure!(
        recoveries.iter().all(|it| it["lost"] == 8),
        "{recoveries:#?}"
    );
    ensure!(!report.text("/requirement/answer").is_empty(), "{}", told());
    Ok(())
}

fn fits_the_schema(report: &Report) -> anyhow::Result<()> {
    let path = shipped::repository().join("schema/report.json");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{} is not there; type `cargo xtask docs`", path.display()))?;
    let validator = jsonschema::draft202012::new(&serde_json::from_str(&text)?)?;
    let errors: Vec<String> = validator
        .iter_errors(&report.0)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    ensure!(errors.is_empty(), "{errors:#?}");
    Ok(())
}

/// The files beside the report, and every way to print it.
fn others_can_read(desk: &Desk, run: &str) -> anyhow::Result<()> {
    let folder = desk.state().join("runs").join(run);
    for name in [
        "experiment.yaml",
        "plan.json",
        "journal",
        "run.db",
        "report.json",
        "report.html",
    ] {
        let mode = fs::metadata(folder.join(name))
            .with_context(|| format!("{name} in the run folder"))?
            .permissions()
            .mode();
        ensure!(mode & 0o077 == 0, "{name} has mode {mode:o}");
    }
    for (format, beginning) in [
        ("text", ""),
        ("html", "<!doctype html>"),
        ("junit", "<?xml"),
    ] {
        let ended = desk.squall(&["report", &run[..13], "--format", format])?;
        ended.expect(0)?;
        let out = ended.out.to_lowercase();
        ensure!(out.starts_with(beginning), "{format}: {}", ended.told());
    }
    let runs = desk.squall(&["runs", "--format", "json"])?;
    ensure!(runs.out.contains(run), "{}", runs.told());
    Ok(())
}

/// Outside of any namespace of ours, as a user without rights.
#[test]
fn the_demo_holds_without_root() {
    let test = "demo::the_demo_holds_without_root";
    let outcome = if rustix::process::geteuid().is_root() {
        as_nobody()
    } else {
        skip(test, "we are not root, so every other test has shown it")
    };
    outcome.unwrap_or_else(|error| panic!("{test}: {error:#}"));
}

fn as_nobody() -> anyhow::Result<()> {
    let folder = Folder::new_in(Path::new("/tmp"))?;
    let binaries = copied_binaries(folder.path())?;
    let path = folder.path().to_owned();
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let desk = Desk::elsewhere(
        folder,
        binaries,
        &[
            "setpriv",
            &ids[0],
            &ids[1],
            "--clear-groups",
            "--no-new-privs",
            "--inh-caps=-all",
        ],
    );
    fs::create_dir_all(path.join("home"))?;
    let file = desk.write("experiment.yaml", &short_demo()?)?;
    hand_over(&path)?;
    let ended = desk.run(&file)?;
    let report = desk.report().with_context(|| ended.told())?;
    ended.expect(0).context(report.told())?;
    three_held_kills_and_the_same_result(&report)?;
    desk.is_clean()
}

/// Where this was built another user may not look.
fn copied_binaries(folder: &Path) -> anyhow::Result<PathBuf> {
    let copies = folder.join("bin");
    fs::create_dir(&copies)?;
    for name in ["squall", "toy-trainer"] {
        fs::copy(binaries()?.join(name), copies.join(name))?;
    }
    Ok(copies)
}

fn hand_over(folder: &Path) -> anyhow::Result<()> {
    let owner = format!("{NOBODY}:{NOBODY}");
    let status = Command::new("chown")
        .args(["-R", &owner])
        .arg(folder)
        .status()?;
    ensure!(status.success(), "could not hand over {}", folder.display());
    Ok(())
}
