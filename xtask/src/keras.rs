//! `cargo xtask keras`: the oldest chaos experiment of training code, on real Keras.

use crate::needs;
use crate::report;
use crate::torch::Bench;
use anyhow::{Result, bail};

const WITHOUT: &str = "examples/keras/terminate-every-ten-epochs.yaml";
const WITH: &str = "examples/keras/terminate-with-checkpoints.yaml";

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    if let Some(unknown) = arguments.first() {
        bail!("`cargo xtask keras` takes no arguments, but got `{unknown}`");
    }
    needs::install(needs::FRAMEWORKS)?;
    let bench = Bench::ready("squall-keras")?;
    let without = bench.experiment(WITHOUT)?;
    println!(
        "a script that never saves must be found out: exit status {:?}, 10 expected",
        without.code
    );
    let with = bench.experiment(WITH)?;
    println!(
        "its sibling with checkpoints: exit status {:?}, 0 expected",
        with.code
    );
    Ok(without.code == Some(10)
        && report::lost_steps_are_told(&without.folder)?
        && with.code == Some(0))
}
