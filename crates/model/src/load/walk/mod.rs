//! The structure pass: a tree against a schema, all problems at once, and the JSON that serde then reads.
//!
//! What is wrong is reported and replaced by something harmless of the right shape, so that the rest of the file can still be understood.

mod choice;
mod object;
mod scalar;

use super::problem::{At, Focus, Problem, Problems};
use super::scalar::{Plain, plain};
use super::tree::{Node, NodeValue};
use crate::syntax::KindInfo;
use serde_json::{Map, Value};

pub(crate) struct Walker<'a> {
    pub(crate) schema: &'a Value,
    pub(crate) root: &'a Node,
    pub(crate) problems: &'a mut Problems,
    /// The faults a step may name; empty for files without any.
    pub(crate) faults: &'static [KindInfo],
}

/// A schema after its references were followed, with the name of the last one.
#[derive(Clone, Copy)]
struct Rule<'a> {
    name: &'a str,
    body: &'a Value,
}

impl<'a> Walker<'a> {
    /// Reads the whole tree.
    pub(crate) fn run(&mut self) -> Value {
        let (schema, root) = (self.schema, self.root);
        self.walk(root, schema, At::ROOT)
    }

    fn resolve(&self, schema: &'a Value) -> Rule<'a> {
        let mut rule = Rule {
            name: "",
            body: schema,
        };
        // A bound, since a schema could refer to itself.
        for _ in 0..16 {
            let Some(name) = rule
                .body
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|to| to.strip_prefix("#/$defs/"))
            else {
                break;
            };
            let Some(body) = self.schema.get("$defs").and_then(|defs| defs.get(name)) else {
                break;
            };
            rule = Rule { name, body };
        }
        rule
    }

    fn walk(&mut self, node: &Node, schema: &'a Value, at: At<'_>) -> Value {
        let rule = self.resolve(schema);
        match &node.value {
            NodeValue::Refused => return self.replace(rule, at),
            NodeValue::Scalar { text, plain: true } if plain(text) == Plain::Nothing => {
                self.report_empty(rule, text, at);
                return self.replace(rule, at);
            }
            _ => {}
        }
        if let Some(choices) = choices(rule.body) {
            return self.walk_choice(node, rule, choices, at);
        }
        match rule.body.get("type").and_then(Value::as_str) {
            Some("object") => self.walk_object(node, rule, at),
            Some("array") => self.walk_list(node, rule, at),
            _ => self.walk_scalar(node, rule, at),
        }
    }

    fn walk_list(&mut self, node: &Node, rule: Rule<'a>, at: At<'_>) -> Value {
        let NodeValue::List(nodes) = &node.value else {
            let help = match &node.value {
                NodeValue::Map(_) => "start each item with `- `".to_owned(),
                _ => format!("write it like `{}: […]`", at.last_key().unwrap_or("key")),
            };
            self.report_type(node, "a list", &help, at);
            return self.replace(rule, at);
        };
        let fewest = rule
            .body
            .get("minItems")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        if (nodes.len() as u64) < fewest {
            let message = format!(
                "`{}` needs at least {fewest} item{}",
                at.last_key().unwrap_or("the list"),
                plural(fewest)
            );
            self.report(
                at,
                Problem::new("out-of-range", message)
                    .label("too few here")
                    .help("add what is missing"),
            );
        }
        let item = rule.body.get("items").unwrap_or(&Value::Bool(true));
        nodes
            .iter()
            .enumerate()
            .map(|(index, node)| self.walk(node, item, at.index(index)))
            .collect()
    }

    fn report(&mut self, at: At<'_>, problem: Problem) {
        self.problems.add(self.root, at, Focus::Value, problem);
    }

    fn report_type(&mut self, node: &Node, wanted: &str, help: &str, at: At<'_>) {
        let message = format!(
            "`{}` must be {wanted}, not {}",
            at.last_key().unwrap_or("the file"),
            what_is(node)
        );
        let label = format!("this is {}", what_is(node));
        self.report(
            at,
            Problem::new("wrong-type", message).label(label).help(help),
        );
    }

    fn report_empty(&mut self, rule: Rule<'a>, text: &str, at: At<'_>) {
        let key = at.last_key().unwrap_or("the file");
        let all_optional = rule.body.get("type").is_some_and(|of| of == "object")
            && rule
                .body
                .get("required")
                .and_then(Value::as_array)
                .is_none_or(Vec::is_empty);
        let example = rule
            .body
            .get("examples")
            .and_then(|all| all.get(0))
            .and_then(Value::as_str);
        let help = match () {
            () if !text.is_empty() => {
                format!("put it in quotes if the word `{text}` is meant, or remove the line")
            }
            () if example.is_some() => {
                format!("write it like `{key}: {}`", example.unwrap_or_default())
            }
            () if all_optional => format!("write `{key}: {{}}` if nothing is to be set"),
            () => {
                "write a value, indented below its key if it is a list or map, or remove the line"
                    .to_owned()
            }
        };
        self.problems.add(
            self.root,
            at,
            Focus::Key,
            Problem::new("empty-value", format!("`{key}` has no value"))
                .label("nothing follows")
                .help(help),
        );
    }

    /// Marks the place and gives something harmless of the right shape.
    fn replace(&mut self, rule: Rule<'a>, at: At<'_>) -> Value {
        self.problems.replaced(at);
        self.neutral(rule.body, 0)
    }

    /// The least value that fits `schema`.
    fn neutral(&self, schema: &'a Value, depth: usize) -> Value {
        let body = self.resolve(schema).body;
        if depth > 16 {
            return Value::Null;
        }
        if let Some(word) = body.get("const") {
            return word.clone();
        }
        if let Some(first) = body.get("enum").and_then(|words| words.get(0)) {
            return first.clone();
        }
        if let Some(first) = choices(body).and_then(|choices| choices.first()) {
            return self.neutral(first, depth + 1);
        }
        match body.get("type").and_then(Value::as_str) {
            Some("object") => Value::Object(
                self.required(body)
                    .map(|(key, schema)| (key.to_owned(), self.neutral(schema, depth + 1)))
                    .collect::<Map<_, _>>(),
            ),
            Some("array") => Value::Array(Vec::new()),
            Some("boolean") => Value::Bool(false),
            Some("integer" | "number") => body
                .get("minimum")
                .filter(|least| least.as_f64() > Some(1.0))
                .cloned()
                .unwrap_or_else(|| 1.into()),
            _ => body
                .get("examples")
                .and_then(|all| all.get(0))
                .cloned()
                .unwrap_or_else(|| "x".into()),
        }
    }

    fn required(&self, body: &'a Value) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        let properties = body.get("properties");
        body.get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(move |key| {
                (
                    key,
                    properties
                        .and_then(|all| all.get(key))
                        .unwrap_or(&Value::Bool(true)),
                )
            })
    }
}

fn choices(body: &Value) -> Option<&Vec<Value>> {
    body.get("oneOf")
        .or_else(|| body.get("anyOf"))
        .and_then(Value::as_array)
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// What a node is, in a word with its article.
fn what_is(node: &Node) -> &'static str {
    match &node.value {
        NodeValue::Map(_) => "a map",
        NodeValue::List(_) => "a list",
        NodeValue::Refused => "refused",
        NodeValue::Scalar { plain: false, .. } => "a text in quotes",
        NodeValue::Scalar { text, .. } => match plain(text) {
            Plain::Nothing => "empty",
            Plain::Truth(_) => "a truth value",
            Plain::Whole(_) => "a whole number",
            Plain::Number(number) if number.is_finite() => "a number",
            Plain::Number(_) => "no finite number",
            Plain::Text => "a text",
        },
    }
}
