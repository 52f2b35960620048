//! What the test command needs beside Rust and a C compiler, and how a machine gets it.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// What must be there, and the Debian package that brings it.
pub(crate) enum Need {
    Program(&'static str, &'static str),
    /// A module of Python's that Debian packages apart from Python.
    Module(&'static str, &'static str),
}

use Need::{Module, Program};

const NEEDS: &[Need] = &[
    Program("python3", "python3"),
    Program("ip", "iproute2"),
    Program("tc", "iproute2"),
    Program("unshare", "util-linux"),
    Program("systemd-analyze", "systemd"),
    Program("xmllint", "libxml2-utils"),
];

/// The report's page is looked at in this, and printed.
pub(crate) const BROWSER: &[Need] = &[
    Program("chromium", "chromium"),
    Program("pdftotext", "poppler-utils"),
    Program("pdftoppm", "poppler-utils"),
];

/// The virtual environment of the tests with real frameworks, and the stub libraries in it, are made with these.
pub(crate) const FRAMEWORKS: &[Need] = &[
    Module("ensurepip", "python3-venv"),
    Program("gcc", "gcc"),
    Program("readelf", "binutils"),
];

/// Containers of a real engine, and who reads what is left in their networks.
pub(crate) const ENGINE: &[Need] = &[
    Program("dockerd", "docker.io"),
    Program("docker", "docker.io"),
    Program("iptables", "iptables"),
    Program("nft", "nftables"),
];

/// Installs what is missing as root, `more` included; otherwise names the one line to type.
pub(crate) fn install(more: &[Need]) -> Result<()> {
    let mut packages: Vec<&str> = NEEDS.iter().chain(more).filter_map(Need::missing).collect();
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

impl Need {
    /// The package, unless what it brings is there.
    fn missing(&self) -> Option<&'static str> {
        match self {
            Program(program, package) => (!is_there(program)).then_some(package),
            Module(module, package) => (!can_import(module)).then_some(package),
        }
    }
}

fn can_import(module: &str) -> bool {
    Command::new("python3")
        .args(["-c", &format!("import {module}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
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
