//! HTTP/1.1 as bytes: heads and bodies, read in pieces as they come, without a socket.
//!
//! Ours, because a proxy that breaks messages on purpose must be able to write what no library would.

mod body;
mod head;
#[cfg(test)]
mod tests;

pub(crate) use body::Body;
pub(crate) use head::Head;
#[cfg(test)]
pub(crate) use head::HeadError;
