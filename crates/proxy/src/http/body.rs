//! The body of a message, read in pieces as they come.

/// The longest line of a chunked body (a size with its extensions, a trailer), in bytes.
const LINE_MAX: usize = 8 * 1024;
/// The most trailers of a chunked body, in bytes.
const TRAILERS_MAX: usize = 64 * 1024;

/// A body that is being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes are missing.
    Length(u64),
    /// In chunks.
    Chunked(Chunked),
    /// Until the sender ends the connection.
    UntilEnd,
}

/// Where in a chunked body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunked {
    at: At,
    /// The start of a line that is not complete.
    line: Vec<u8>,
    /// Bytes of its trailers so far.
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

/// The body is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its body is not chunked as it says")]
pub(crate) struct BodyError {
    /// How many bytes were taken before; the line that is wrong began among them, or before, and is [`Body::unread`].
    pub(crate) taken: usize,
}

impl Body {
    pub(crate) fn chunked() -> Body {
        Body::Chunked(Chunked {
            at: At::Size,
            line: Vec::new(),
            trailers: 0,
        })
    }

    /// Whether it is complete. One that lasts until the end of the connection never is.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunked) => chunked.at == At::Done,
            Body::UntilEnd => false,
        }
    }

    /// The start of a line of a chunked body that is not complete, or is wrong.
    pub(crate) fn unread(&self) -> &[u8] {
        match self {
            Body::Chunked(chunked) => &chunked.line,
            _ => &[],
        }
    }

    /// Takes bytes; gives how many belong to the body. Its content goes to `content`.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        content: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, BodyError> {
        match self {
            Body::Length(left) => {
                let count = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                if count > 0 {
                    content(&bytes[..count]);
                }
                *left -= count as u64;
                Ok(count)
            }
            Body::UntilEnd => {
                content(bytes);
                Ok(bytes.len())
            }
            Body::Chunked(chunked) => chunked.take(bytes, content),
        }
    }
}

impl Chunked {
    fn take(&mut self, bytes: &[u8], content: &mut dyn FnMut(&[u8])) -> Result<usize, BodyError> {
        let mut rest = bytes;
        while !rest.is_empty() && self.at != At::Done {
            if let At::Data(left) = self.at {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                content(&rest[..count]);
                rest = &rest[count..];
                self.at = match left - count as u64 {
                    0 => At::DataEnd,
                    left => At::Data(left),
                };
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'\n');
            let count = end.map_or(rest.len(), |at| at + 1);
            let taken = bytes.len() - rest.len();
            if self.line.len() + count > LINE_MAX {
                return Err(BodyError { taken });
            }
            self.line.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                if self.line_is_complete(&line).is_none() {
                    self.line = line;
                    let taken = taken + count;
                    return Err(BodyError { taken });
                }
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Goes on after a line; nothing when it is wrong.
    fn line_is_complete(&mut self, line: &[u8]) -> Option<()> {
        if self.at == At::Trailer {
            self.trailers += line.len();
            if self.trailers > TRAILERS_MAX {
                return None;
            }
        }
        let text = std::str::from_utf8(line)
            .ok()?
            .trim_end_matches(['\r', '\n']);
        self.at = match self.at {
            At::Size => {
                let digits = text.split(';').next().unwrap_or_default().trim();
                let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let size = u64::from_str_radix(digits, 16).ok().filter(|_| all_hex);
                match size? {
                    0 => At::Trailer,
                    size => At::Data(size),
                }
            }
            At::DataEnd if text.is_empty() => At::Size,
            At::DataEnd => return None,
            At::Trailer if text.is_empty() => At::Done,
            other => other,
        };
        Some(())
    }
}
