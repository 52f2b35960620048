//! Text → tree. Strict on purpose: what makes YAML surprising (anchors, aliases, tags, merge keys, several documents) is refused with words.
//!
//! Invariant: total. Any text gives a tree or problems, in time linear in its length, with memory bounded by the limits below.

use super::guard;
use super::place::{Offsets, collection_span, decoration, locate, widen};
use super::problem::{Problem, Problems};
use super::tree::{Entry, Node, NodeValue};
use crate::diagnostic::Location;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// The longest text that is read, in bytes.
pub const BYTES_MAX: usize = 1024 * 1024;
/// How deep lists and maps may be nested.
pub const DEPTH_MAX: usize = 64;
/// The most values, keys included.
pub const NODES_MAX: usize = 50_000;

/// Reads one document. `None` when there is no tree to go on with; the reasons are in `problems`.
pub(crate) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    if !guard::is_harmless(text, problems) {
        return None;
    }
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(body),
        offsets: Offsets::new(text, body),
        text,
        problems,
        nodes: 0,
    };
    reader.document()
}

struct Reader<'t, 'p> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    offsets: Offsets,
    text: &'t str,
    problems: &'p mut Problems,
    nodes: usize,
}

type Read<T> = Option<T>;

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Read<(Event<'t>, Location)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Some((event, self.offsets.location(span))),
            Some(Err(error)) => {
                let mark = *error.marker();
                let place = self.offsets.location(Span::new(mark, mark));
                self.problems.add_at(
                    widen(self.text, place),
                    super::syntax_words::problem(error.info(), self.text, place.start),
                );
                None
            }
            None => {
                let end = self.text.len();
                self.problems.add_at(
                    locate(self.text, end, end),
                    Problem::new("yaml-syntax", "the file ends too early").label("here"),
                );
                None
            }
        }
    }

    fn document(&mut self) -> Read<Node> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    self.problems.add_at(
                        place,
                        Problem::new("yaml-documents", "the file holds more than one document")
                            .label("a second one starts here")
                            .help("write one experiment per file and remove this `---`"),
                    );
                    break;
                }
                Event::DocumentStart(_) => {
                    let (event, place) = self.next()?;
                    root = Some(self.node(event, place, 0)?);
                }
                _ => {}
            }
        }
        if root.is_none() {
            self.problems
                .add_file(Problem::new("empty-file", "the file is empty").help(super::START_HELP));
        }
        root
    }

    fn node(&mut self, event: Event<'t>, place: Location, depth: usize) -> Read<Node> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.problems.add_at(place, guard::too_many_nodes());
            return None;
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let refused = self.refuse_decoration(anchor, tag.is_some(), place);
                let plain = style == ScalarStyle::Plain;
                let value = if refused {
                    NodeValue::Refused
                } else {
                    NodeValue::Scalar {
                        text: text.into_owned(),
                        plain,
                    }
                };
                Some(Node { value, span: place })
            }
            Event::Alias(_) => {
                self.problems.add_at(
                    place,
                    Problem::new("yaml-alias", "aliases are not read")
                        .label("refers to another place")
                        .help("write the value out here; targets can be shared by name: `target: {name: …}`"),
                );
                Some(Node {
                    value: NodeValue::Refused,
                    span: place,
                })
            }
            Event::SequenceStart(anchor, tag) => {
                self.enter(depth, place)?;
                self.refuse_decoration(anchor, tag.is_some(), place);
                self.list(place, depth + 1)
            }
            Event::MappingStart(anchor, tag) => {
                self.enter(depth, place)?;
                self.refuse_decoration(anchor, tag.is_some(), place);
                self.map(place, depth + 1)
            }
            _ => Some(Node {
                value: NodeValue::Refused,
                span: place,
            }),
        }
    }

    fn enter(&mut self, depth: usize, place: Location) -> Read<()> {
        if depth < DEPTH_MAX {
            return Some(());
        }
        self.problems.add_at(
            place,
            Problem::new(
                "too-deep",
                format!("lists and maps are nested deeper than {DEPTH_MAX}"),
            )
            .label("one level too many")
            .help("no part of an experiment needs more than a dozen levels"),
        );
        None
    }

    fn list(&mut self, start: Location, depth: usize) -> Read<Node> {
        let mut items: Vec<Node> = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                let last = items.last().map(|item| item.span);
                let span = collection_span(
                    start,
                    items.first().map(|item| item.span),
                    last,
                    place,
                    self.text,
                );
                return Some(Node {
                    value: NodeValue::List(items),
                    span,
                });
            }
            items.push(self.node(event, place, depth)?);
        }
    }

    fn map(&mut self, start: Location, depth: usize) -> Read<Node> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        let mut last = None;
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                let first = entries.first().map(|entry| entry.span);
                let span = collection_span(start, first, last, place, self.text);
                return Some(Node {
                    value: NodeValue::Map(entries),
                    span,
                });
            }
            let key = self.node(event, place, depth)?;
            let (event, place) = self.next()?;
            let value = self.node(event, place, depth)?;
            last = Some(if value.span.end > key.span.end {
                value.span
            } else {
                key.span
            });
            let Some(name) = self.key_text(&key) else {
                entries.push(Entry {
                    key: String::new(),
                    span: key.span,
                    value,
                });
                continue;
            };
            match seen.entry(name.clone()) {
                std::collections::hash_map::Entry::Occupied(first) => self.problems.add_at(
                    key.span,
                    Problem::new(
                        "duplicate-key",
                        format!("`{}` is given twice", super::words::short(&name)),
                    )
                    .label(format!("first given on line {}", first.get()))
                    .help("keep one of the two"),
                ),
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(key.span.line);
                    entries.push(Entry {
                        key: name,
                        span: key.span,
                        value,
                    });
                }
            }
        }
    }

    fn key_text(&mut self, key: &Node) -> Option<String> {
        match &key.value {
            NodeValue::Scalar { text, plain: true } if text == "<<" => {
                self.problems.add_at(
                    key.span,
                    Problem::new("yaml-merge-key", "merge keys are not read")
                        .label("merges another map")
                        .help("write the keys out here"),
                );
                None
            }
            NodeValue::Scalar { text, .. } if !text.is_empty() => Some(text.clone()),
            NodeValue::Refused => None,
            _ => {
                self.problems.add_at(
                    key.span,
                    Problem::new("key-not-text", "a key must be a word")
                        .label("this is no word")
                        .help("write it like `key: value`"),
                );
                None
            }
        }
    }

    /// Reports an anchor or a tag. Returns whether the value's meaning is lost with it.
    fn refuse_decoration(&mut self, anchor: usize, tag: bool, place: Location) -> bool {
        if anchor != 0 {
            let at = decoration(self.text, place, '&');
            self.problems.add_at(
                at,
                Problem::new("yaml-anchor", "anchors are not read")
                    .label("names this value for reuse")
                    .help("remove it; targets can be shared by name under `targets:`"),
            );
        }
        if tag {
            let at = decoration(self.text, place, '!');
            self.problems.add_at(
                at,
                Problem::new("yaml-tag", "tags are not read")
                    .label("gives the value another type")
                    .help("remove it; put text in quotes and write everything else plainly"),
            );
        }
        tag
    }
}
