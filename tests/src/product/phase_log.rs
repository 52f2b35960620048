//! Where the trainer really was: its own synced log of phases, which Squall neither reads nor writes.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// One edge of a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Whose.
    pub rank: u32,
    /// Restarts before this process.
    pub restart: u32,
    /// The epoch in progress.
    pub epoch: u64,
    /// The step in progress, or just completed between steps.
    pub step: u64,
    /// The phase.
    pub phase: String,
    /// `begin`, or its end.
    pub begin: bool,
}

/// All edges, in the order of writing.
#[derive(Debug, Clone, Default)]
pub struct PhaseLog(pub Vec<Edge>);

impl PhaseLog {
    /// Reads the log. A last line that a kill has torn is left out.
    ///
    /// # Errors
    /// When it cannot be read or another line is odd.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let edges = whole
            .lines()
            .map(|line| edge(line).with_context(|| format!("no edge of a phase: {line}")));
        Ok(Self(edges.collect::<anyhow::Result<_>>()?))
    }

    /// The last edge of a rank in one life of the job: where it was when it ended.
    pub fn last(&self, rank: u32, restart: u32) -> Option<&Edge> {
        let of_it = |edge: &&Edge| edge.rank == rank && edge.restart == restart;
        self.0.iter().rev().find(of_it)
    }

    /// How often the job was restarted.
    pub fn restarts(&self) -> u32 {
        self.0.iter().map(|edge| edge.restart).max().unwrap_or(0)
    }
}

fn edge(line: &str) -> Option<Edge> {
    let mut words = line.split(' ');
    let edge = Edge {
        rank: words.next()?.parse().ok()?,
        restart: words.next()?.parse().ok()?,
        epoch: words.next()?.parse().ok()?,
        step: words.next()?.parse().ok()?,
        phase: words.next()?.to_owned(),
        begin: words.next()? == "begin",
    };
    words.next()?;
    Some(edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_edge_of_a_life_is_where_the_rank_ended() {
        let lines = "0 0 1 1 forward begin 5\n1 0 1 1 forward begin 6\n1 0 1 1 forward end 7\n1 1 1 1 forward begin 8\n0 0 1 1 for";
        let folder = crate::folder::Folder::new().unwrap();
        let path = folder.path().join("phases");
        fs::write(&path, lines).unwrap();
        let log = PhaseLog::read(&path).unwrap();
        assert_eq!(log.restarts(), 1);
        assert!(!log.last(1, 0).unwrap().begin);
        assert!(log.last(0, 0).unwrap().begin);
        assert!(log.last(0, 1).is_none());
    }
}
