//! The live area: a few lines that stand below what was said, at a terminal only.

use super::fit::{INDENT, cut, wrap};
use super::words::Words;
use squall_analysis::num;
use squall_control::run::Live;
use std::collections::VecDeque;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Injections that are named one by one.
const NAMED: usize = 3;

/// A picture of the last values in `width` characters, lowest to highest.
fn sparkline(values: &[f64], width: usize) -> String {
    let values: Vec<f64> = values
        .iter()
        .rev()
        .take(width)
        .rev()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
    let span = if high > low { high - low } else { 1.0 };
    values
        .iter()
        .map(|value| BARS[(((value - low) / span) * 7.0).round() as usize % 8])
        .collect()
}

/// Values of the rate of steps that are kept for a picture.
const RATE_HISTORY: usize = 60;
/// Width of a picture on a terminal of 80 columns, and on a wide one.
const PICTURE: [usize; 2] = [8, 16];
/// From here on a terminal is wide.
const WIDE: usize = 110;

/// What the area remembers between two drawings.
#[derive(Debug, Default)]
pub(super) struct Area {
    rates: VecDeque<f64>,
}

impl Area {
    /// The lines, each fit for a terminal of so many columns.
    pub(super) fn lines(&mut self, live: &Live, words: &Words, columns: usize) -> Vec<String> {
        self.rates.extend(live.steps_per_second);
        if self.rates.len() > RATE_HISTORY {
            self.rates.pop_front();
        }
        let mut lines = vec![cut(&self.training(live, columns), columns)];
        let mut add = |label: &str, text: &str| {
            if !text.is_empty() {
                let line = wrap(&format!(" {label:<9}{text}"), columns, INDENT);
                lines.extend(line.lines().map(|line| cut(line, columns)));
            }
        };
        let lease = live.lease_left.as_secs_f64();
        add("lease", &format!("{lease:.1} s left"));
        let active = words.active();
        for text in active.iter().take(NAMED) {
            add("injected", text);
        }
        if active.len() > NAMED {
            add("", &format!("and {} more", active.len() - NAMED));
        }
        add("probes", &words.probes.line());
        add("next", &words.next());
        lines
    }

    /// How training goes: what is done, the loss, the rate of steps.
    fn training(&self, live: &Live, columns: usize) -> String {
        let width = PICTURE[usize::from(columns >= WIDE)];
        let mut parts = Vec::new();
        if live.step > 0 {
            let steps = num::plural(live.step as usize, "step", "steps");
            let epochs = num::plural(live.epoch as usize, "epoch", "epochs");
            parts.push(format!("{steps}, {epochs}"));
        }
        if let Some(loss) = live.loss.last() {
            parts.push(format!("loss {} {loss:.3}", sparkline(&live.loss, width)));
        }
        if let Some(rate) = live.steps_per_second {
            let rates: Vec<f64> = self.rates.iter().copied().collect();
            parts.push(format!("steps/s {} {rate:.1}", sparkline(&rates, width)));
        }
        let time = live.elapsed.as_secs_f64();
        format!(" {time:<9.1}{}", parts.join("  "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_model::event::{Body, Event, Place, Precision};
    use squall_model::id::{InjectionId, RuleId};
    use squall_model::syntax::Class;
    use std::time::Duration;

    #[test]
    fn a_sparkline_shows_the_last_values_from_lowest_to_highest() {
        assert_eq!(sparkline(&[9.0, 0.0, 7.0], 2), "▁█");
        assert_eq!(sparkline(&[1.0, 1.0], 8), "▁▁");
        assert_eq!(sparkline(&[f64::NAN], 8), "");
    }

    fn live() -> Live {
        Live {
            elapsed: Duration::from_secs_f64(12.34),
            loss: vec![3.0, 2.0, 1.0],
            steps_per_second: Some(8.12),
            step: 640,
            epoch: 10,
            lease_left: Duration::from_secs_f64(4.2),
            ..Live::default()
        }
    }

    fn told(body: Body, words: &mut Words) {
        words.line(&Event {
            seq: 1,
            t_ns: 0,
            body,
        });
    }

    fn armed(rule: u32, kind: &str, aim: &str) -> Body {
        Body::Armed {
            rule: RuleId(rule),
            kind: kind.into(),
            name: None,
            aim: aim.into(),
        }
    }

    #[test]
    fn the_live_area_says_what_is_measured_and_what_comes_next() {
        let (mut words, mut area) = (Words::default(), Area::default());
        told(armed(0, "process-kill", "after epoch 20"), &mut words);
        let slow = Live {
            steps_per_second: Some(2.0),
            ..live()
        };
        area.lines(&slow, &words, 80);
        assert_eq!(
            area.lines(&live(), &words, 80),
            [
                " 12.3     640 steps, 10 epochs  loss █▅▁ 1.000  steps/s ▁█ 8.1",
                " lease    4.2 s left",
                " next     process-kill after epoch 20",
            ]
        );
    }

    #[test]
    fn what_is_injected_says_where_and_is_not_what_comes_next() {
        let (mut words, mut area) = (Words::default(), Area::default());
        told(
            armed(0, "process-pause", "in step 29, in phase backward"),
            &mut words,
        );
        let injection = InjectionId("aaaaaaaa".into());
        let place = Place {
            step: Some(29),
            epoch: Some(4),
            phase: Some("backward".into()),
            rank: Some(1),
        };
        told(
            Body::InjectionBegun {
                injection: injection.clone(),
                rule: RuleId(0),
                kind: "process-pause".into(),
                class: Class::Lasting,
                target: "rank 1 pid 1234567 (python -u train.py)".into(),
                process: None,
                aim: place.clone(),
                mechanism: "SIGSTOP by pidfd".into(),
            },
            &mut words,
        );
        told(
            Body::Landed {
                injection,
                place,
                precision: Precision::Held,
                held_ns: None,
                observations: Vec::new(),
            },
            &mut words,
        );
        let long = Live {
            step: 123_456,
            epoch: 1_234,
            loss: (0..60).map(f64::from).collect(),
            ..live()
        };
        for columns in [40, 80, 120] {
            let lines = area.lines(&long, &words, columns);
            assert!(
                lines.iter().all(|line| line.chars().count() <= columns),
                "{lines:#?}"
            );
            // At 40 columns it goes on below.
            let text = lines.join("\n").replace("\n          ", " ");
            let place = "rank 1 pid 1234567 in step 29, epoch 4, phase backward, held";
            assert!(text.contains(place), "{text}");
            assert!(!text.contains("next"), "{text}");
        }
    }
}
