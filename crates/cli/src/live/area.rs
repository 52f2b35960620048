//! The live area: a few lines that stand below what was said, at a terminal only.

use super::words::Words;
use squall_control::run::Live;

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

/// The lines, not yet cut to the terminal's width.
pub(super) fn lines(live: &Live, words: &Words) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(loss) = live.loss.last() {
        parts.push(format!("loss {} {loss:.3}", sparkline(&live.loss, 16)));
    }
    if let Some(rate) = live.steps_per_second {
        parts.push(format!("steps/s {rate:.1}"));
    }
    parts.push(format!("lease {:.1} s", live.lease_left.as_secs_f64()));
    if live.step > 0 {
        parts.push(format!("epoch {} step {}", live.epoch, live.step));
    }
    let time = live.elapsed.as_secs_f64();
    let mut lines = vec![format!(" {time:<9.1}{}", parts.join("  "))];
    let mut add = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!(" {label:<9}{text}"));
        }
    };
    let active = words.active();
    for text in active.iter().take(NAMED) {
        add("injected", text.clone());
    }
    if active.len() > NAMED {
        add("", format!("and {} more", active.len() - NAMED));
    }
    add("probes", words.probes.line());
    add("next", words.next());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_model::event::{Body, Event};
    use squall_model::id::RuleId;
    use std::time::Duration;

    #[test]
    fn a_sparkline_shows_the_last_values_from_lowest_to_highest() {
        assert_eq!(sparkline(&[9.0, 0.0, 7.0], 2), "▁█");
        assert_eq!(sparkline(&[1.0, 1.0], 8), "▁▁");
        assert_eq!(sparkline(&[f64::NAN], 8), "");
    }

    #[test]
    fn the_live_area_says_what_is_measured_and_what_comes_next() {
        let live = Live {
            elapsed: Duration::from_secs_f64(12.34),
            loss: vec![3.0, 2.0, 1.0],
            steps_per_second: Some(8.12),
            step: 640,
            epoch: 10,
            lease_left: Duration::from_secs_f64(4.2),
            ..Live::default()
        };
        let mut words = Words::default();
        let armed = Body::Armed {
            rule: RuleId(0),
            kind: "process-kill".into(),
            name: None,
            aim: "after epoch 20".into(),
        };
        words.line(&Event {
            seq: 1,
            t_ns: 0,
            body: armed,
        });
        assert_eq!(
            lines(&live, &words),
            [
                " 12.3     loss █▅▁ 1.000  steps/s 8.1  lease 4.2 s  epoch 10 step 640",
                " next     process-kill after epoch 20",
            ]
        );
    }
}
