//! `cargo xtask fuzz`: coverage-guided fuzzing of what reads foreign input, by libFuzzer, on the stable toolchain.
//!
//! The coverage that libFuzzer follows is put in by LLVM's own pass, which every rustc has; no sanitizer is used (this code is safe Rust), so
//! no nightly flag is needed. libFuzzer itself is C++, and its sources come with the crate: a C++ compiler is.

use crate::command::{cargo_with, program, root, succeeds, target_dir};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

const TARGETS: [&str; 9] = [
    "experiment",
    "journal",
    "frames",
    "hook",
    "policy",
    "http",
    "stream",
    "json",
    "proxy-file",
];
const USAGE: &str = "cargo xtask fuzz [experiment|journal|frames|hook|policy|http|stream|json|proxy-file …] [--seconds N]";
/// How long each target runs unless said.
const SECONDS: u32 = 60;
/// Code that libFuzzer sees the coverage of.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let (targets, seconds) = options(arguments)?;
    compiler()?;
    let host = host()?;
    let folder = target_dir().join("fuzz");
    let manifest = root().join("fuzz/Cargo.toml");
    // With a target given, build scripts and macros are built without the flags.
    let (manifest, built) = (manifest.to_string_lossy(), folder.to_string_lossy());
    let mut build = vec!["build", "--release", "--locked", "--target", &host];
    build.extend(["--manifest-path", &manifest, "--target-dir", &built]);
    for target in &targets {
        build.extend(["--bin", target]);
    }
    if !cargo_with(&build, &[("RUSTFLAGS", &FLAGS.join(" "))])? {
        bail!("the build failed; see above");
    }
    let mut clean = true;
    for target in targets {
        let built = folder.join(&host).join("release").join(target);
        clean &= fuzz(target, &built, &folder, seconds)?;
    }
    Ok(clean)
}

fn options(arguments: &[String]) -> Result<(Vec<&str>, u32)> {
    let (mut targets, mut seconds) = (Vec::new(), SECONDS);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let value = arguments.next().context(USAGE)?;
                seconds = value.parse().context(USAGE)?;
            }
            target if TARGETS.contains(&target) => targets.push(target),
            other => bail!("`{other}` is no target\n{USAGE}"),
        }
    }
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    Ok((targets, seconds))
}

/// A C++ compiler, as the build of libFuzzer will look for it.
fn compiler() -> Result<()> {
    let named = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let found = Command::new(&named)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => bail!(
            "could not fuzz, because there is no C++ compiler `{named}`, which libFuzzer is built with; type `apt-get install g++`, or set CXX"
        ),
    }
}

/// The toolchain's own target.
fn host() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("could not start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

/// Runs one target on a working copy of its corpus. What makes it fail is kept, and said.
fn fuzz(target: &str, built: &Path, folder: &Path, seconds: u32) -> Result<bool> {
    let seeds = root().join("fuzz/corpus").join(target);
    let (corpus, failures) = (
        folder.join("corpus").join(target),
        folder.join("failures").join(target),
    );
    for made in [&corpus, &failures] {
        std::fs::create_dir_all(made)
            .with_context(|| format!("could not make {}", made.display()))?;
    }
    println!("fuzzing {target} for {seconds} s");
    let arguments = [
        format!("-max_total_time={seconds}"),
        format!("-artifact_prefix={}/", failures.display()),
        "-max_len=65536".into(),
        "-timeout=10".into(),
        "-rss_limit_mb=2048".into(),
        "-print_final_stats=1".into(),
        "-verbosity=0".into(),
        corpus.to_string_lossy().into_owned(),
        seeds.to_string_lossy().into_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let clean = succeeds(&mut program(
        &built.to_string_lossy(),
        &arguments,
        "release",
    ))?;
    if !clean {
        let inputs = inputs(&failures);
        println!(
            "{target} failed; the input is in {} ({inputs} so far). Copy it to fuzz/corpus/{target}/, mend the code, and `cargo test -p squall-tests --test fuzz_corpus` stays red until it is mended",
            failures.display()
        );
    }
    Ok(clean)
}

fn inputs(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}
