//! `cargo xtask bench`: builds everything with optimisation and runs the bench program.

use crate::command::{cargo, program, succeeds, target_dir};
use anyhow::{Result, bail};

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    if !cargo(&[
        "build",
        "--release",
        "--package",
        "squall",
        "--package",
        "toy-trainer",
        "--package",
        "squall-tests",
        "--bins",
    ])? {
        bail!("the build failed; see above");
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let bench = target_dir().join("release/squall-bench");
    succeeds(&mut program(
        &bench.to_string_lossy(),
        &arguments,
        "release",
    ))
}
