//! Reading what people write: text → tree with places → structure → meaning, with all problems at once.
//!
//! Invariant: total and pure. Any text gives either a valid experiment or at least one diagnostic, never a panic.

mod guard;
mod meaning;
mod place;
mod problem;
mod scalar;
mod schema;
mod syntax_words;
mod tree;
mod walk;
mod words;
mod yaml;

pub(crate) use meaning::{EVENTS as LOG_EVENTS, GROUPS as LOG_GROUPS};
pub use problem::PROBLEMS_MAX;
pub use schema::{EXPERIMENT_ID, schema};
pub use tree::{Entry, Node, NodeValue, PathSegment, Place};
pub use yaml::{BYTES_MAX, DEPTH_MAX, NODES_MAX};

use crate::diagnostic::{Diagnostic, Location};
use crate::experiment::{Experiment, FaultStep};
use crate::syntax::{FaultList, KindInfo};
use problem::{At, Problem, Problems};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const START_HELP: &str = "an experiment starts with `version: 1`, `title: …` and `method: …`";

/// An experiment with what is needed to speak about it: where everything stands, and which file it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<F> {
    /// What the file says.
    pub experiment: Experiment<F>,
    /// What was written, with places.
    pub tree: Node,
    /// The file's name as people know it.
    pub file_name: String,
    /// SHA-256 of the text, in hexadecimal.
    pub sha256: String,
}

impl<F> Loaded<F> {
    /// Where the value at `path` stands, for problems that are found later (by preflight, policy).
    pub fn location(&self, path: &[PathSegment]) -> Location {
        self.tree.place(path).focus()
    }
}

/// Reads and checks an experiment file.
///
/// # Errors
/// All problems of the file, most important first, then in the order of the file.
pub fn read<F: FaultList>(text: &str, file_name: &str) -> Result<Loaded<F>, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let schema = schema::cached::<Experiment<F>>(EXPERIMENT_ID);
    let loaded = document(text, &schema, F::kinds(), &mut problems, check_faults::<F>);
    if let Some((experiment, tree)) = loaded {
        meaning::check(&experiment, &tree, &mut problems);
        if problems.is_empty() {
            let file_name = file_name.to_owned();
            return Ok(Loaded {
                experiment,
                tree,
                file_name,
                sha256: sha256(text),
            });
        }
    }
    Err(problems.finish())
}

/// Reads bytes, which may not be text at all.
///
/// # Errors
/// As `read`.
pub fn read_bytes<F: FaultList>(
    bytes: &[u8],
    file_name: &str,
) -> Result<Loaded<F>, Vec<Diagnostic>> {
    read(text_of(bytes)?, file_name)
}

/// The text of a file.
///
/// # Errors
/// One diagnostic when it is not UTF-8.
pub fn text_of(bytes: &[u8]) -> Result<&str, Vec<Diagnostic>> {
    std::str::from_utf8(bytes).map_err(|error| {
        let mut problems = Problems::default();
        let message = format!("the file is not UTF-8 text (byte {})", error.valid_up_to());
        problems.add_file(Problem::new("not-utf8", message).help("save it as UTF-8"));
        problems.finish()
    })
}

/// The digest that names a file's content.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The schema of any file type: JSON Schema, draft 2020-12.
pub fn schema_of<T: JsonSchema + 'static>(id: &str) -> Value {
    (*schema::cached::<T>(id)).clone()
}

/// Reads a file that is no experiment, as strictly.
///
/// # Errors
/// All problems of the file.
pub fn read_other<T: JsonSchema + DeserializeOwned + 'static>(
    text: &str,
    id: &str,
    check: impl FnOnce(&T, &Node, &mut Reporter<'_>),
) -> Result<T, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let schema = schema::cached::<T>(id);
    if let Some((document, tree)) = document(text, &schema, &[], &mut problems, |_, _, _| {}) {
        check(&document, &tree, &mut Reporter(&mut problems));
        if problems.is_empty() {
            return Ok(document);
        }
    }
    Err(problems.finish())
}

/// Lets other files' own checks report problems.
pub struct Reporter<'a>(&'a mut Problems);

impl Reporter<'_> {
    /// Any problem at a place, with its remedy.
    pub fn problem(&mut self, place: Location, code: &'static str, message: &str, help: &str) {
        let problem = Problem::new(code, message.to_owned());
        self.0.add_at(place, problem.help(help.to_owned()));
    }

    /// A name or pattern that fits no fault.
    pub(crate) fn unknown_fault<'k>(
        &mut self,
        place: Location,
        name: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        let message = format!("`{}` fits no fault", words::short(name));
        let problem = Problem::new("unknown-fault", message);
        let problem = match words::nearest(name, known) {
            Some(meant) => problem.label(format!("did you mean `{meant}`?")),
            None => problem.label("forbids nothing"),
        };
        self.0
            .add_at(place, problem.help("`squall faults` lists all faults"));
    }
}

/// Reads any strict YAML document of type `T`; problems are collected, and what was wrong is replaced by something harmless.
fn document<T: DeserializeOwned>(
    text: &str,
    schema: &Value,
    faults: &'static [KindInfo],
    problems: &mut Problems,
    prepare: fn(&mut Value, &Node, &mut Problems),
) -> Option<(T, Node)> {
    let tree = yaml::parse(text, problems)?;
    if !faults.is_empty() && !is_experiment(&tree, schema, problems) {
        return None;
    }
    if !meaning::version_is_read(&tree, problems) {
        return None;
    }
    let mut value = walk::Walker {
        schema,
        root: &tree,
        problems,
        faults,
    }
    .run();
    prepare(&mut value, &tree, problems);
    match serde_path_to_error::deserialize(value) {
        Ok(document) => Some((document, tree)),
        Err(error) => {
            if problems.is_empty() {
                let path = serde_path(error.path());
                problems.add_at(
                    tree.place(&path).focus(),
                    Problem::new("bad-value", error.inner().to_string()).label("this value"),
                );
            }
            None
        }
    }
}

/// Whether this is meant as an experiment at all. One problem says that it is not, instead of one for each of its lines.
fn is_experiment(tree: &Node, schema: &Value, problems: &mut Problems) -> bool {
    let NodeValue::Map(entries) = &tree.value else {
        return true;
    };
    let known = schema.get("properties").and_then(Value::as_object);
    let is_known = |key: &str| known.is_some_and(|known| known.contains_key(key));
    let few = entries.iter().filter(|entry| is_known(&entry.key)).count() * 2 < entries.len();
    let likely = !few || entries.iter().any(|entry| entry.key == "method");
    if !likely && let Some(first) = entries.first() {
        problems.add_at(
            first.span,
            Problem::new("not-an-experiment", "this file is not an experiment")
                .label("most of its keys belong to something else")
                .help("an experiment has `version: 1`, `title:` and `method:`; `squall faults` lists what a method can do"),
        );
    }
    likely
}

fn serde_path(path: &serde_path_to_error::Path) -> Vec<PathSegment> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(PathSegment::Index(*index)),
            Segment::Map { key } => Some(PathSegment::Key(key.clone())),
            Segment::Enum { variant } => Some(PathSegment::Key(variant.clone())),
            Segment::Unknown => None,
        })
        .collect()
}

/// Lets each fault read its own config, so that what only it knows is reported for every step, not for the first.
fn check_faults<F: FaultList>(value: &mut Value, tree: &Node, problems: &mut Problems) {
    if let Some(steps) = value.get_mut("method") {
        let at = At::ROOT;
        check_steps::<F>(steps, at.key("method"), tree, problems);
    }
}

fn check_steps<F: FaultList>(steps: &mut Value, at: At<'_>, tree: &Node, problems: &mut Problems) {
    for (index, step) in steps.as_array_mut().into_iter().flatten().enumerate() {
        let here = at.index(index);
        let Some((key, body)) = step.as_object_mut().and_then(|map| map.iter_mut().next()) else {
            continue;
        };
        match key.as_str() {
            "wait" => continue,
            "sequence" | "parallel" => {
                check_steps::<F>(body, here.key(key), tree, problems);
                continue;
            }
            kind => {
                let Err((path, reason)) = FaultStep::<F>::from_body(kind, body.clone()) else {
                    continue;
                };
                let at_kind = here.key(kind);
                if !problems.is_doubtful(at_kind) {
                    let mut full = at_kind.path();
                    full.extend(dotted(&path));
                    let place = tree.place(&full).focus();
                    problems.add_at(
                        place,
                        Problem::new("bad-value", reason)
                            .label("this value")
                            .help(format!("`squall faults {kind}` explains its keys")),
                    );
                }
                problems.replaced(here);
            }
        }
        *step = json!({"wait": "1s"});
    }
}

/// `a.b[2].c` as a path.
fn dotted(path: &str) -> Vec<PathSegment> {
    path.split(['.', '[', ']'])
        .filter(|part| !part.is_empty() && *part != "?")
        .map(|part| {
            part.parse()
                .map_or_else(|_| PathSegment::Key(part.to_owned()), PathSegment::Index)
        })
        .collect()
}

/// Lower is more important.
fn importance(code: &str) -> u8 {
    match code {
        "unsupported-version"
        | "too-large"
        | "too-deep"
        | "too-many-nodes"
        | "empty-file"
        | "not-utf8"
        | "control-character"
        | "yaml-syntax" => 0,
        "duplicate-key" | "key-not-text" => 1,
        _ if code.starts_with("yaml-") => 1,
        "unknown-key"
        | "missing-key"
        | "wrong-type"
        | "unknown-word"
        | "unknown-fault"
        | "unknown-probe"
        | "unknown-expectation"
        | "unknown-workload"
        | "one-key"
        | "empty-value"
        | "missing-unit"
        | "out-of-range"
        | "bad-value" => 2,
        "bad-duration" | "bad-size" | "bad-percentage" | "bad-step-count" => 2,
        _ => 3,
    }
}
