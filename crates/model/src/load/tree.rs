//! What a person wrote, as a tree whose every key and value knows its place in the text.
//!
//! Invariant: every span lies inside the text and on character boundaries.

use crate::diagnostic::Location;

/// One step of the way from the root of a file to a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathSegment {
    /// Into a map, by its key.
    Key(String),
    /// Into a list, from 0.
    Index(usize),
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: NodeValue,
    /// From its first to past its last byte. Block lists and maps end with their last entry.
    pub span: Location,
}

/// The three forms of YAML, and what stands where something was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeValue {
    /// Text; `plain` when it stands without quotes and may therefore be a number, a truth value or nothing.
    Scalar {
        /// What it says, unescaped.
        text: String,
        /// Without quotes and not a block.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file, without its duplicates.
    Map(Vec<Entry>),
    /// Something that was refused and reported (an alias, a tag).
    Refused,
}

/// One key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key; empty where something was refused and reported that is no key.
    pub key: String,
    /// Where the key stands.
    pub span: Location,
    /// Its value.
    pub value: Node,
}

/// Where a node stands and which key leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The key, unless the node is a list item or the root.
    pub key: Option<Location>,
    /// The value.
    pub value: Location,
    /// Whether the value stands on one line and is not empty.
    pub short: bool,
}

impl Place {
    /// Where the caret goes when the value is meant: the value if it fits a line, else its key.
    pub fn focus(&self) -> Location {
        match self.key {
            Some(key) if !self.short => key,
            _ => self.value,
        }
    }
}

impl Node {
    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            NodeValue::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value under `key` of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The items of a list; none when it is no list.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            NodeValue::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a map; none when it is no map.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            NodeValue::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The place of the node at `path`, or of the deepest one on the way to it that exists.
    pub fn place(&self, path: &[PathSegment]) -> Place {
        let mut node = self;
        let mut place = self.own_place(None);
        for segment in path {
            match segment {
                PathSegment::Key(key) => {
                    let Some(entry) = node.entry(key) else { break };
                    node = &entry.value;
                    place = node.own_place(Some(entry.span));
                }
                PathSegment::Index(index) => {
                    let Some(item) = node.items().get(*index) else {
                        break;
                    };
                    node = item;
                    place = node.own_place(None);
                }
            }
        }
        place
    }

    /// Like `place`; a list item that is a map with one key answers with that key, which is what a person calls the item.
    pub fn named_place(&self, path: &[PathSegment]) -> Place {
        let mut node = self;
        for segment in path {
            let next = match segment {
                PathSegment::Key(key) => node.get(key),
                PathSegment::Index(index) => node.items().get(*index),
            };
            let Some(next) = next else { break };
            node = next;
        }
        match node.entries() {
            [only] if matches!(path.last(), Some(PathSegment::Index(_))) => {
                only.value.own_place(Some(only.span))
            }
            _ => self.place(path),
        }
    }

    fn own_place(&self, key: Option<Location>) -> Place {
        let short = match &self.value {
            NodeValue::Map(entries) => entries.is_empty() || self.is_flow(),
            NodeValue::List(items) => items.is_empty() || self.is_flow(),
            NodeValue::Scalar { .. } | NodeValue::Refused => self.span.end > self.span.start,
        };
        Place {
            key,
            value: self.span,
            short,
        }
    }

    /// A list or map in brackets starts before its first child.
    fn is_flow(&self) -> bool {
        let first = match &self.value {
            NodeValue::Map(entries) => entries.first().map(|entry| entry.span.start),
            NodeValue::List(items) => items.first().map(|item| item.span.start),
            _ => None,
        };
        first.is_some_and(|first| first > self.span.start)
    }
}
