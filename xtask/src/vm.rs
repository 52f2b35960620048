//! `cargo xtask vm`: tests that need a kernel this host may not have, in a guest with one of Debian's, emulated in software.
//!
//! The guest has netem, device-mapper and cgroup v2 alone. Its clock is coarse and its processor slow: presence, removal and bounds
//! with slack are tested there, no fine timing.

mod image;

use crate::command::{cargo_output, root, target_dir};
use crate::needs::{self, Need};
use anyhow::{Context, Result, bail, ensure};
use image::{Image, Kernel};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const NEEDS: &[Need] = &[
    Need::Program("qemu-system-x86_64", "qemu-system-x86"),
    Need::Program("busybox", "busybox-static"),
    Need::Program("cpio", "cpio"),
    Need::Program("strip", "binutils"),
    Need::Program("nft", "nftables"),
    Need::Program("iptables-legacy", "iptables"),
    Need::Program("dmsetup", "dmsetup"),
];

/// Tests that run in the guest: package, test program, the beginning of a test's name (none: all of its tests), seconds for each.
const SUITE: &[(&str, &str, &[&str], u32)] = &[
    ("squall-tests", "guest", &[], 120),
    ("squall-tests", "network", &[], 400),
    ("squall-tests", "compliance", &[], 900),
    ("squall-faults", "guard_cgroup", &[], 120),
];
/// What each boot of a soak runs.
const SOAK: &str = "guest";
/// How long a guest may take to its first line and then to its last, without the tests' own limits being reached.
const BOOT: Duration = Duration::from_secs(120);
const WHOLE: Duration = Duration::from_secs(50 * 60);

const USAGE: &str = "usage: cargo xtask vm [--soak N] [--only WORD]   N boots with the short part of the suite; tests whose names hold WORD";

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let mut soak = None;
    let mut only = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match (argument.as_str(), rest.next()) {
            ("--soak", Some(count)) => soak = Some(count.parse::<u32>().context(USAGE)?),
            ("--only", Some(word)) => only = Some(word.as_str()),
            _ => bail!("{USAGE}"),
        }
    }
    needs::install(NEEDS)?;
    let kernel = Kernel::get()?;
    let suite = Suite::build(soak.is_some(), only)?;
    // Of its own, so that two may run at once; what is left of it is a red boot's console.
    let folder = target_dir().join(format!("vm-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let initramfs = Image::build(&folder, &kernel, &suite.programs, &suite.list)?;
    let boots = soak.unwrap_or(1);
    let mut red = Vec::new();
    for boot in 1..=boots {
        let guest = Guest::boot(&kernel.image(), &initramfs, &folder.join("console"))?;
        let report = guest.run(suite.tests, boots == 1)?;
        println!("boot {boot} of {boots}: {report}");
        if !report.is_green(suite.tests) {
            let kept = folder.join(format!("console-{boot}"));
            fs::copy(folder.join("console"), &kept)?;
            red.push(format!("boot {boot}, console in {}", kept.display()));
        }
    }
    if red.is_empty() {
        fs::remove_dir_all(&folder)?;
    }
    for line in &red {
        println!("✗ {line}");
    }
    println!(
        "{} passed, {} failed",
        boots as usize - red.len(),
        red.len()
    );
    Ok(red.is_empty())
}

/// What the guest is to run.
struct Suite {
    /// Programs with their paths here, which are their paths there too.
    programs: Vec<PathBuf>,
    /// Lines for the guest's first process.
    list: String,
    tests: usize,
}

impl Suite {
    fn build(is_soak: bool, only: Option<&str>) -> Result<Suite> {
        let mut arguments = vec!["build", "--quiet", "--message-format=json", "--bins"];
        let mut wanted: Vec<_> = SUITE.to_vec();
        if is_soak {
            wanted.retain(|(_, name, ..)| *name == SOAK);
        }
        for package in ["squall-tests", "squall-faults", "squall"] {
            arguments.extend(["--package", package]);
        }
        for (_, name, ..) in &wanted {
            arguments.extend(["--test", name]);
        }
        let built = executables(&cargo_output(&arguments)?)?;
        let mut suite = Suite {
            programs: vec![],
            list: String::new(),
            tests: 0,
        };
        let bins = ["squall", "squall-crash", "squall-faults-harness"];
        for bin in bins {
            suite
                .programs
                .extend(built.get(bin).map(|one| one.path.clone()));
        }
        for (_, name, beginnings, limit) in wanted {
            let program = built
                .get(name)
                .with_context(|| format!("cargo built no test {name}"))?;
            let listed = Command::new(&program.path)
                .args(["--list", "--include-ignored"])
                .output()?;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let names = listed
                .lines()
                .filter_map(|line| line.strip_suffix(": test"));
            let meant = |name: &&str| {
                (beginnings.is_empty() || beginnings.iter().any(|one| name.starts_with(one)))
                    && only.is_none_or(|word| name.contains(word))
            };
            for test in names.filter(meant) {
                suite.tests += 1;
                let folder = program.folder.display();
                suite.list.push_str(&format!(
                    "{folder} {limit} {} {test}\n",
                    program.path.display()
                ));
            }
            suite.programs.push(program.path.clone());
        }
        ensure!(suite.tests > 0, "no test has such a name");
        Ok(suite)
    }
}

struct Built {
    path: PathBuf,
    folder: PathBuf,
}

/// The programs that cargo says it built, by name.
fn executables(messages: &str) -> Result<BTreeMap<String, Built>> {
    let mut found = BTreeMap::new();
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let (Some(path), Some(name), Some(manifest)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        let folder = Path::new(manifest)
            .parent()
            .map_or_else(root, Path::to_owned);
        let path = PathBuf::from(path);
        found.insert(name.to_owned(), Built { path, folder });
    }
    Ok(found)
}

/// A guest that runs.
struct Guest {
    child: Child,
    lines: mpsc::Receiver<String>,
}

/// What a guest said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    kernel: String,
    passed: usize,
    failed: Vec<String>,
    /// With the reason: `tests/allowed-skips.txt` says which may be.
    skipped: Vec<String>,
    has_ended: bool,
    seconds: u64,
}

impl Report {
    fn is_green(&self, tests: usize) -> bool {
        self.has_ended && self.failed.is_empty() && self.passed + self.skipped.len() == tests
    }

    /// Takes in a line of the console. True: it was the last.
    fn take(&mut self, line: &str) -> bool {
        // The firmware's last words may stand before the first of ours.
        let Some((_, said)) = line.trim().split_once("@@ ") else {
            return false;
        };
        match said.split_once(' ').unwrap_or((said, "")) {
            ("begin", kernel) => self.kernel = kernel.to_owned(),
            ("passed", _) => self.passed += 1,
            ("skipped", why) => self.skipped.push(why.to_owned()),
            ("failed", test) => self.failed.push(test.to_owned()),
            ("end", _) => self.has_ended = true,
            _ => {}
        }
        self.has_ended
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.has_ended {
            ""
        } else {
            ", and it did not come to its end"
        };
        let (kernel, passed, seconds) = (&self.kernel, self.passed, self.seconds);
        write!(
            f,
            "kernel {kernel}, {passed} passed, {} failed, {} skipped{end}, {seconds} s",
            self.failed.len(),
            self.skipped.len()
        )
    }
}

impl Guest {
    /// Starts it. cmpxchg16b is hidden: with it, some boots end in a double fault under emulation.
    fn boot(kernel: &Path, initramfs: &Path, console: &Path) -> Result<Guest> {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-accel",
                "tcg",
                "-cpu",
                "Nehalem,-cx16",
                "-machine",
                "q35",
                "-smp",
                "1",
                "-m",
                "1536",
            ])
            .args([
                "-nodefaults",
                "-nographic",
                "-serial",
                "stdio",
                "-no-reboot",
                "-nic",
                "none",
            ])
            .args([
                "-append",
                "console=ttyS0 panic=-1 quiet mitigations=off tsc=unstable",
            ])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .context("could not start qemu-system-x86_64")?;
        let output = child.stdout.take().context("qemu has no output")?;
        let mut kept = fs::File::create(console)?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut bytes = Vec::new();
            while reader
                .read_until(b'\n', &mut bytes)
                .is_ok_and(|count| count > 0)
            {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                std::io::Write::write_all(&mut kept, &bytes).ok();
                bytes.clear();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Guest { child, lines })
    }

    /// Reads what it says, to its last line, its death, or its deadline.
    fn run(mut self, tests: usize, is_loud: bool) -> Result<Report> {
        let started = Instant::now();
        let mut report = Report::default();
        loop {
            let limit = if report.kernel.is_empty() {
                BOOT
            } else {
                WHOLE
            };
            let left = limit.saturating_sub(started.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                break;
            };
            if is_loud {
                println!("{line}");
            }
            if report.take(&line) {
                break;
            }
        }
        report.seconds = started.elapsed().as_secs();
        if report.passed + report.skipped.len() + report.failed.len() < tests && report.has_ended {
            report.failed.push("tests that were never begun".to_owned());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            report.take(line);
        }
        report
    }

    #[test]
    fn a_guest_is_green_only_if_it_came_to_its_end_and_every_test_passed() {
        let whole = [
            "[    1.0] noise",
            "\u{1b}c@@ begin 6.1.0",
            "@@ passed one 3",
            "@@ passed two 4",
            "@@ end",
        ];
        assert!(report(&whole).is_green(2));
        assert!(!report(&whole).is_green(3), "one was never begun");
        assert!(!report(&whole[..4]).is_green(2), "it died on the way");
        let failed = [
            "@@ begin 6.1.0",
            "@@ passed one 3",
            "@@ failed two 4",
            "@@ end",
        ];
        assert!(!report(&failed).is_green(2));
        assert_eq!(report(&failed).failed, ["two 4"]);
        assert!(!report(&[]).is_green(0));
    }
}
