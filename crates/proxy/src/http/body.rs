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
pub(crate) struct BodyError;

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
            if self.line.len() + count > LINE_MAX {
                return Err(BodyError);
            }
            self.line.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            if end.is_some() {
                self.line_is_complete()?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn line_is_complete(&mut self) -> Result<(), BodyError> {
        let line = std::mem::take(&mut self.line);
        if self.at == At::Trailer {
            self.trailers += line.len();
            if self.trailers > TRAILERS_MAX {
                return Err(BodyError);
            }
        }
        let text = std::str::from_utf8(&line)
            .map_err(|_| BodyError)?
            .trim_end_matches(['\r', '\n']);
        self.at = match self.at {
            At::Size => {
                let digits = text.split(';').next().unwrap_or_default().trim();
                let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let size = u64::from_str_radix(digits, 16).ok().filter(|_| all_hex);
                match size.ok_or(BodyError)? {
                    0 => At::Trailer,
                    size => At::Data(size),
                }
            }
            At::DataEnd if text.is_empty() => At::Size,
            At::DataEnd => return Err(BodyError),
            At::Trailer if text.is_empty() => At::Done,
            other => other,
        };
        Ok(())
    }
}
