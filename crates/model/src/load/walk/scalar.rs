//! Single values: text, numbers, truth values, words, and quantities with their unit.

use super::super::problem::{At, Problem};
use super::super::scalar::{Plain, plain};
use super::super::tree::{Node, NodeValue};
use super::super::words::short;
use super::{Rule, Walker, plural};
use crate::experiment::StepCount;
use crate::units::{Bytes, Percent, Span, UnitError};
use serde_json::{Number, Value};

impl<'a> Walker<'a> {
    pub(super) fn walk_scalar(&mut self, node: &Node, rule: Rule<'a>, at: At<'_>) -> Value {
        let NodeValue::Scalar { text, plain: bare } = &node.value else {
            self.report_type(node, wanted(rule.body), "write a single value", at);
            return self.replace(rule, at);
        };
        let typed = if *bare { plain(text) } else { Plain::Text };
        if let Some(words) = words_of(rule.body) {
            return self.word(node, text, &words, rule, at);
        }
        match rule.body.get("type").and_then(Value::as_str) {
            Some("string") => self.text(node, text, &typed, rule, at),
            Some("boolean") => match typed {
                Plain::Truth(truth) => truth.into(),
                _ => self.mistyped(node, text, *bare, rule, at),
            },
            Some("integer") => match typed {
                Plain::Whole(number) => self.whole(number, rule, at),
                _ => self.mistyped(node, text, *bare, rule, at),
            },
            Some("number") => match typed {
                Plain::Whole(number) => self.whole(number, rule, at),
                Plain::Number(number) if number.is_finite() => self.number(number, rule, at),
                _ => self.mistyped(node, text, *bare, rule, at),
            },
            _ => untyped(text, &typed),
        }
    }

    fn text(
        &mut self,
        node: &Node,
        text: &str,
        typed: &Plain,
        rule: Rule<'a>,
        at: At<'_>,
    ) -> Value {
        let format = rule
            .body
            .get("format")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if format.starts_with("squall-") {
            return self.quantity(text, format, rule, at);
        }
        if *typed != Plain::Text {
            // The value may be a secret, so it is not repeated.
            self.report_type(node, "a text", "put it in quotes", at);
            return self.replace(rule, at);
        }
        let least = rule
            .body
            .get("minLength")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        if (text.chars().count() as u64) < least {
            let message = format!(
                "`{}` needs at least {least} character{}",
                at.last_key().unwrap_or("this"),
                plural(least)
            );
            self.report(
                at,
                Problem::new("out-of-range", message)
                    .label("too short")
                    .help("write a longer text"),
            );
            return self.replace(rule, at);
        }
        text.into()
    }

    fn quantity(&mut self, text: &str, format: &str, rule: Rule<'a>, at: At<'_>) -> Value {
        let problem = match format {
            "squall-duration" => text
                .parse::<Span>()
                .err()
                .map(|error| unit_problem("bad-duration", &error, "s")),
            "squall-size" => text
                .parse::<Bytes>()
                .err()
                .map(|error| unit_problem("bad-size", &error, "MiB")),
            "squall-percentage" => text
                .parse::<Percent>()
                .err()
                .map(|error| unit_problem("bad-percentage", &error, "%")),
            "squall-step-count" => text
                .parse::<StepCount>()
                .err()
                .map(|words| step_count_problem(text, &words)),
            _ => None,
        };
        match problem {
            None => text.into(),
            Some(problem) => {
                self.report(at, problem);
                self.replace(rule, at)
            }
        }
    }

    fn whole(&mut self, number: i128, rule: Rule<'a>, at: At<'_>) -> Value {
        let bound = |key: &str| rule.body.get(key).and_then(whole_bound);
        let (least, most) = (bound("minimum"), bound("maximum"));
        let low = least.is_some_and(|least| number < least);
        if !low && most.is_none_or(|most| number <= most) {
            let json = u64::try_from(number)
                .map(Number::from)
                .or_else(|_| i64::try_from(number).map(Number::from));
            return json.map_or(Value::Null, Value::Number);
        }
        self.out_of_range(
            &number.to_string(),
            low,
            least.map(|n| n.to_string()),
            most.map(|n| n.to_string()),
            rule,
            at,
        )
    }

    fn number(&mut self, number: f64, rule: Rule<'a>, at: At<'_>) -> Value {
        let bound = |key: &str| rule.body.get(key).and_then(Value::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum"));
        let low = least.is_some_and(|least| number < least);
        if !low && most.is_none_or(|most| number <= most) {
            return Number::from_f64(number).map_or(Value::Null, Value::Number);
        }
        self.out_of_range(
            &number.to_string(),
            low,
            least.map(|n| n.to_string()),
            most.map(|n| n.to_string()),
            rule,
            at,
        )
    }

    fn out_of_range(
        &mut self,
        number: &str,
        low: bool,
        least: Option<String>,
        most: Option<String>,
        rule: Rule<'a>,
        at: At<'_>,
    ) -> Value {
        let key = at.last_key().unwrap_or("the number");
        let message = format!("`{key}` is too {}", if low { "small" } else { "large" });
        let range = match (least, most) {
            (Some(least), Some(most)) => format!("write a number from {least} to {most}"),
            (Some(least), None) => format!("write {least} or more"),
            (None, Some(most)) => format!("write {most} or less"),
            (None, None) => "write another number".to_owned(),
        };
        self.report(
            at,
            Problem::new("out-of-range", message)
                .label(format!("{number} is outside"))
                .help(range),
        );
        self.replace(rule, at)
    }

    fn mistyped(
        &mut self,
        node: &Node,
        text: &str,
        bare: bool,
        rule: Rule<'a>,
        at: At<'_>,
    ) -> Value {
        let wanted = wanted(rule.body);
        let help = match (wanted, text.to_ascii_lowercase().as_str()) {
            ("`true` or `false`", "yes" | "on" | "y" | "1") => "write `true`".to_owned(),
            ("`true` or `false`", "no" | "off" | "n" | "0") => "write `false`".to_owned(),
            ("`true` or `false`", _) => "write `true` or `false`".to_owned(),
            _ if !bare && !matches!(plain(text), Plain::Text | Plain::Nothing) => {
                "remove the quotes".to_owned()
            }
            ("a whole number", _) => match plain(text) {
                Plain::Number(number) if number.abs() > 1e15 => "write a smaller number".to_owned(),
                _ => "write digits only, without a unit or a fraction".to_owned(),
            },
            _ => "write a number without a unit".to_owned(),
        };
        self.report_type(node, wanted, &help, at);
        self.replace(rule, at)
    }
}

/// A bare value where the schema does not say of which type.
fn untyped(text: &str, typed: &Plain) -> Value {
    match typed {
        Plain::Nothing => Value::Null,
        Plain::Truth(truth) => (*truth).into(),
        Plain::Whole(number) => {
            i64::try_from(*number).map_or_else(|_| (*number as f64).into(), Value::from)
        }
        Plain::Number(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Plain::Text => text.into(),
    }
}

fn whole_bound(bound: &Value) -> Option<i128> {
    bound
        .as_i64()
        .map(i128::from)
        .or_else(|| bound.as_u64().map(i128::from))
        .or_else(|| bound.as_f64().map(|n| n as i128))
}

fn words_of(body: &Value) -> Option<Vec<&str>> {
    if let Some(word) = body.get("const").and_then(Value::as_str) {
        return Some(vec![word]);
    }
    let words = body.get("enum")?.as_array()?;
    Some(words.iter().filter_map(Value::as_str).collect())
}

fn wanted(body: &Value) -> &'static str {
    match body.get("type").and_then(Value::as_str) {
        Some("boolean") => "`true` or `false`",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        _ if words_of(body).is_some() => "a word",
        _ => match body.get("format").and_then(Value::as_str) {
            Some("squall-duration") => "a duration",
            Some("squall-size") => "a size",
            Some("squall-percentage") => "a percentage",
            Some("squall-step-count") => "a number of steps",
            _ => "a text",
        },
    }
}

/// A quantity that cannot be read: what, why, and how to write it. A bare number gets its own code, as it is the commonest slip.
fn unit_problem(code: &'static str, error: &UnitError, unit: &str) -> Problem {
    let bare = !matches!(plain(&error.text), Plain::Text | Plain::Nothing);
    let code = if bare { "missing-unit" } else { code };
    let help = if bare && unit != "%" {
        format!(
            "write `{}{unit}` or the unit that is meant",
            error.text.trim()
        )
    } else if bare
        && plain(&error.text) != Plain::Number(f64::NAN)
        && error
            .text
            .parse::<f64>()
            .is_ok_and(|n| (0.0..=100.0).contains(&n))
    {
        let number = error.text.parse::<f64>().unwrap_or(0.0);
        let share = if number <= 1.0 {
            number * 100.0
        } else {
            number
        };
        format!("write `{share}%`")
    } else {
        format!("write it like `{}`", error.example)
    };
    Problem::new(
        code,
        format!("`{}` is not a {}", short(&error.text), error.what),
    )
    .label(error.because.clone())
    .help(help)
}

fn step_count_problem(text: &str, words: &str) -> Problem {
    let help = words
        .split_once("; ")
        .map_or("write it like `12 steps`", |(_, help)| help);
    let label = match plain(text) {
        Plain::Whole(_) => "steps or checkpoint-intervals?",
        _ => "neither `N steps` nor `N checkpoint-intervals`",
    };
    Problem::new(
        "bad-step-count",
        format!("`{}` is not a number of steps", short(text)),
    )
    .label(label)
    .help(help.to_owned())
}
