//! Problems while they are collected: all of them, bounded in number, each at its place.

use super::tree::{Node, PathSegment};
use crate::diagnostic::{Diagnostic, Location};
use std::collections::HashSet;

/// The most problems that are reported for one file.
pub const PROBLEMS_MAX: usize = 100;

/// One problem before it has a place.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: &'static str,
    message: String,
    label: Option<String>,
    help: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Problem {
            code,
            message: message.into(),
            label: None,
            help: None,
        }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn at(self, span: Option<Location>) -> Diagnostic {
        Diagnostic {
            code: self.code.to_owned(),
            message: self.message,
            span,
            label: self.label,
            help: self.help,
        }
    }
}

/// The way to a node as a chain on the stack: cheap to extend, written out only when something is wrong there.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    up: Option<&'a At<'a>>,
    here: Here<'a>,
}

#[derive(Clone, Copy)]
enum Here<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(crate) const ROOT: At<'static> = At {
        up: None,
        here: Here::Root,
    };

    pub(crate) fn key(&'a self, key: &'a str) -> At<'a> {
        At {
            up: Some(self),
            here: Here::Key(key),
        }
    }

    pub(crate) fn index(&'a self, index: usize) -> At<'a> {
        At {
            up: Some(self),
            here: Here::Index(index),
        }
    }

    /// The last key on the way.
    pub(crate) fn last_key(&self) -> Option<&str> {
        match (self.here, self.up) {
            (Here::Key(key), _) => Some(key),
            (_, Some(up)) => up.last_key(),
            _ => None,
        }
    }

    pub(crate) fn path(&self) -> Vec<PathSegment> {
        let mut path = self.up.map(At::path).unwrap_or_default();
        match self.here {
            Here::Root => {}
            Here::Key(key) => path.push(PathSegment::Key(key.to_owned())),
            Here::Index(index) => path.push(PathSegment::Index(index)),
        }
        path
    }
}

/// Which part of a place the caret stands under.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Focus {
    /// The value if it fits a line, else its key.
    Value,
    /// The key, or the item's one key.
    Key,
}

/// All problems of one file.
#[derive(Default)]
pub(crate) struct Problems {
    found: Vec<Diagnostic>,
    left_out: usize,
    /// Paths at which something else than what was written stands in for it; later passes stay silent about them.
    replaced: HashSet<Vec<PathSegment>>,
    /// Maps that lack a key or have one too many: later passes stay silent about the map itself.
    incomplete: HashSet<Vec<PathSegment>>,
}

impl Problems {
    pub(crate) fn add_file(&mut self, problem: Problem) {
        self.push(problem.at(None));
    }

    pub(crate) fn add_at(&mut self, place: Location, problem: Problem) {
        self.push(problem.at(Some(place)));
    }

    pub(crate) fn add(&mut self, root: &Node, at: At<'_>, focus: Focus, problem: Problem) {
        if self.is_full() {
            return self.count_only();
        }
        let path = at.path();
        let place = match focus {
            Focus::Value => root.place(&path).focus(),
            Focus::Key => {
                let place = root.named_place(&path);
                place.key.unwrap_or(place.value)
            }
        };
        self.add_at(place, problem);
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.count_only();
        } else {
            self.found.push(diagnostic);
        }
    }

    /// Whether further problems are only counted; nothing costly need be done for them.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= PROBLEMS_MAX
    }

    /// Counts a problem that is not shown.
    pub(crate) fn count_only(&mut self) {
        self.left_out += 1;
    }

    pub(crate) fn replaced(&mut self, at: At<'_>) {
        self.replaced.insert(at.path());
    }

    pub(crate) fn incomplete(&mut self, at: At<'_>) {
        self.incomplete.insert(at.path());
    }

    /// Whether a later pass should stay silent about `at`, since what stands there is not what was written.
    pub(crate) fn is_doubtful(&self, at: At<'_>) -> bool {
        if self.replaced.is_empty() && self.incomplete.is_empty() {
            return false;
        }
        let path = at.path();
        self.incomplete.contains(&path)
            || (0..=path.len()).any(|length| self.replaced.contains(&path[..length]))
    }

    /// Whether anything at or below these keys is not what was written.
    pub(crate) fn touches(&self, keys: &[&str]) -> bool {
        let below = |path: &Vec<PathSegment>| {
            path.len() >= keys.len()
                && keys
                    .iter()
                    .zip(path)
                    .all(|(key, segment)| matches!(segment, PathSegment::Key(own) if own == key))
        };
        self.replaced.iter().chain(&self.incomplete).any(below)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Most important first, then by place.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| {
            (
                super::importance(&diagnostic.code),
                diagnostic.span.map_or(0, |span| span.start),
            )
        });
        self.found.dedup();
        if self.left_out > 0 {
            let problem = Problem::new(
                "more-problems",
                format!("{} more problems are not shown", self.left_out),
            )
            .help("correct the ones above first");
            self.found.push(problem.at(None));
        }
        self.found
    }
}
