//! What the test command needs beside Rust and a C compiler, and how a machine gets it.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A program and the Debian package that brings it.
type Need = (&'static str, &'static str);

const NEEDS: &[Need] = &[
    ("python3", "python3"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("unshare", "util-linux"),
    ("systemd-analyze", "systemd"),
    ("xmllint", "libxml2-utils"),
];

/// The report's page is looked at in this, and printed.
pub(crate) const BROWSER: &[Need] = &[
    ("chromium", "chromium"),
    ("pdftotext", "poppler-utils"),
    ("pdftoppm", "poppler-utils"),
];

/// The stub libraries of `cargo xtask torch` are made with these.
pub(crate) const COMPILER: &[Need] = &[("gcc", "gcc"), ("readelf", "binutils")];

/// Installs what is missing as root, `more` included; otherwise names the one line to type.
pub(crate) fn install(more: &[Need]) -> Result<()> {
    let mut packages: Vec<&str> = NEEDS
        .iter()
        .chain(more)
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!(
        "apt-get update && apt-get install --yes --no-install-recommends {}",
        packages.join(" ")
    );
    if !is_root() {
        bail!("these programs are missing; type:\n  sudo sh -c '{line}'");
    }
    println!("installing: {}", packages.join(" "));
    let status = Command::new("sh")
        .args(["-c", &line])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("could not install {}; type:\n  {line}", packages.join(" "));
    }
    Ok(())
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    std::fs::metadata(Path::new("/proc/self"))
        .map(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
        .unwrap_or(false)
}
