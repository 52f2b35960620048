//! Files of /proc and cgroups, kept open and read at offset 0.

use std::fs::File;

const BUFFER: usize = 16 << 10;

/// A file that is read again and again.
pub(super) struct Kept {
    file: File,
    buffer: Vec<u8>,
}

impl Kept {
    pub(super) fn open(path: &str) -> Option<Kept> {
        Some(Kept {
            file: File::open(path).ok()?,
            buffer: vec![0; BUFFER],
        })
    }

    /// Its text now; nothing when it can no longer be read.
    pub(super) fn read(&mut self) -> Option<&[u8]> {
        read_into(&self.file, &mut self.buffer)
    }
}

/// Reads a file from its beginning into a shared buffer.
pub(super) fn read_into<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let len = rustix::io::pread(file, &mut *buffer, 0).ok()?;
    (len > 0).then(|| &buffer[..len])
}

/// The `index`-th number among words.
pub(super) fn number(text: &[u8], index: usize) -> Option<u64> {
    words(text).nth(index).and_then(parse)
}

pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

pub(super) fn parse(word: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    if word.is_empty() {
        return None;
    }
    for byte in word {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// The number after `key` at the beginning of a line.
pub(super) fn field(text: &[u8], key: &[u8]) -> Option<u64> {
    lines(text)
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| number(rest, 0))
}

/// Bytes of a page.
pub(super) fn page() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_the_kernel_s_text() {
        let text = b"MemTotal:       24683532 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(field(text, b"MemAvailable:"), Some(23_000_000));
        assert_eq!(field(text, b"Missing:"), None);
        assert_eq!(number(b"0.01 2 17", 2), Some(17));
        assert_eq!(parse(b"99999999999999999999"), None);
    }
}
