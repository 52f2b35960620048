//! Maps: unknown keys, missing keys, and what stands where a map should be.

use super::super::problem::{At, Focus, Problem};
use super::super::scalar::{Plain, plain};
use super::super::tree::{Entry, Node, NodeValue};
use super::super::words::{nearest, one_of, short};
use super::{Rule, Walker};
use serde_json::{Map, Value};

impl<'a> Walker<'a> {
    pub(super) fn walk_object(&mut self, node: &Node, rule: Rule<'a>, at: At<'_>) -> Value {
        let NodeValue::Map(entries) = &node.value else {
            self.report_no_map(node, rule, at);
            return self.replace(rule, at);
        };
        let properties = rule.body.get("properties").and_then(Value::as_object);
        let any = rule
            .body
            .get("additionalProperties")
            .filter(|schema| schema.is_object());
        let mut out = Map::new();
        let mut meant = Vec::new();
        let free: Vec<&'a str> = properties
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .filter(|key| node.entry(key).is_none())
            .collect();
        for entry in entries {
            if entry.key.is_empty() {
                // Refused and reported when it was read.
                self.problems.incomplete(at);
                continue;
            }
            let known = properties.and_then(|all| all.get(&entry.key)).or(any);
            match known {
                Some(schema) => {
                    let value = self.walk(&entry.value, schema, at.key(&entry.key));
                    out.insert(entry.key.clone(), value);
                }
                None => meant.extend(self.report_unknown_key(entry, rule, &free, at)),
            }
        }
        for (key, schema) in self.required(rule.body).collect::<Vec<_>>() {
            if out.contains_key(key) {
                continue;
            }
            if !meant.contains(&key) {
                self.report_missing(key, schema, at);
            }
            self.problems.incomplete(at);
            self.problems.replaced(at.key(key));
            let neutral = self.neutral(schema, 0);
            out.insert(key.to_owned(), neutral);
        }
        Value::Object(out)
    }

    fn report_no_map(&mut self, node: &Node, rule: Rule<'a>, at: At<'_>) {
        let key = at.last_key().unwrap_or("key");
        let properties = rule.body.get("properties").and_then(Value::as_object);
        let first = properties.and_then(|all| all.keys().next());
        let has_name =
            properties.is_some_and(|all| all.contains_key("name") && all.contains_key("rank"));
        let help = match (&node.value, has_name, first) {
            (NodeValue::Scalar { text, plain: bare }, true, _)
                if !*bare || plain(text) == Plain::Text =>
            {
                format!(
                    "write `{key}: {{name: {}}}` for a target defined under `targets:`",
                    short(text)
                )
            }
            (NodeValue::Scalar { text, .. }, true, _) => format!(
                "write `{key}: {{rank: {}}}` or another way to name it",
                short(text)
            ),
            (NodeValue::List(_), ..) => "remove the `- `, and indent its keys below it".to_owned(),
            (.., Some(_)) => {
                let keys = properties
                    .into_iter()
                    .flatten()
                    .map(|(key, _)| key.as_str());
                format!("it takes {}", one_of(keys))
            }
            _ => format!("write it like `{key}: {{name: value}}`"),
        };
        self.report_type(node, "a map", &help, at);
    }

    /// Reports a key nobody knows. Returns the key that was probably meant.
    fn report_unknown_key(
        &mut self,
        entry: &Entry,
        rule: Rule<'a>,
        free: &[&'a str],
        at: At<'_>,
    ) -> Option<&'a str> {
        if self.problems.is_full() {
            self.problems.count_only();
            return None;
        }
        let known: Vec<&'a str> = rule
            .body
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect();
        let meant = nearest(&entry.key, free.iter().copied());
        let owner = match at.last_key() {
            Some(key) => format!("`{key}`"),
            None => "the file".to_owned(),
        };
        let problem = Problem::new(
            "unknown-key",
            format!("{owner} has no key `{}`", short(&entry.key)),
        );
        let problem = match meant {
            Some(meant) => problem.label(format!("did you mean `{meant}`?")),
            None => problem.label("not known here"),
        };
        let listing = if known.is_empty() {
            "remove it; nothing can be set here".to_owned()
        } else {
            format!("it takes {}", one_of(known))
        };
        let help = meant.map_or(listing, |meant| format!("write `{meant}:`, or remove it"));
        self.problems.add_at(entry.span, problem.help(help));
        self.problems.incomplete(at);
        meant
    }

    fn report_missing(&mut self, key: &str, schema: &'a Value, at: At<'_>) {
        let owner = match at.last_key() {
            Some(owner) => format!("`{owner}`"),
            None => "the file".to_owned(),
        };
        let body = self.resolve(schema).body;
        let described = schema
            .get("description")
            .or_else(|| body.get("description"))
            .and_then(Value::as_str);
        let problem = Problem::new("missing-key", format!("{owner} lacks `{key}`"))
            .label(format!("add `{key}:` here"));
        let problem = match described {
            Some(words) => problem.help(format!(
                "{key}: {}",
                words
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches('.')
            )),
            None => problem.help(format!("write `{key}: …`")),
        };
        let root_start = self.root.entries().first().map(|entry| entry.span);
        match (at.last_key(), root_start) {
            (None, Some(first)) => self.problems.add_at(first, problem),
            _ => self.problems.add(self.root, at, Focus::Key, problem),
        }
    }
}
