//! `cargo xtask page`: looks at the report's page in a browser without a window, and renews its pictures in the documentation.

use crate::command::{cargo, program, succeeds, target_dir};
use crate::needs;
use anyhow::{Result, bail};

/// Where the pictures are.
const PICTURES: &str = "docs/images";

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    if let Some(unknown) = arguments.first() {
        bail!("`cargo xtask page` takes no arguments, but got `{unknown}`");
    }
    needs::install(needs::BROWSER)?;
    if !cargo(&["build", "--package", "squall-tests", "--bin", "squall-page"])? {
        bail!("the build failed; see above");
    }
    look(&["--pictures", PICTURES])
}

/// The checks alone, with what the workspace's build left.
pub(crate) fn look(arguments: &[&str]) -> Result<bool> {
    let page = target_dir().join("debug/squall-page");
    succeeds(&mut program(&page.to_string_lossy(), arguments, "debug"))
}
