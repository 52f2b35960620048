//! Packs: many training events in one row, squeezed without loss.
//!
//! Events of one kind are the same text but for a few numbers. So each text is taken apart into a template, which is written once, and its
//! runs of digits, which stand in columns: as differences to the number at the same place of the last event of that template, or as text
//! where digits are no plain number (a fraction with leading zeros, a long digest). zlib squeezes the whole and its checksum guards it.
//! What comes back is the same text, byte for byte.

use super::codec::CodecError;
use super::wire::{Reader, put, unzigzag, zigzag};
use std::collections::HashMap;

/// The version of the pack format, the first byte of every pack.
const VERSION: u8 = 1;
/// The largest pack accepted when reading, unsqueezed, in bytes.
const RAW_MAX: usize = 64 << 20;
/// The most events accepted in a pack when reading.
const EVENTS_MAX: usize = 1 << 16;
const DEFLATE_LEVEL: u8 = 6;
/// Where a template has a number. JSON escapes control characters, so these never stand in an event's text.
const NUMBER: u8 = 0;
/// Where a template has digits that are kept as text.
const DIGITS: u8 = 1;
/// Digits of the largest number kept as one.
const NUMBER_DIGITS: usize = 18;

/// One event as it is kept: its body is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) seq: u64,
    pub(super) t_ns: u64,
    pub(super) body: String,
}

/// The events of one template: a column for each of its places.
struct Shape<'a> {
    number: usize,
    columns: Vec<Column<'a>>,
}

enum Column<'a> {
    Numbers(Vec<i64>),
    Digits(Vec<&'a str>),
}

/// Squeezes events, whose numbers increase.
pub(super) fn encode(events: &[Packed]) -> Vec<u8> {
    let mut shapes: HashMap<Vec<u8>, Shape<'_>> = HashMap::new();
    let mut order: Vec<usize> = Vec::with_capacity(events.len());
    for event in events {
        order.push(sort_in(&mut shapes, &event.body));
    }
    let mut raw = Vec::new();
    put(&mut raw, events.len() as u64);
    let (mut seq, mut t_ns) = (0u64, 0u64);
    for event in events {
        put(&mut raw, event.seq.wrapping_sub(seq));
        seq = event.seq;
    }
    for event in events {
        put(&mut raw, zigzag(event.t_ns.wrapping_sub(t_ns) as i64));
        t_ns = event.t_ns;
    }
    let mut shapes: Vec<(Vec<u8>, Shape<'_>)> = shapes.into_iter().collect();
    shapes.sort_by_key(|(_, shape)| shape.number);
    put(&mut raw, shapes.len() as u64);
    for (template, _) in &shapes {
        put_text(&mut raw, template);
    }
    order
        .iter()
        .for_each(|number| put(&mut raw, *number as u64));
    for column in shapes.iter().flat_map(|(_, shape)| &shape.columns) {
        put_column(&mut raw, column);
    }
    let mut out = vec![VERSION];
    out.extend(miniz_oxide::deflate::compress_to_vec_zlib(
        &raw,
        DEFLATE_LEVEL,
    ));
    out
}

/// Takes a body apart and files its digits under its template; returns the template's number.
fn sort_in<'a>(shapes: &mut HashMap<Vec<u8>, Shape<'a>>, body: &'a str) -> usize {
    let mut template = Vec::with_capacity(body.len());
    let mut found: Vec<(&'a str, Option<i64>)> = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        let number = as_number(digits);
        template.extend(before.as_bytes());
        template.push(if number.is_some() { NUMBER } else { DIGITS });
        found.push((digits, number));
        rest = after;
    }
    template.extend(rest.as_bytes());
    let next = shapes.len();
    let shape = shapes.entry(template).or_insert_with(|| Shape {
        number: next,
        columns: found
            .iter()
            .map(|(_, number)| match number {
                Some(_) => Column::Numbers(Vec::new()),
                None => Column::Digits(Vec::new()),
            })
            .collect(),
    });
    for (column, (digits, number)) in shape.columns.iter_mut().zip(found) {
        match (column, number) {
            (Column::Numbers(all), Some(number)) => all.push(number),
            (Column::Digits(all), _) => all.push(digits),
            // One template has the same kinds of places in all its events.
            (Column::Numbers(_), None) => {}
        }
    }
    shape.number
}

/// The number that is written with exactly these digits.
fn as_number(digits: &str) -> Option<i64> {
    let plain = digits == "0" || !digits.starts_with('0');
    (plain && digits.len() <= NUMBER_DIGITS)
        .then(|| digits.parse().ok())
        .flatten()
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put(out, text.len() as u64);
    out.extend(text);
}

fn put_column(out: &mut Vec<u8>, column: &Column<'_>) {
    match column {
        Column::Numbers(all) => {
            let mut last = 0;
            for number in all {
                put(out, zigzag(number - last));
                last = *number;
            }
        }
        Column::Digits(all) => all
            .iter()
            .for_each(|digits| put_text(out, digits.as_bytes())),
    }
}

/// A pack that is being read: events come out one by one.
pub(super) struct Unpacked {
    heads: std::vec::IntoIter<(u64, u64, usize)>,
    templates: Vec<Vec<u8>>,
    /// For each template, for each of its places, what stands there, last first.
    columns: Vec<Vec<Vec<Value>>>,
}

enum Value {
    Number(i64),
    Digits(Box<str>),
}

impl Unpacked {
    /// Reads a pack. Never panics, whatever the bytes.
    pub(super) fn open(bytes: &[u8]) -> Result<Unpacked, CodecError> {
        let mut head = Reader::new(bytes);
        match head.byte()? {
            VERSION => {}
            newer if newer > VERSION => return Err(CodecError::Newer(newer)),
            _ => return Err(CodecError::Damaged("its version is 0")),
        }
        let squeezed = head.take(head.left())?;
        let raw = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(squeezed, RAW_MAX)
            .map_err(|_| CodecError::Damaged("it does not inflate, or to other bytes"))?;
        let mut reader = Reader::new(&raw);
        let count = reader.count(EVENTS_MAX.min(reader.left()))?;
        let mut heads = Vec::with_capacity(count);
        let mut seq = 0u64;
        for _ in 0..count {
            seq = seq
                .checked_add(reader.varint()?)
                .ok_or(CodecError::Damaged("an event's number is too large"))?;
            heads.push((seq, 0, 0));
        }
        let mut t_ns = 0u64;
        for head in &mut heads {
            t_ns = t_ns.wrapping_add(unzigzag(reader.varint()?) as u64);
            head.1 = t_ns;
        }
        let mut templates = Vec::new();
        for _ in 0..reader.count(reader.left())? {
            let len = reader.count(reader.left())?;
            templates.push(reader.take(len)?.to_vec());
        }
        let mut uses = vec![0usize; templates.len()];
        for head in &mut heads {
            head.2 = reader.count(templates.len().saturating_sub(1))?;
            *uses
                .get_mut(head.2)
                .ok_or(CodecError::Damaged("it has no templates"))? += 1;
        }
        let mut columns = Vec::with_capacity(templates.len());
        for (template, uses) in templates.iter().zip(uses) {
            let places = template.iter().filter(|byte| **byte <= DIGITS);
            let columns_of = places.map(|place| read_column(&mut reader, *place, uses));
            columns.push(columns_of.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Unpacked {
            heads: heads.into_iter(),
            templates,
            columns,
        })
    }

    fn body(&mut self, template: usize) -> Result<String, CodecError> {
        let mut body = Vec::new();
        let mut columns = self.columns[template].iter_mut();
        for byte in &self.templates[template] {
            if *byte > DIGITS {
                body.push(*byte);
                continue;
            }
            match columns.next().and_then(Vec::pop) {
                Some(Value::Number(number)) => body.extend(number.to_string().into_bytes()),
                Some(Value::Digits(digits)) => body.extend(digits.as_bytes()),
                None => return Err(CodecError::Truncated),
            }
        }
        String::from_utf8(body).map_err(|_| CodecError::Damaged("an event is no text"))
    }
}

fn read_column(reader: &mut Reader<'_>, place: u8, uses: usize) -> Result<Vec<Value>, CodecError> {
    let mut column = Vec::new();
    let mut last = 0i64;
    for _ in 0..uses {
        column.push(if place == NUMBER {
            last = last.wrapping_add(unzigzag(reader.varint()?));
            Value::Number(last)
        } else {
            let len = reader.count(reader.left())?;
            let digits = std::str::from_utf8(reader.take(len)?);
            Value::Digits(
                digits
                    .map_err(|_| CodecError::Damaged("digits are no text"))?
                    .into(),
            )
        });
    }
    column.reverse();
    Ok(column)
}

impl Iterator for Unpacked {
    type Item = Result<Packed, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (seq, t_ns, template) = self.heads.next()?;
        Some(self.body(template).map(|body| Packed { seq, t_ns, body }))
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
