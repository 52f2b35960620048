//! `cargo xtask crash`: builds the harness with crash points and runs it.

use crate::command::{cargo, program, succeeds, target_dir};
use anyhow::{Result, bail};

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    if !cargo(&["build", "--workspace", "--all-targets"])? {
        bail!("the build failed; see above");
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let harness = target_dir().join("debug/squall-crash");
    succeeds(&mut program(
        &harness.to_string_lossy(),
        &arguments,
        "debug",
    ))
}
