//! What the server of a queue has counted, in a file that outlives it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Begins the file; the last character is its version. A file without the last word is of a queue.
const MAGIC: &[u8; 8] = b"sqcount1";
const WORDS: usize = 13;

/// Counts of packets since the queue was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Read from the queue.
    pub received: u64,
    /// Let go on, changed or not.
    pub passed: u64,
    /// Lost on purpose.
    pub dropped: u64,
    /// Sent a second time.
    pub doubled: u64,
    /// Changed.
    pub altered: u64,
    /// Passed by later ones.
    pub reordered: u64,
    /// Treatments that failed: the packet went on as it was.
    pub failed: u64,
    /// That the kernel threw away while they waited, at the least: a verdict on many at once misses once.
    pub flushed: u64,
    /// That did not fit into the queue and went on untreated, as far as a later packet showed it.
    pub overflowed: u64,
    /// Passed after they had waited for their time.
    pub held: u64,
    /// How long those did, together, and the longest, in nanoseconds.
    pub held_ns: u64,
    pub held_ns_max: u64,
    /// Packets were treated where they passed: nothing could overflow.
    pub without_queue: bool,
}

impl Counts {
    fn words(&self) -> [u64; WORDS] {
        [
            self.received,
            self.passed,
            self.dropped,
            self.doubled,
            self.altered,
            self.reordered,
            self.failed,
            self.flushed,
            self.overflowed,
            self.held,
            self.held_ns,
            self.held_ns_max,
            u64::from(self.without_queue),
        ]
    }

    /// Writes them to the file, over what was there.
    pub fn write(&self, file: &File) -> io::Result<()> {
        let mut bytes = [0u8; 8 * (WORDS + 1)];
        bytes[..8].copy_from_slice(MAGIC);
        for (place, word) in bytes[8..].chunks_exact_mut(8).zip(self.words()) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        file.write_all_at(&bytes, 0)
    }

    /// Reads them back. An empty file: nothing was counted yet.
    pub fn read(path: &Path) -> io::Result<Counts> {
        let bytes = std::fs::read(path)?;
        if bytes.is_empty() {
            return Ok(Counts::default());
        }
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is no file of counts");
        let body = bytes.strip_prefix(MAGIC).ok_or_else(invalid)?;
        let mut words = body
            .chunks_exact(8)
            .map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || words.next().ok_or_else(invalid);
        Ok(Counts {
            received: next()?,
            passed: next()?,
            dropped: next()?,
            doubled: next()?,
            altered: next()?,
            reordered: next()?,
            failed: next()?,
            flushed: next()?,
            overflowed: next()?,
            held: next()?,
            held_ns: next()?,
            held_ns_max: next()?,
            without_queue: next().is_ok_and(|word| word != 0),
        })
    }

    /// Those without a verdict: they wait, or were lost with their server.
    pub fn waiting(&self) -> u64 {
        self.received
            .saturating_sub(self.passed + self.dropped + self.flushed)
    }

    /// Those on which the fault has acted, or acts by making them wait. One that fails to be treated is none.
    pub fn treated(&self) -> u64 {
        self.dropped + self.doubled + self.altered + self.reordered + self.held + self.waiting()
    }

    /// In words. `is_over`: whoever counted is gone, so what still waited is lost.
    pub fn words_for_people(&self, is_over: bool) -> String {
        let mut text = format!("{} packets received, {} passed", self.received, self.passed);
        let parts = [
            (self.dropped, "dropped"),
            (self.doubled, "sent twice"),
            (self.altered, "changed"),
            (self.reordered, "overtaken"),
            (self.failed, "could not be treated"),
            (
                self.flushed,
                "or more thrown away by the kernel while they waited",
            ),
        ];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!(", {count} {what}"));
        }
        match (self.waiting(), is_over) {
            (0, _) => {}
            (count, false) => text.push_str(&format!(", {count} wait")),
            (count, true) => text.push_str(&format!(", {count} lost with their server")),
        }
        if self.held > 0 {
            text.push_str(&format!(
                ", {} held for {:.3} ms on average and {:.3} ms at most",
                self.held,
                self.held_ns as f64 / self.held as f64 / 1e6,
                self.held_ns_max as f64 / 1e6
            ));
        }
        if self.treated() == 0 {
            text.push_str(", none treated");
        }
        if self.without_queue {
            return text;
        }
        text.push_str(&match self.overflowed {
            0 => ", no overflow was seen".to_owned(),
            count => format!(", {count} did not fit into the queue and passed untreated"),
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_their_file_and_a_damaged_file_is_no_zero() {
        let path = std::env::temp_dir().join(format!("squall-counts-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        assert_eq!(Counts::read(&path).unwrap(), Counts::default());
        let counts = Counts {
            received: 10,
            passed: 6,
            dropped: 1,
            held: 6,
            held_ns: 60_000_000,
            held_ns_max: 11_000_000,
            ..Counts::default()
        };
        counts.write(&file).unwrap();
        assert_eq!(Counts::read(&path).unwrap(), counts);
        assert_eq!(
            counts.words_for_people(true),
            "10 packets received, 6 passed, 1 dropped, 3 lost with their server, 6 held for 10.000 ms on average and 11.000 ms at most, no overflow was seen"
        );
        assert!(counts.words_for_people(false).contains("3 wait"));
        assert_eq!(counts.treated(), 1 + 6 + 3);
        let idle = Counts {
            received: 5,
            passed: 5,
            failed: 2,
            ..Counts::default()
        };
        assert_eq!(idle.treated(), 0, "a failure is no effect");
        assert!(idle.words_for_people(true).contains("none treated"));
        let passed = Counts {
            received: 5,
            passed: 4,
            dropped: 1,
            without_queue: true,
            ..Counts::default()
        };
        passed.write(&file).unwrap();
        assert_eq!(Counts::read(&path).unwrap(), passed);
        assert_eq!(
            passed.words_for_people(true),
            "5 packets received, 4 passed, 1 dropped"
        );
        // As it was written before there was a last word.
        file.set_len(8 * 13).unwrap();
        assert!(!Counts::read(&path).unwrap().without_queue);
        file.set_len(20).unwrap();
        assert!(Counts::read(&path).is_err());
        std::fs::write(&path, "another file").unwrap();
        assert!(Counts::read(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
