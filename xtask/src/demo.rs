//! `cargo xtask demo`: the main job, end to end, with nothing but Rust and a C compiler.

use crate::command::{cargo, program, target_dir};
use anyhow::{Result, bail};

const EXPERIMENT: &str = "examples/toy-trainer/kill-a-rank-every-ten-epochs.yaml";

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    if let Some(unknown) = arguments.first() {
        bail!("`cargo xtask demo` takes no arguments, but got `{unknown}`");
    }
    if !cargo(&["build", "--package", "squall", "--package", "toy-trainer"])? {
        bail!("the build failed; see above");
    }
    let squall = target_dir().join("debug/squall");
    println!("$ squall run {EXPERIMENT} --yes");
    let mut command = program(
        &squall.to_string_lossy(),
        &["run", EXPERIMENT, "--yes"],
        "debug",
    );
    crate::command::succeeds(&mut command)
}
