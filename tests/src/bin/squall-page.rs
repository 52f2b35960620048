//! `cargo xtask page`: the report's page in a browser. See `squall_tests::page`.

use anyhow::{Context as _, bail};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "squall-page [--pictures FOLDER] [--keep FOLDER]
    --keep FOLDER   leaves the page and its PDFs there, for eyes";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn say(line: &str) {
    // Nobody is left to tell.
    writeln!(std::io::stdout(), "{line}").ok();
}

fn run() -> anyhow::Result<bool> {
    let (mut pictures, mut keep) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pictures" => {
                let folder = arguments.next().context("--pictures wants a folder")?;
                pictures = Some(PathBuf::from(folder));
            }
            "--keep" => {
                let folder = arguments.next().context("--keep wants a folder")?;
                keep = Some(PathBuf::from(folder));
            }
            _ => bail!("`{argument}` is not known; {USAGE}"),
        }
    }
    let own = std::env::temp_dir().join(format!("squall-page-{}", std::process::id()));
    let scratch = keep.as_ref().unwrap_or(&own);
    std::fs::create_dir_all(scratch)?;
    let checks = squall_tests::page::checks(scratch, pictures.as_deref());
    if keep.is_none() {
        std::fs::remove_dir_all(&own)?;
    }
    let checks = checks?;
    for check in &checks {
        match &check.problem {
            None => say(&format!("✓ {}", check.name)),
            Some(problem) => say(&format!("✗ {}: {problem}", check.name)),
        }
    }
    Ok(checks.iter().all(|check| check.problem.is_none()))
}
