//! Server-sent events: a stream of bytes cut into events, byte for byte, and events written anew.
//!
//! Invariant: what is cut and put together again is what came in, whatever pieces it came in.

/// The longest event that is looked into, in bytes. A longer one goes through in pieces, unread.
pub const EVENT_MAX: usize = 64 * 1024;

/// Room that stays for the start of the next event, in bytes.
const KEPT_MAX: usize = 4 * 1024;

/// Cuts a stream into events.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Where the present event began: what is before it was given out.
    start: usize,
    /// How far the buffer was looked through.
    looked: usize,
    /// Where the present line began.
    line: usize,
}

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A whole event, with the empty line that ends it.
    Event(Vec<u8>),
    /// Bytes of an event that is too long, or has no end.
    Unread(Vec<u8>),
}

impl Splitter {
    /// Bytes have arrived: the events that are whole now.
    pub fn push(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        self.buffer.extend_from_slice(bytes);
        while let Some(event) = self.event() {
            pieces.push(Piece::Event(event));
        }
        // Once for all events of a push: each by itself would copy the rest once more.
        self.buffer.drain(..self.start);
        (self.looked, self.line) = (self.looked - self.start, self.line - self.start);
        self.start = 0;
        if self.buffer.capacity() > KEPT_MAX && self.buffer.len() <= KEPT_MAX {
            // A stream whose reader has stopped keeps no room for what it once read at once.
            self.buffer.shrink_to(KEPT_MAX);
        }
        if self.buffer.len() > EVENT_MAX {
            pieces.push(Piece::Unread(self.rest()));
        }
    }

    /// How much is kept of an event that has no end yet, in bytes.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// What has no end yet.
    pub fn rest(&mut self) -> Vec<u8> {
        (self.looked, self.line) = (0, 0);
        std::mem::take(&mut self.buffer)
    }

    fn event(&mut self) -> Option<Vec<u8>> {
        while let Some(byte) = self.buffer.get(self.looked) {
            let end = match (byte, self.buffer.get(self.looked + 1)) {
                (b'\n', _) => self.looked + 1,
                (b'\r', Some(b'\n')) => self.looked + 2,
                // The line feed may be still on its way.
                (b'\r', None) => return None,
                (b'\r', Some(_)) => self.looked + 1,
                _ => {
                    self.looked += 1;
                    continue;
                }
            };
            let is_empty = self.looked == self.line;
            (self.looked, self.line) = (end, end);
            if is_empty {
                let event = self.buffer[self.start..end].to_vec();
                self.start = end;
                return Some(event);
            }
        }
        None
    }
}

/// The fields of an event that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// Of the last `event:` line.
    pub name: Option<String>,
    /// Of all `data:` lines, joined by line feeds; none without any.
    pub data: Option<String>,
}

/// Reads an event. Comments and other fields are not in it.
pub fn fields(event: &[u8]) -> Fields {
    let text = String::from_utf8_lossy(event);
    let mut fields = Fields::default();
    // Without its line feed a carriage return ends a line too, and an empty line more says nothing.
    for line in text.split(['\n', '\r']) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => fields.name = Some(value.to_owned()),
            "data" => match &mut fields.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => fields.data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
    fields
}

/// Writes an event.
pub fn written(name: Option<&str>, data: &str) -> Vec<u8> {
    let mut text = String::new();
    if let Some(name) = name {
        text.push_str(&format!("event: {name}\n"));
    }
    for line in data.split('\n') {
        text.push_str(&format!("data: {line}\n"));
    }
    text.push('\n');
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(parts: &[&[u8]]) -> (Vec<Piece>, Vec<u8>) {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for part in parts {
            splitter.push(part, &mut pieces);
        }
        (pieces, splitter.rest())
    }

    fn events(texts: &[&str]) -> Vec<Piece> {
        texts
            .iter()
            .map(|text| Piece::Event(text.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn events_end_at_an_empty_line_whatever_ends_lines() {
        for (text, whole) in [
            ("data: a\n\ndata: b\n\nrest", ["data: a\n\n", "data: b\n\n"]),
            (
                "data: a\r\n\r\ndata: b\r\n\r\nrest",
                ["data: a\r\n\r\n", "data: b\r\n\r\n"],
            ),
            ("data: a\r\rdata: b\r\rrest", ["data: a\r\r", "data: b\r\r"]),
        ] {
            assert_eq!(
                split(&[text.as_bytes()]),
                (events(&whole), b"rest".to_vec()),
                "{text:?}"
            );
        }
        let cut: [&[u8]; 3] = [b"data: a\r\n\r", b"\ndata", b": b\r\n\r\n"];
        assert_eq!(
            split(&cut).0,
            events(&["data: a\r\n\r\n", "data: b\r\n\r\n"])
        );
    }

    #[test]
    fn fields_are_read_and_written() {
        let read = fields(b": hello\nevent: x\ndata:one\ndata: two\nid: 3\n\n");
        assert_eq!(
            read,
            Fields {
                name: Some("x".into()),
                data: Some("one\ntwo".into())
            }
        );
        assert_eq!(
            written(Some("x"), "one\ntwo"),
            b"event: x\ndata: one\ndata: two\n\n"
        );
        assert_eq!(fields(b": ping\n\n"), Fields::default());
        assert_eq!(fields(b"data\n\n").data.as_deref(), Some(""));
    }

    #[test]
    fn an_event_without_end_is_not_kept() {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for _ in 0..100 {
            splitter.push(&[b'x'; 1000], &mut pieces);
            assert!(splitter.buffer.len() <= EVENT_MAX);
        }
        assert!(matches!(pieces.as_slice(), [Piece::Unread(_)]));
    }

    #[test]
    fn many_small_events_take_no_more_time_than_their_bytes() {
        let mut pieces = Vec::new();
        Splitter::default().push(&vec![b'\n'; 1 << 20], &mut pieces);
        // A copy of the rest for each event would be half a terabyte: this would not end within the minute.
        assert_eq!(pieces.len(), 1 << 20);
    }

    proptest! {
        #[test]
        fn pieces_are_the_same_however_the_bytes_were_cut(text in "[ab:\n\r]{0,60}", cut in 1..20usize) {
            let parts: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            let (pieces, rest) = split(&parts);
            prop_assert_eq!(split(&[text.as_bytes()]), (pieces.clone(), rest.clone()));
            let mut whole: Vec<u8> = pieces.iter().flat_map(|piece| match piece {
                Piece::Event(bytes) | Piece::Unread(bytes) => bytes.clone(),
            }).collect();
            whole.extend(rest);
            prop_assert_eq!(whole, text.into_bytes());
        }
    }
}
