//! `squall doctor`: what this host can do, and what to do about what it cannot.

use crate::Outcome;
use crate::arguments::{Format, Plain};
use crate::output::{Paint, Stream, json, style};
use squall_control::doctor::{Health, examine};
use squall_model::exit::Exit;

pub(crate) fn run(arguments: &Plain) -> Outcome {
    let state = super::state_dir().ok();
    let facts = examine(state.as_deref());
    match arguments.format {
        Format::Json => json(&serde_json::json!({"version": "squall.doctor/1", "facts": facts}))?,
        Format::Text => {
            for fact in &facts {
                let mark = match fact.health {
                    Health::Good => style(Paint::Good, "✓", Stream::Out),
                    Health::Limited => style(Paint::Warn, "▲", Stream::Out),
                    Health::Bad => style(Paint::Error, "✗", Stream::Out),
                };
                println!("{mark} {:14} {}", fact.name, fact.found);
                if let Some(remedy) = &fact.remedy {
                    println!("  {:14} {remedy}", "");
                }
            }
        }
    }
    let bad = facts.iter().any(|fact| fact.health == Health::Bad);
    Ok(if bad { Exit::Unmet } else { Exit::Held })
}
