//! A file is there, fresh, and of the right size or content.

use super::{Context, Probed, seconds, simple::size};
use sha2::{Digest, Sha256};
use squall_model::experiment::FileProbe;
use squall_model::glob::matches;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub(super) fn measure(probe: &FileProbe, context: &Context) -> Probed {
    let wanted = context.path(&probe.path);
    let Some((path, meta)) = newest(&wanted) else {
        return Probed::failed(format!("no file {}", wanted.display()));
    };
    let age = meta
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok())
        .unwrap_or(Duration::ZERO);
    let mut problems = Vec::new();
    if probe.age.is_some_and(|most| age > most.0) {
        problems.push(format!("older than {}", probe.age.unwrap_or_default()));
    }
    if probe.at_least.is_some_and(|least| meta.len() < least.0) {
        problems.push(format!(
            "smaller than {}",
            probe.at_least.unwrap_or_default()
        ));
    }
    if probe.at_most.is_some_and(|most| meta.len() > most.0) {
        problems.push(format!("larger than {}", probe.at_most.unwrap_or_default()));
    }
    if let Some(wanted) = &probe.sha256 {
        match digest(&path, context) {
            Ok(found) if found.eq_ignore_ascii_case(wanted) => {}
            Ok(found) => problems.push(format!("its SHA-256 is {found}")),
            Err(because) => problems.push(because),
        }
    }
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let mut text = format!("{name}: {}, {} old", size(meta.len()), seconds(age));
    if !problems.is_empty() {
        text = format!("{text}: {}", problems.join(", "));
    }
    let value = match probe.age {
        Some(_) => age.as_secs_f64(),
        None => meta.len() as f64,
    };
    Probed::new(problems.is_empty(), text, Some(value))
}

/// The file itself, or the newest that the pattern in its last part matches.
fn newest(wanted: &Path) -> Option<(PathBuf, Metadata)> {
    let regular = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
        Some((path, meta))
    };
    let pattern = wanted.file_name()?.to_string_lossy().into_owned();
    if !pattern.contains(['*', '?']) {
        return regular(wanted.to_path_buf());
    }
    std::fs::read_dir(wanted.parent()?)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| {
            matches(
                pattern.as_bytes(),
                entry.file_name().to_string_lossy().as_bytes(),
            )
        })
        .filter_map(|entry| regular(entry.path()))
        .max_by_key(|(path, meta)| (meta.modified().ok(), path.clone()))
}

fn digest(path: &Path, context: &Context) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        if context.is_cancelled() {
            return Err("not read to its end: the run is over".into());
        }
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            len => hasher.update(&buffer[..len]),
        }
    }
    Ok(crate::hex(&hasher.finalize()))
}
