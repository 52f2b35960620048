//! Reading sample blocks: never panics, whatever the bytes.

use super::codec::{
    Block, CodecError, EXACT_BITS, POWERS, RAW_MAX, SeriesId, VERSION, from_integer,
};
use super::wire::{Reader, unzigzag};

impl Block {
    /// Reads a block of this or an older version.
    pub fn decode(bytes: &[u8]) -> Result<Block, CodecError> {
        let mut head = Reader::new(bytes);
        match head.byte()? {
            VERSION => {}
            newer if newer > VERSION => return Err(CodecError::Newer(newer)),
            _ => return Err(CodecError::Damaged("its version is 0")),
        }
        let len = head.count(RAW_MAX)?;
        let squeezed = head.take(head.left())?;
        let raw = miniz_oxide::inflate::decompress_to_vec_with_limit(squeezed, len)
            .map_err(|_| CodecError::Damaged("it does not inflate"))?;
        if raw.len() != len {
            return Err(CodecError::Truncated);
        }
        let mut reader = Reader::new(&raw);
        let times = decode_times(&mut reader)?;
        let ids = decode_ids(&mut reader)?;
        let presence: Vec<Vec<u32>> = ids
            .iter()
            .map(|_| decode_presence(&mut reader, times.len() as u32))
            .collect::<Result<_, _>>()?;
        let mut columns = Vec::with_capacity(ids.len());
        for (id, ticks) in ids.into_iter().zip(presence) {
            let values = decode_values(&mut reader, ticks.len())?;
            columns.push((id, ticks.into_iter().zip(values).collect()));
        }
        Ok(Block { times, columns })
    }
}

fn decode_times(reader: &mut Reader<'_>) -> Result<Vec<u64>, CodecError> {
    let count = reader.count(reader.left())?;
    let (mut last, mut step) = (0u64, 0u64);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        step = step.wrapping_add(unzigzag(reader.varint()?) as u64);
        last = last.wrapping_add(step);
        if times.last().is_some_and(|before| *before >= last) {
            return Err(CodecError::Damaged("its times do not increase"));
        }
        times.push(last);
    }
    Ok(times)
}

fn decode_ids(reader: &mut Reader<'_>) -> Result<Vec<SeriesId>, CodecError> {
    let count = reader.count(reader.left())?;
    let mut ids = Vec::with_capacity(count);
    let mut last = 0u64;
    for index in 0..count {
        let step = reader.varint()?;
        last = last.saturating_add(step);
        let id =
            u32::try_from(last).map_err(|_| CodecError::Damaged("a series number is too large"))?;
        if index > 0 && step == 0 {
            return Err(CodecError::Damaged("a series occurs twice"));
        }
        ids.push(SeriesId(id));
    }
    Ok(ids)
}

/// The ticks at which a series was present.
fn decode_presence(reader: &mut Reader<'_>, ticks: u32) -> Result<Vec<u32>, CodecError> {
    let pairs = reader.count(reader.left())?;
    if pairs == 0 {
        return Ok((0..ticks).collect());
    }
    let (mut at, mut present) = (0u32, Vec::new());
    for _ in 0..pairs {
        at += reader.count((ticks - at) as usize)? as u32;
        let length = reader.count((ticks - at) as usize)? as u32;
        present.extend(at..at + length);
        at += length;
    }
    Ok(present)
}

fn decode_values(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, CodecError> {
    match reader.byte()? {
        EXACT_BITS => decode_bits(reader, count),
        places if usize::from(places) < POWERS.len() => {
            decode_integers(reader, usize::from(places), count)
        }
        _ => Err(CodecError::Damaged("it holds an unknown kind of column")),
    }
}

fn decode_integers(
    reader: &mut Reader<'_>,
    places: usize,
    count: usize,
) -> Result<Vec<f64>, CodecError> {
    let unit = reader.varint()? as i64;
    let mut now = unzigzag(reader.varint()?);
    if unit == 0 {
        return Ok(vec![from_integer(now, places); count]);
    }
    let mut values = Vec::with_capacity(count);
    values.push(from_integer(now, places));
    while values.len() < count {
        match reader.varint()? {
            0 => {
                let repeat = reader.count(count - values.len())? + 1;
                if repeat > count - values.len() {
                    return Err(CodecError::Damaged("a run is too long"));
                }
                values.resize(values.len() + repeat, from_integer(now, places));
            }
            step => {
                now = now.wrapping_add(unzigzag(step).wrapping_mul(unit));
                values.push(from_integer(now, places));
            }
        }
    }
    Ok(values)
}

fn decode_bits(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, CodecError> {
    let runs = reader.count(count)?;
    let lengths: Vec<usize> = (0..runs)
        .map(|_| reader.count(count))
        .collect::<Result<_, _>>()?;
    let mut bits = vec![0u64; runs];
    for _ in 0..8 {
        for (bits, byte) in bits.iter_mut().zip(reader.take(runs)?) {
            *bits = (*bits << 8) | u64::from(*byte);
        }
    }
    let (mut values, mut before) = (Vec::with_capacity(count), 0u64);
    for (changed, length) in bits.into_iter().zip(lengths) {
        before ^= changed;
        if values.len() + length + 1 > count {
            return Err(CodecError::Damaged("a run is too long"));
        }
        values.resize(values.len() + length + 1, f64::from_bits(before));
    }
    if values.len() != count {
        return Err(CodecError::Damaged("its values do not fill its ticks"));
    }
    Ok(values)
}
