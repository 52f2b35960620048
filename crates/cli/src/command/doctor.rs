//! `squall doctor`: what this host can do, and what to do about what it cannot.

use crate::Outcome;
use crate::arguments::{Format, Plain};
use crate::live::{columns, fitted};
use crate::output::{Paint, Stream, json, style};
use squall_control::doctor::{Fact, Health, examine};
use squall_model::exit::Exit;

pub(crate) fn run(arguments: &Plain) -> Outcome {
    let state = super::state_dir().ok();
    let facts = examine(state.as_deref());
    match arguments.format {
        Format::Json => json(&serde_json::json!({"version": "squall.doctor/1", "facts": facts}))?,
        Format::Text => print!("{}", page(&facts, columns(Stream::Out))),
    }
    let bad = facts.iter().any(|fact| fact.health == Health::Bad);
    Ok(if bad { Exit::Unmet } else { Exit::Held })
}

fn page(facts: &[Fact], columns: Option<usize>) -> String {
    let mut page = String::new();
    let mut add = |line: String| {
        page.push_str(&fitted(&line, columns, 17));
        page.push('\n');
    };
    for fact in facts {
        let mark = match fact.health {
            Health::Good => style(Paint::Good, "✓", Stream::Out),
            Health::Limited => style(Paint::Warn, "▲", Stream::Out),
            Health::Bad => style(Paint::Error, "✗", Stream::Out),
        };
        add(format!("{mark} {:14} {}", fact.name, fact.found));
        if let Some(remedy) = &fact.remedy {
            add(format!("  {:14} {remedy}", ""));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_eighty_columns() {
        let fact = Fact {
            name: "boot unit",
            health: Health::Limited,
            found: "not enabled ".repeat(9),
            remedy: Some(format!("see /var/{}/unit and copy it", "long/".repeat(30))),
        };
        let mut facts = examine(None);
        facts.push(fact);
        for line in page(&facts, Some(80)).lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(
            page(&facts, None)
                .lines()
                .any(|line| line.chars().count() > 80)
        );
    }
}
