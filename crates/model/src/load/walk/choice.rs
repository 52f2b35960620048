//! Choices: one word of several, or a map whose single key says which one it is.

use super::super::problem::{At, Focus, Problem};
use super::super::scalar::{Plain, plain};
use super::super::tree::{Entry, Node, NodeValue};
use super::super::words::{meant, nearest, one_of, short};
use super::{Rule, Walker};
use serde_json::{Map, Value};

/// What a choice is called, and the code of naming one that is not there.
struct Called {
    one: &'static str,
    code: &'static str,
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

fn called(name: &str) -> Called {
    match name {
        "Step" => Called {
            one: "fault",
            code: "unknown-fault",
        },
        "Probe" => Called {
            one: "probe",
            code: "unknown-probe",
        },
        "Expect" => Called {
            one: "expectation",
            code: "unknown-expectation",
        },
        "Workload" => Called {
            one: "kind of workload",
            code: "unknown-workload",
        },
        _ => Called {
            one: "choice",
            code: "unknown-word",
        },
    }
}

impl<'a> Walker<'a> {
    pub(super) fn walk_choice(
        &mut self,
        node: &Node,
        rule: Rule<'a>,
        choices: &'a [Value],
        at: At<'_>,
    ) -> Value {
        let mut words = Vec::new();
        let mut tags = Vec::new();
        for choice in choices {
            let body = self.resolve(choice).body;
            if let Some(word) = body.get("const").and_then(Value::as_str) {
                words.push(word);
            } else if let Some(many) = body.get("enum").and_then(Value::as_array) {
                words.extend(many.iter().filter_map(Value::as_str));
            } else if let Some(tag) = single_key(body) {
                tags.push(tag);
            }
        }
        if tags.is_empty() && words.is_empty() {
            return self.walk_first_fitting(node, rule, choices, at);
        }
        match &node.value {
            NodeValue::Scalar { text, .. } if tags.is_empty() || words.contains(&text.as_str()) => {
                self.word(node, text, &words, rule, at)
            }
            NodeValue::Map(entries) if !tags.is_empty() => match entries.as_slice() {
                [only] => self.tagged(only, &tags, rule, at),
                _ => self.report_keys(entries, &tags, rule, at),
            },
            _ => self.report_no_choice(node, &words, &tags, rule, at),
        }
    }

    /// Choices without tags: the first whose form is that of the node.
    fn walk_first_fitting(
        &mut self,
        node: &Node,
        rule: Rule<'a>,
        choices: &'a [Value],
        at: At<'_>,
    ) -> Value {
        let form = match &node.value {
            NodeValue::Map(_) => ["object", "object"],
            NodeValue::List(_) => ["array", "array"],
            NodeValue::Scalar { plain: false, .. } => ["string", "string"],
            NodeValue::Scalar { text, .. } => match plain(text) {
                Plain::Truth(_) => ["boolean", "boolean"],
                Plain::Whole(_) => ["integer", "number"],
                Plain::Number(_) => ["number", "number"],
                _ => ["string", "string"],
            },
            NodeValue::Refused => return self.replace(rule, at),
        };
        let fits = |choice: &&Value| {
            let body = self.resolve(choice_static(choice)).body;
            body.get("type")
                .and_then(Value::as_str)
                .is_some_and(|of| form.contains(&of))
        };
        match choices.iter().find(fits).or(choices.first()) {
            Some(choice) => self.walk(node, choice, at),
            None => self.replace(rule, at),
        }
    }

    pub(super) fn word(
        &mut self,
        node: &Node,
        text: &str,
        words: &[&'a str],
        rule: Rule<'a>,
        at: At<'_>,
    ) -> Value {
        if words.contains(&text) {
            return text.into();
        }
        let (code, what) = match (rule.name, at.last_key().unwrap_or("value")) {
            ("EventKind", _) => (
                "unknown-event",
                "an event that Squall understands".to_owned(),
            ),
            (_, key) => ("unknown-word", format!("a value of `{key}`")),
        };
        let problem = Problem::new(code, format!("`{}` is not {what}", short(text)));
        let problem = match meant(text, words.iter().copied()) {
            Some(meant) => problem.label(format!("did you mean `{meant}`?")),
            None => problem.label("not known here"),
        };
        debug_assert!(matches!(node.value, NodeValue::Scalar { .. }));
        self.report(
            at,
            problem.help(format!("write {}", one_of(words.iter().copied()))),
        );
        self.replace(rule, at)
    }

    fn tagged(
        &mut self,
        entry: &Entry,
        tags: &[(&'a str, &'a Value)],
        rule: Rule<'a>,
        at: At<'_>,
    ) -> Value {
        if let Some((tag, schema)) = tags.iter().find(|(tag, _)| *tag == entry.key) {
            let value = self.walk(&entry.value, schema, at.key(tag));
            return Value::Object(Map::from_iter([((*tag).to_owned(), value)]));
        }
        if self.problems.is_full() {
            self.problems.count_only();
            return self.replace(rule, at);
        }
        let called = called(rule.name);
        let article = article(called.one);
        let meant = nearest(&entry.key, tags.iter().map(|(tag, _)| *tag));
        let problem = Problem::new(
            called.code,
            format!("`{}` is not {article} {}", short(&entry.key), called.one),
        );
        let problem = match meant {
            Some(meant) => problem.label(format!("did you mean `{meant}`?")),
            None => problem.label("not known"),
        };
        let help = if rule.name == "Step" {
            self.faults_help(&entry.key, meant)
        } else {
            format!("write {}", one_of(tags.iter().map(|(tag, _)| *tag)))
        };
        self.problems.add_at(entry.span, problem.help(help));
        self.replace(rule, at)
    }

    /// Where the faults that resemble `word` are listed.
    fn faults_help(&self, word: &str, meant: Option<&str>) -> String {
        let family = meant.unwrap_or(word).split('-').next().unwrap_or_default();
        let inside = |kind: &str| kind.split('-').next() == Some(family) && kind.contains('-');
        if self.faults.iter().any(|info| inside(info.kind)) {
            format!("`squall faults {family}` lists the {family} faults")
        } else {
            "`squall faults` lists all faults; a step can also be `wait`, `sequence` or `parallel`"
                .to_owned()
        }
    }

    /// A map that should have exactly one key has none or several.
    fn report_keys(
        &mut self,
        entries: &[Entry],
        tags: &[(&'a str, &'a Value)],
        rule: Rule<'a>,
        at: At<'_>,
    ) -> Value {
        let called = called(rule.name);
        let one = match (rule.name, at.last_key()) {
            ("Step", _) => "a step of the method".to_owned(),
            (_, Some(key)) if called.code == "unknown-word" => format!("`{key}`"),
            _ => format!("{} {}", article(called.one), called.one),
        };
        let problem = Problem::new(
            "one-key",
            format!(
                "{one} is a map with exactly one key, and this one has {}",
                count(entries.len())
            ),
        );
        let empty_head = entries.first().filter(|first| matches!(&first.value.value, NodeValue::Scalar { text, plain: true } if text.is_empty()));
        match (empty_head, entries) {
            (Some(head), [_, second, ..]) => self.problems.add_at(
                second.span,
                problem.label("a second key").help(format!(
                    "indent it and what follows below `{}:`",
                    short(&head.key)
                )),
            ),
            (None, [_, second, ..]) => {
                let list = matches!(
                    at.path().last(),
                    Some(super::super::tree::PathSegment::Index(_))
                );
                let help = if list {
                    "start a new item with `- ` for it"
                } else {
                    "keep one of them"
                };
                self.problems
                    .add_at(second.span, problem.label("a second key").help(help));
            }
            _ => {
                let help = format!("write {}", one_of(tags.iter().map(|(tag, _)| *tag)));
                self.problems.add(
                    self.root,
                    at,
                    Focus::Value,
                    problem.label("empty").help(help),
                );
            }
        }
        self.replace(rule, at)
    }

    fn report_no_choice(
        &mut self,
        node: &Node,
        words: &[&'a str],
        tags: &[(&'a str, &'a Value)],
        rule: Rule<'a>,
        at: At<'_>,
    ) -> Value {
        let names: Vec<&'a str> = words
            .iter()
            .copied()
            .chain(tags.iter().map(|(tag, _)| *tag))
            .collect();
        match &node.value {
            // A slip in one of the words that stand alone.
            NodeValue::Scalar { text, .. } if nearest(text, words.iter().copied()).is_some() => {
                return self.word(node, text, words, rule, at);
            }
            _ => {}
        }
        let wanted = if tags.is_empty() {
            "a word"
        } else {
            "a map with one key"
        };
        let help = match &node.value {
            NodeValue::Scalar { text, .. } if tags.iter().any(|(tag, _)| tag == text) => {
                format!("write it like `{text}: {{…}}`")
            }
            _ => format!("write {}", one_of(names)),
        };
        self.report_type(node, wanted, &help, at);
        self.replace(rule, at)
    }
}

fn choice_static<'v>(choice: &&'v Value) -> &'v Value {
    choice
}

/// The only key of a schema that asks for exactly one.
fn single_key(body: &Value) -> Option<(&str, &Value)> {
    let properties = body.get("properties")?.as_object()?;
    let required = body.get("required")?.as_array()?;
    match (properties.len(), required.as_slice()) {
        (1, [key]) => key
            .as_str()
            .and_then(|key| Some((key, properties.get(key)?))),
        _ => None,
    }
}

fn count(keys: usize) -> String {
    if keys == 0 {
        "none".to_owned()
    } else {
        keys.to_string()
    }
}
