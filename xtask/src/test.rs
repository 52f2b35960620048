//! `cargo xtask test`: all that a contributor must keep green, part by part, with the time each took.

use crate::command::{cargo, program, succeeds};
use crate::needs;
use anyhow::{Result, bail};
use std::time::Instant;

/// One part of the test command.
struct Part {
    name: &'static str,
    what: &'static str,
    /// Programs beside those that every part needs.
    needs: &'static [needs::Need],
    run: fn() -> Result<bool>,
}

const PARTS: &[Part] = &[
    Part {
        name: "format",
        what: "rustfmt finds nothing to change",
        needs: &[],
        run: format,
    },
    Part {
        name: "lint",
        what: "clippy finds nothing, warnings included",
        needs: &[],
        run: lint,
    },
    Part {
        name: "rust",
        what: "unit, property, snapshot and end-to-end tests, containers of a real engine among them",
        needs: needs::ENGINE,
        run: rust,
    },
    Part {
        name: "page",
        what: "the report's page in a browser",
        needs: needs::BROWSER,
        run: page,
    },
    Part {
        name: "python",
        what: "the hook's own tests",
        needs: &[],
        run: python,
    },
    Part {
        name: "docs",
        what: "schemas and reference match the code",
        needs: &[],
        run: docs,
    },
    Part {
        name: "unit",
        what: "the boot unit is valid",
        needs: &[],
        run: boot_unit,
    },
    Part {
        name: "torch",
        what: "real PyTorch under torchrun survives three kills",
        needs: needs::FRAMEWORKS,
        run: torch,
    },
    Part {
        name: "keras",
        what: "a Keras script that ends itself, without checkpoints and with",
        needs: needs::FRAMEWORKS,
        run: keras,
    },
    Part {
        name: "clients",
        what: "real OpenAI, Anthropic and Toxiproxy clients against the proxy",
        needs: needs::FRAMEWORKS,
        run: clients,
    },
    Part {
        name: "crash",
        what: "the crash matrix's regular cells and 100 random trials",
        needs: &[],
        run: crash,
    },
];

pub(crate) fn run(names: &[String]) -> Result<bool> {
    if let Some(unknown) = names
        .iter()
        .find(|name| PARTS.iter().all(|part| part.name != **name))
    {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        bail!(
            "`{unknown}` is not a part of the test command; the parts are {}",
            known.join(", ")
        );
    }
    needs::install(&[])?;
    let mut results = Vec::new();
    for part in PARTS {
        if !names.is_empty() && names.iter().all(|name| name != part.name) {
            continue;
        }
        println!("\n== {}: {}", part.name, part.what);
        let started = Instant::now();
        let passed = match needs::install(part.needs).and_then(|()| (part.run)()) {
            Ok(passed) => passed,
            Err(error) => {
                eprintln!("error: {error:#}");
                false
            }
        };
        results.push((part.name, passed, started.elapsed().as_secs_f64()));
    }
    println!();
    for (name, passed, seconds) in &results {
        println!(
            "{} {name:8} {seconds:7.1} s",
            if *passed { "✓" } else { "✗" }
        );
    }
    let failed = results.iter().filter(|(_, passed, _)| !passed).count();
    println!("{} passed, {failed} failed", results.len() - failed);
    Ok(failed == 0)
}

fn format() -> Result<bool> {
    cargo(&["fmt", "--all", "--check"])
}

fn lint() -> Result<bool> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])
}

fn rust() -> Result<bool> {
    // One build for everything: the end-to-end suites find the binaries it leaves.
    Ok(cargo(&["build", "--workspace", "--all-targets"])?
        && cargo(&["test", "--workspace", "--no-fail-fast"])?)
}

fn page() -> Result<bool> {
    Ok(cargo(&["build", "--workspace", "--all-targets"])? && crate::page::look(&[])?)
}

fn python() -> Result<bool> {
    succeeds(&mut program(
        "python3",
        &["-m", "unittest", "discover", "-s", "python/tests"],
        "debug",
    ))
}

fn docs() -> Result<bool> {
    crate::docs::run(&["--check".into()])
}

fn boot_unit() -> Result<bool> {
    succeeds(&mut program(
        "systemd-analyze",
        &["verify", "--man=no", "packaging/squall-recover.service"],
        "debug",
    ))
}

fn torch() -> Result<bool> {
    crate::torch::run(&[])
}

fn clients() -> Result<bool> {
    crate::clients::run(&[])
}

fn keras() -> Result<bool> {
    crate::keras::run(&[])
}

fn crash() -> Result<bool> {
    Ok(crate::crash::run(&["--matrix".into()])?
        && crate::crash::run(&["--trials".into(), "100".into()])?)
}
