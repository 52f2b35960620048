//! The journal's bytes as the harness needs them: what state a run was in when it was struck, and how to tear its last record.
//!
//! The layout is read from its description (a header block, then frames of length, number, checksum and JSON), not by the product's code.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

const HEADER: usize = 4096;
const FRAME: usize = 20;

/// The journals below a state folder.
pub fn find(state: &Path) -> Vec<PathBuf> {
    let runs = fs::read_dir(state.join("runs"))
        .into_iter()
        .flatten()
        .flatten();
    let journals = runs.map(|run| run.path().join("journal"));
    journals.filter(|path| path.exists()).collect()
}

/// A record as it stands in the file.
struct Frame {
    at: usize,
    length: usize,
    entry: serde_json::Value,
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = HEADER;
    while let Some(head) = bytes.get(at..at + FRAME) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let json = bytes.get(at + FRAME..at + FRAME + length);
        let Some(record) = json.and_then(|json| serde_json::from_slice(json).ok()) else {
            break;
        };
        let record: serde_json::Value = record;
        let entry = record.get("entry").cloned().unwrap_or_default();
        frames.push(Frame {
            at,
            length: FRAME + length,
            entry,
        });
        at += FRAME + length;
    }
    frames
}

/// The last move recorded of an injection of this kind: `none`, `intent`, `active`, `undoing`, `undone` or `stuck`.
pub fn state(state: &Path, kind: &str) -> String {
    let mut last = "none".to_owned();
    for path in find(state) {
        let frames = frames(&fs::read(path).unwrap_or_default());
        let mut injections = Vec::new();
        for frame in frames {
            let Some((name, body)) = frame
                .entry
                .as_object()
                .and_then(|entry| entry.iter().next())
            else {
                continue;
            };
            let injection = body["injection"].as_str().unwrap_or_default().to_owned();
            if body["about"]["kind"] == kind {
                injections.push(injection.clone());
            }
            if injections.contains(&injection) {
                last.clone_from(name);
            }
        }
    }
    last
}

/// The pids that the undos in the journals would act on.
pub fn remembered_pids(state: &Path) -> Vec<u32> {
    let pids = remembered(state).into_iter().map(|(pid, _)| pid);
    pids.collect::<BTreeSet<u32>>().into_iter().collect()
}

/// When the youngest of the processes in the journals was started, in ticks of 10 ms since boot; 0 when there is none.
pub fn last_remembered_start(state: &Path) -> u64 {
    let starts = remembered(state).into_iter().map(|(_, start)| start);
    starts.max().unwrap_or(0)
}

/// Pid and start time of every process in the journals.
fn remembered(state: &Path) -> BTreeSet<(u32, u64)> {
    fn collect(value: &serde_json::Value, found: &mut BTreeSet<(u32, u64)>) {
        if let (Some(pid), Some(start)) = (value["pid"].as_u64(), value["start_time"].as_u64()) {
            found.extend(u32::try_from(pid).map(|pid| (pid, start)));
        }
        let below: Vec<_> = match value {
            serde_json::Value::Array(values) => values.iter().collect(),
            serde_json::Value::Object(values) => values.values().collect(),
            _ => Vec::new(),
        };
        below.into_iter().for_each(|value| collect(value, found));
    }
    let mut found = BTreeSet::new();
    for path in find(state) {
        for frame in frames(&fs::read(path).unwrap_or_default()) {
            collect(&frame.entry, &mut found);
        }
    }
    found
}

/// Leaves the journal as a crash in the middle of a write would: at a boundary right behind a record that record is half-written,
/// at any other the one that would have come next. (A record that was already relied on cannot be torn by a crash.)
///
/// # Errors
/// When there is no journal or no such record.
pub fn tear(state: &Path, boundary: &str) -> anyhow::Result<String> {
    let [path] = &find(state)[..] else {
        anyhow::bail!("there is not exactly one journal below {}", state.display());
    };
    let bytes = fs::read(path)?;
    let frames = frames(&bytes);
    let file = File::options().write(true).open(path)?;
    let is_behind_record = [
        "after-intent",
        "after-active",
        "after-undoing",
        "after-undone",
    ]
    .contains(&boundary);
    if is_behind_record {
        let last = frames.last().context("there is no record to tear")?;
        let from = last.at + last.length / 2;
        let zeros = vec![0; last.at + last.length - from];
        file.write_all_at(&zeros, from as u64)?;
        return Ok(format!("record {} cut at half", frames.len()));
    }
    let end = frames.last().map_or(HEADER, |last| last.at + last.length);
    let half = frames.first().map_or_else(
        || vec![7; 100],
        |first| bytes[first.at..first.at + first.length / 2].to_vec(),
    );
    ensure!(!half.is_empty(), "nothing to write");
    file.write_all_at(&half, end as u64)?;
    Ok(format!("half a record behind record {}", frames.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    fn planted(entries: &[&str]) -> anyhow::Result<Folder> {
        let folder = Folder::new()?;
        let run = folder.path().join("runs/r");
        fs::create_dir_all(&run)?;
        let mut bytes = vec![1; HEADER];
        for entry in entries {
            bytes.extend(u32::try_from(entry.len())?.to_le_bytes());
            bytes.extend([0; 16]);
            bytes.extend(entry.as_bytes());
        }
        bytes.resize(bytes.len() + 4096, 0);
        fs::write(run.join("journal"), bytes)?;
        Ok(folder)
    }

    const INTENT: &str = r#"{"seq":1,"entry":{"intent":{"injection":"a","about":{"kind":"k"}}}}"#;
    const ACTIVE: &str = r#"{"seq":2,"entry":{"active":{"injection":"a"}}}"#;

    #[test]
    fn the_last_move_is_told_and_a_torn_one_is_no_more() -> anyhow::Result<()> {
        let folder = planted(&[INTENT, ACTIVE])?;
        assert_eq!(state(folder.path(), "k"), "active");
        assert_eq!(state(folder.path(), "other"), "none");
        tear(folder.path(), "before-undoing")?;
        assert_eq!(state(folder.path(), "k"), "active");
        tear(folder.path(), "after-active")?;
        assert_eq!(state(folder.path(), "k"), "intent");
        Ok(())
    }
}
