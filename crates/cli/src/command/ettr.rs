//! `squall ettr`: what past jobs lost, from their logs and accounting. Reads files and nothing else.

use super::file;
use crate::Outcome;
use crate::arguments::{Ettr, Format};
use crate::output::{Failure, json};
use squall_analysis::past::{self, PastJob, log, sacct};
use squall_analysis::render;
use squall_model::exit::Exit;
use squall_model::patterns::{self, Matcher, PatternFile};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A longer line is read in pieces.
const LINE_MAX: u64 = 64 * 1024;
/// The longest accounting that is read.
const ACCOUNT_MAX: u64 = 256 * 1024 * 1024;

pub(crate) fn run(arguments: &Ettr) -> Outcome {
    let file = arguments.patterns.as_deref().map(read_patterns);
    let file = file.transpose()?;
    let matcher = file.as_ref().map(Matcher::of).transpose();
    let matcher = matcher.map_err(|error| Failure::new(Exit::Invalid, error, None))?;
    let (mut logs, mut accounts) = (Vec::new(), Vec::new());
    for path in &arguments.logs {
        let mut lines = open(path)?;
        let first = line(&mut lines, path)?.unwrap_or_default();
        if sacct::is_one(&first) {
            accounts.extend(account(first, lines, path)?);
            continue;
        }
        let (Some(file), Some(matcher)) = (&file, &matcher) else {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "{} is a log, and nothing says what its lines mean",
                    path.display()
                ),
                Some("give a pattern file with --patterns; docs/ettr.md shows one"),
            ));
        };
        let mut reading = log::Reading::new(matcher, file.time.as_ref());
        reading.line(&first);
        while let Some(next) = line(&mut lines, path)? {
            reading.line(&next);
        }
        logs.push(reading.finish(&path.display().to_string()));
    }
    let jobs = past::past_jobs(logs, accounts);
    match arguments.format {
        Format::Text => print!("{}", render::past::past(&jobs)),
        Format::Json => json(&jobs)?,
    }
    let told = jobs
        .jobs
        .iter()
        .any(|job| job.wall_ns.is_some() || job.kept.is_some());
    Ok(if told { Exit::Held } else { Exit::Inconclusive })
}

fn read_patterns(path: &Path) -> Result<PatternFile, Failure> {
    let text = file::text(
        path,
        "give the path of a pattern file; docs/ettr.md shows one",
    )?;
    let name = path.display().to_string();
    patterns::read(&text).map_err(|found| Failure::diagnostics(&found, &text, &name))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("could not read {}, because {error}", path.display()),
        Some("give logs of jobs, or what `sacct --parsable2 --duplicates` printed"),
    )
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    File::open(path)
        .map(BufReader::new)
        .map_err(|error| unreadable(path, &error))
}

/// The next line without its end; bytes that are no text are replaced.
fn line(lines: &mut BufReader<File>, path: &Path) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    let read = lines.take(LINE_MAX).read_until(b'\n', &mut bytes);
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

fn account(first: String, lines: BufReader<File>, path: &Path) -> Result<Vec<PastJob>, Failure> {
    let mut text = first + "\n";
    let rest = lines.take(ACCOUNT_MAX).read_to_string(&mut text);
    rest.map_err(|error| unreadable(path, &error))?;
    sacct::read(&text).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("could not use {}, because {error}", path.display()),
            Some(&error.remedy()),
        )
    })
}
