//! `cargo xtask clients`: real SDKs and a real Toxiproxy client against `squall proxy`.

use crate::command::{cargo, program, succeeds};
use crate::venv::Recipe;
use anyhow::{Result, bail};

/// The clients, on CPython 3.11.
const CLIENTS: Recipe = Recipe {
    name: "clients",
    locks: &["tests/clients/requirements.txt"],
    finish: None,
    check: "import openai, anthropic, toxiproxy\n\
            print('openai', openai.__version__, 'anthropic', anthropic.__version__)",
};

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    if let Some(unknown) = arguments.first() {
        bail!("`cargo xtask clients` takes no arguments, but got `{unknown}`");
    }
    if !cargo(&["build", "--quiet", "--package", "squall"])? {
        bail!("the build failed; see above");
    }
    let python = CLIENTS.ensure()?.join("bin/python").display().to_string();
    let passes = |script| succeeds(&mut program(&python, &[script], "debug"));
    Ok(passes("tests/clients/clients.py")? && passes("tests/clients/experiment.py")?)
}
