//! `cargo xtask docs`: schemas and reference, generated from the config types and committed; `--check` fails when they have drifted.

use crate::command::{cargo, program, root, target_dir};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// What is generated: the arguments of `squall`, and the file that holds its output.
const GENERATED: &[(&[&str], &str)] = &[
    (&["schema"], "schema/experiment.json"),
    (&["schema", "report"], "schema/report.json"),
    (&["schema", "policy"], "schema/policy.json"),
    (&["schema", "patterns"], "schema/patterns.json"),
    (&["schema", "proxy"], "schema/proxy.json"),
    (
        &["faults", "--format", "markdown"],
        "docs/reference/faults.md",
    ),
];

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("`cargo xtask docs` takes nothing or `--check`"),
    };
    if !cargo(&["build", "--quiet", "--package", "squall"])? {
        bail!("the build failed; see above");
    }
    let mut fresh = true;
    for (arguments, file) in GENERATED {
        fresh &= one(arguments, &root().join(file), check)?;
    }
    Ok(fresh)
}

fn one(arguments: &[&str], file: &Path, check: bool) -> Result<bool> {
    let squall = target_dir().join("debug/squall");
    let output = program(&squall.to_string_lossy(), arguments, "debug").output()?;
    if !output.status.success() {
        bail!(
            "`squall {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    if !check {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, &output.stdout)
            .with_context(|| format!("could not write {}", file.display()))?;
        println!("wrote {}", file.display());
        return Ok(true);
    }
    let committed = fs::read(file).unwrap_or_default();
    if committed != output.stdout {
        eprintln!(
            "{} has drifted from the code; type `cargo xtask docs` and commit it",
            file.display()
        );
    }
    Ok(committed == output.stdout)
}
