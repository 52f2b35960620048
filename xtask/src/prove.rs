//! `cargo xtask prove`: builds the product, the toy trainer and the suites that need many runs, and runs those.

use crate::command::{cargo, program, succeeds, target_dir};
use anyhow::{Result, bail};

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    if !cargo(&[
        "build",
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
    let prove = target_dir().join("debug/squall-prove");
    succeeds(&mut program(&prove.to_string_lossy(), &arguments, "debug"))
}
