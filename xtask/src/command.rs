//! Running other programs: from the repository's root, with words when they fail.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A program with its arguments, started in the root, with the freshly built binaries first on PATH.
pub(crate) fn program(name: &str, arguments: &[&str], profile: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![target_dir().join(profile)];
    folders.extend(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("PATH", path);
    }
    command.args(arguments).current_dir(root());
    command
}

/// Runs cargo and says whether it succeeded.
pub(crate) fn cargo(arguments: &[&str]) -> Result<bool> {
    cargo_with(arguments, &[])
}

/// The same, with variables of its own.
pub(crate) fn cargo_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<bool> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = program(&cargo, arguments, "debug");
    command.envs(variables.iter().copied());
    succeeds(&mut command)
}

/// Runs cargo and takes what it prints; its complaints go to our own standard error.
pub(crate) fn cargo_output(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = program(&cargo, arguments, "debug")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start {cargo}"))?;
    if !output.status.success() {
        bail!("the build failed; see above");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end with our own output and says whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("could not start {:?}", command.get_program()))?;
    Ok(status.success())
}

/// Builds the product, the toy trainer and the programs of the test package, and runs one of those with `arguments`.
pub(crate) fn suite(name: &str, profile: Profile, arguments: &[String]) -> Result<bool> {
    let mut build = vec!["build", "--bins"];
    for package in ["squall", "toy-trainer", "squall-tests"] {
        build.extend(["--package", package]);
    }
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            build.push("--release");
            "release"
        }
    };
    if !cargo(&build)? {
        bail!("the build failed; see above");
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let path = target_dir().join(folder).join(name);
    succeeds(&mut program(&path.to_string_lossy(), &arguments, folder))
}

/// How to build.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    Debug,
    /// With optimisation: for what measures.
    Release,
}
