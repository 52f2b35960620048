//! The bytes of a journal: a header block, then records of length, sequence, checksum and JSON.
//!
//! Each checksum covers the one before it, so a stale record behind a torn one can never be taken for its successor.
//! The first record that does not check ends the log.

use super::JournalError;
use super::record::Record;
use crate::origin::Origin;
use serde::{Deserialize, Serialize};
use squall_model::id::RunId;
use squall_model::seed::hash64;
use std::path::Path;

/// The newest version this build reads, and the one it writes.
pub const VERSION: u32 = 1;
/// The longest JSON of one record.
pub const RECORD_MAX: usize = 64 * 1024;
/// Bytes of the header block.
pub const HEADER_LEN: usize = 4096;
/// Bytes of a record beside its JSON.
pub const FRAME_LEN: usize = 20;
const MAGIC: &[u8; 8] = b"SQUALLJ\n";
const HEADER_HEAD: usize = 24;

/// What stands at the head of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub run: RunId,
    /// The boot on which the run was made.
    pub boot_id: String,
    /// Boot-time clock when it was made.
    pub boot_ns: u64,
    /// The Squall that made it.
    pub squall: String,
    /// Where it was made. Journals of the first releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A decoded journal.
#[derive(Debug, Clone)]
pub struct Decoded {
    pub header: Header,
    pub records: Vec<Record>,
    /// Where the next record goes.
    pub end: u64,
    /// The last record's checksum.
    pub chain: u64,
}

fn checksum(chain: u64, seq: u64, payload: &[u8]) -> u64 {
    hash64(&[&chain.to_le_bytes(), &seq.to_le_bytes(), payload])
}

/// The header block.
pub fn encode_header(header: &Header) -> Vec<u8> {
    let json = serde_json::to_vec(header).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&checksum(0, u64::from(VERSION), &json).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.resize(HEADER_LEN, 0);
    bytes
}

/// One record's bytes, and its checksum for the next one.
pub fn encode(record: &Record, chain: u64) -> Result<(Vec<u8>, u64), JournalError> {
    let too_long = |bytes| JournalError::TooLong {
        what: record.entry.name().to_owned(),
        bytes,
        most: RECORD_MAX,
    };
    let json = serde_json::to_vec(record).map_err(|_| too_long(0))?;
    if json.len() > RECORD_MAX {
        return Err(too_long(json.len()));
    }
    let sum = checksum(chain, record.seq, &json);
    let mut bytes = Vec::with_capacity(FRAME_LEN + json.len());
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&record.seq.to_le_bytes());
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(&json);
    Ok((bytes, sum))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Reads a journal of this or an older version. `path` is for messages only.
pub fn decode(bytes: &[u8], path: &Path) -> Result<Decoded, JournalError> {
    let damaged = |because: &str| JournalError::Damaged {
        path: path.to_owned(),
        because: because.to_owned(),
    };
    if bytes.get(..8) != Some(MAGIC) {
        return Err(damaged("it does not begin like a journal"));
    }
    let version = u32_at(bytes, 8).ok_or_else(|| damaged("it ends within its header"))?;
    match version {
        1 => decode_v1(bytes).ok_or_else(|| damaged("its header does not check")),
        0 => Err(damaged("its version is 0")),
        newer => Err(JournalError::Newer {
            path: path.to_owned(),
            found: newer,
            known: VERSION,
        }),
    }
}

fn decode_v1(bytes: &[u8]) -> Option<Decoded> {
    let length = u32_at(bytes, 12)? as usize;
    let sum = u64_at(bytes, 16)?;
    let json = bytes.get(HEADER_HEAD..HEADER_HEAD.checked_add(length)?)?;
    if length > HEADER_LEN - HEADER_HEAD || checksum(0, 1, json) != sum {
        return None;
    }
    let header = serde_json::from_slice(json).ok()?;
    let mut decoded = Decoded {
        header,
        records: Vec::new(),
        end: HEADER_LEN as u64,
        chain: sum,
    };
    let mut at = HEADER_LEN;
    while let Some((record, sum, length)) = decode_record(bytes, at, decoded.chain) {
        if record.seq != decoded.records.len() as u64 + 1 {
            break;
        }
        decoded.records.push(record);
        decoded.chain = sum;
        at += length;
    }
    decoded.end = at as u64;
    Some(decoded)
}

fn decode_record(bytes: &[u8], at: usize, chain: u64) -> Option<(Record, u64, usize)> {
    let length = u32_at(bytes, at)? as usize;
    if length > RECORD_MAX {
        return None;
    }
    let seq = u64_at(bytes, at + 4)?;
    let sum = u64_at(bytes, at + 12)?;
    let json = bytes.get(at + FRAME_LEN..at + FRAME_LEN + length)?;
    if checksum(chain, seq, json) != sum {
        return None;
    }
    let record: Record = serde_json::from_slice(json).ok()?;
    (record.seq == seq).then_some((record, sum, FRAME_LEN + length))
}

/// The checksum that a fresh journal's first record covers.
pub fn first_chain(header: &Header) -> u64 {
    let json = serde_json::to_vec(header).unwrap_or_default();
    checksum(0, u64::from(VERSION), &json)
}
