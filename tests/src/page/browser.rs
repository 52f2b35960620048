//! Chromium without a window: opens a page from a file, and gives back what its scripts left or a picture of it.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that one page may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

/// A desk and a phone.
pub const DESK: Look = Look {
    width: 1280,
    height: 1000,
    dark: false,
};
pub const PHONE: Look = Look {
    width: 390,
    height: 844,
    dark: false,
};

/// The document after its scripts have run.
pub fn dump(address: &str, look: Look, scratch: &Path) -> Result<String> {
    run(address, look, scratch, "--dump-dom")
}

/// A picture of the first screen.
pub fn screenshot(address: &str, look: Look, scratch: &Path, to: &Path) -> Result<()> {
    run(
        address,
        look,
        scratch,
        &format!("--screenshot={}", to.display()),
    )?;
    if !to.is_file() {
        bail!("chromium made no picture of {address}");
    }
    Ok(())
}

fn run(address: &str, look: Look, scratch: &Path, act: &str) -> Result<String> {
    let profile = scratch.join("profile");
    let output = scratch.join("output");
    let scheme = if look.dark { 0 } else { 1 };
    let mut child = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--virtual-time-budget=20000",
            act,
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={},{}", look.width, look.height))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(address)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output)?)
        .stderr(Stdio::null())
        .spawn()
        .context("could not start chromium")?;
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("chromium ended with {status} on {address}");
            }
            return Ok(std::fs::read_to_string(&output)?);
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            bail!(
                "chromium took longer than {} s on {address}",
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
