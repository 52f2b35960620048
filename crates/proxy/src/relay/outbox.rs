//! Bytes that wait for a socket, in blocks of one size.
//!
//! Invariant: at most two blocks are not full, so that what waits needs little more room than its bytes, however it came.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes of a block; with what the allocator adds, two are a page.
const BLOCK: usize = 2048 - 16;
/// Blocks that are offered to the socket at once.
pub(super) const OFFERED: usize = 32;

/// Bytes that wait for a socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    blocks: VecDeque<Vec<u8>>,
    /// So many bytes of the first block are gone.
    gone: usize,
    length: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// After all that waits.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            let spare = self.blocks.back().map_or(0, |block| BLOCK - block.len());
            if spare == 0 {
                self.blocks.push_back(Vec::with_capacity(BLOCK));
                continue;
            }
            let (now, later) = bytes.split_at(spare.min(bytes.len()));
            if let Some(block) = self.blocks.back_mut() {
                block.extend_from_slice(now);
            }
            bytes = later;
        }
    }

    /// What waits, from its start, as far as it is offered at once; gives how many slices there are.
    pub(super) fn offer<'a>(&'a self, slices: &mut [IoSlice<'a>; OFFERED]) -> usize {
        let mut count = 0;
        for (slice, block) in slices.iter_mut().zip(&self.blocks) {
            let from = if count == 0 { self.gone } else { 0 };
            *slice = IoSlice::new(&block[from..]);
            count += 1;
        }
        count
    }

    /// The first so many bytes are gone.
    pub(super) fn took(&mut self, count: usize) {
        self.length -= count;
        self.gone += count;
        while self
            .blocks
            .front()
            .is_some_and(|block| block.len() <= self.gone)
        {
            self.gone -= self.blocks.pop_front().map_or(0, |block| block.len());
        }
        if self.blocks.is_empty() && self.blocks.capacity() > 0 {
            // Nine thousand idle streams keep no buffers.
            self.blocks = VecDeque::new();
        }
    }

    /// All of it, taken out.
    pub(super) fn drain(&mut self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.length);
        for block in std::mem::take(&mut self.blocks) {
            all.extend_from_slice(&block[std::mem::take(&mut self.gone)..]);
        }
        self.length = 0;
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offered(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); OFFERED];
        let count = outbox.offer(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn what_waits_needs_little_more_room_than_its_bytes() {
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.push(&[1; 60]);
        }
        outbox.took(10);
        let room: usize = outbox.blocks.iter().map(Vec::capacity).sum();
        assert!(room <= outbox.len() + 2 * BLOCK, "{room}");
        outbox.took(outbox.len());
        assert_eq!((outbox.blocks.capacity(), outbox.gone), (0, 0));
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_in_which_they_came(turns in proptest::collection::vec((0..9000usize, 0..9000usize), 1..12)) {
            let mut outbox = Outbox::default();
            let (mut known, mut next) = (Vec::new(), 0u8);
            for (more, fewer) in turns {
                let bytes: Vec<u8> = (0..more).map(|_| { next = next.wrapping_add(1); next }).collect();
                outbox.push(&bytes);
                known.extend(bytes);
                let fewer = fewer.min(known.len());
                outbox.took(fewer);
                known.drain(..fewer);
                prop_assert_eq!(outbox.len(), known.len());
                let seen = offered(&outbox);
                prop_assert!(known.starts_with(&seen) && (seen.is_empty() == known.is_empty()));
            }
            prop_assert_eq!(outbox.drain(), known);
            prop_assert!(outbox.is_empty());
        }
    }
}
