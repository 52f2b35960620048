//! The head of a message: its first line and its fields.

use super::body::Body;
use crate::stream::HELD_MAX;
use std::ops::Range;

/// What a head must be shorter than, in bytes: no more of it is held.
pub(crate) const HEAD_MAX: usize = HELD_MAX;
/// The most fields of a head.
const FIELDS_MAX: usize = 256;

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("its head is not shorter than {HEAD_MAX} bytes or has more than {FIELDS_MAX} fields")]
    TooLarge,
    #[error("its first line is no HTTP/1 line")]
    FirstLine,
    #[error("one of its fields is malformed")]
    Field,
    #[error("it says in two ways how long its body is")]
    Length,
}

/// A head as it was received, byte for byte, and where its parts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    raw: Vec<u8>,
    line: [Range<usize>; 3],
    fields: Vec<(Range<usize>, Range<usize>)>,
}

impl Head {
    /// The head at the start of `bytes`; nothing yet when its end is not there.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
        let Some(end) = end_of(bytes) else {
            // A reader that holds so many bytes reads no more.
            return if bytes.len() >= HEAD_MAX {
                Err(HeadError::TooLarge)
            } else {
                Ok(None)
            };
        };
        if end >= HEAD_MAX {
            return Err(HeadError::TooLarge);
        }
        let raw = bytes[..end].to_vec();
        let mut lines = lines(&raw);
        let line = first_line(&raw, lines.next().unwrap_or(0..0))?;
        let mut fields = Vec::with_capacity(16);
        for line in lines.take_while(|line| !line.is_empty()) {
            if fields.len() == FIELDS_MAX {
                return Err(HeadError::TooLarge);
            }
            fields.push(field(&raw, line)?);
        }
        Ok(Some(Head { raw, line, fields }))
    }

    /// As it was received.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    fn part(&self, index: usize) -> &str {
        std::str::from_utf8(&self.raw[self.line[index].clone()]).unwrap_or_default()
    }

    /// Of a request.
    pub(crate) fn method(&self) -> &str {
        self.part(0)
    }

    /// Of a request.
    pub(crate) fn target(&self) -> &str {
        self.part(1)
    }

    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// Of a response.
    pub(crate) fn status(&self) -> u16 {
        self.part(1).parse().unwrap_or(0)
    }

    /// All fields, in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| {
            let name = std::str::from_utf8(&self.raw[name.clone()]).unwrap_or_default();
            (name, &self.raw[value.clone()])
        })
    }

    /// The first field of a name, as text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut found = self
            .fields()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found
            .next()
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Whether a comma-separated field names a token.
    pub(crate) fn names(&self, name: &str, token: &str) -> bool {
        let mut all = self
            .fields()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        all.any(|(_, value)| {
            let value = std::str::from_utf8(value).unwrap_or_default();
            value
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(token))
        })
    }

    /// Whether the connection can carry another message after this one.
    pub(crate) fn keeps_alive(&self) -> bool {
        let version = if self.part(0).starts_with("HTTP/") {
            self.part(0)
        } else {
            self.part(2)
        };
        match version {
            "HTTP/1.0" => self.names("connection", "keep-alive"),
            _ => !self.names("connection", "close"),
        }
    }

    /// Whether a request is of HTTP/1.0, which knows no chunks.
    pub(crate) fn is_old(&self) -> bool {
        self.part(2) == "HTTP/1.0"
    }

    /// The body of a request.
    pub(crate) fn request_body(&self) -> Result<Body, HeadError> {
        Ok(self.framing()?.unwrap_or(Body::Length(0)))
    }

    /// The body of a response to a request of this method.
    pub(crate) fn response_body(&self, method: &str) -> Result<Body, HeadError> {
        let status = self.status();
        if method == "HEAD" || status == 204 || status == 304 || (100..200).contains(&status) {
            return Ok(Body::Length(0));
        }
        Ok(self.framing()?.unwrap_or(Body::UntilEnd))
    }

    fn framing(&self) -> Result<Option<Body>, HeadError> {
        if self.names("transfer-encoding", "chunked") {
            return Ok(Some(Body::chunked()));
        }
        let mut length = None;
        for (name, value) in self.fields() {
            if !name.eq_ignore_ascii_case("content-length") {
                continue;
            }
            let digits = value.iter().all(u8::is_ascii_digit);
            let value = std::str::from_utf8(value)
                .ok()
                .filter(|_| digits)
                .and_then(|text| text.parse::<u64>().ok());
            let value = value.ok_or(HeadError::Length)?;
            if length.is_some_and(|known| known != value) {
                return Err(HeadError::Length);
            }
            length = Some(value);
        }
        Ok(length.map(Body::Length))
    }

    /// The head with other fields: those of the names in `without` left out, others added.
    pub(crate) fn with(&self, without: &[&str], added: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = self.raw[self.line[0].start..self.line[2].end].to_vec();
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in self.fields() {
            if without.iter().any(|gone| name.eq_ignore_ascii_case(gone)) {
                continue;
            }
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        for (name, value) in added {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// The end of a head: after its first empty line.
fn end_of(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'\n') {
        let next = from + at + 1;
        match bytes.get(next..) {
            Some([b'\n', ..]) => return Some(next + 1),
            Some([b'\r', b'\n', ..]) => return Some(next + 2),
            _ => from = next,
        }
    }
    None
}

/// Lines without their ends.
fn lines(raw: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = raw.get(from..)?.iter().position(|byte| *byte == b'\n')?;
        let (start, mut end) = (from, from + at);
        from = end + 1;
        if end > start && raw[end - 1] == b'\r' {
            end -= 1;
        }
        Some(start..end)
    })
}

fn first_line(raw: &[u8], line: Range<usize>) -> Result<[Range<usize>; 3], HeadError> {
    let text = std::str::from_utf8(&raw[line.clone()]).map_err(|_| HeadError::FirstLine)?;
    let first = text.find(' ').ok_or(HeadError::FirstLine)?;
    let rest = &text[first + 1..];
    // A status line may end after its code.
    let second = rest.find(' ').unwrap_or(rest.len());
    let third = (first + 1 + second + 1).min(text.len());
    let at = |from: usize, to: usize| line.start + from..line.start + to;
    let parts = [
        at(0, first),
        at(first + 1, first + 1 + second),
        at(third, text.len()),
    ];
    let is_response = text.starts_with("HTTP/1.")
        && rest[..second].len() == 3
        && rest.as_bytes()[0].is_ascii_digit();
    let is_request = text[third..].starts_with("HTTP/1.") && first > 0 && second > 0;
    if is_response || is_request {
        Ok(parts)
    } else {
        Err(HeadError::FirstLine)
    }
}

fn field(raw: &[u8], line: Range<usize>) -> Result<(Range<usize>, Range<usize>), HeadError> {
    let bytes = &raw[line.clone()];
    let colon = bytes
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(HeadError::Field)?;
    let is_token = |byte: &u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(byte);
    if colon == 0 || !bytes[..colon].iter().all(is_token) {
        return Err(HeadError::Field);
    }
    let is_space = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = colon
        + 1
        + bytes[colon + 1..]
            .iter()
            .take_while(|byte| is_space(byte))
            .count();
    let end = bytes.len()
        - bytes[start..]
            .iter()
            .rev()
            .take_while(|byte| is_space(byte))
            .count();
    Ok((
        line.start..line.start + colon,
        line.start + start..line.start + end,
    ))
}
