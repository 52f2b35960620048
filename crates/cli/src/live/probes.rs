//! Probes as people want them told: when something changes, not each time one is taken. Until a probe of the steady state has held for the
//! first time nothing is wrong; it is waited for.

use squall_model::event::Stage;
use std::collections::BTreeMap;

/// How a probe stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has not held yet.
    Waiting,
    Holds,
    Fails,
}

/// The standing of every probe.
#[derive(Debug, Default)]
pub(super) struct Probes {
    standing: BTreeMap<String, Standing>,
}

impl Probes {
    /// Takes in a reading; gives the standing when it is a new one.
    pub(super) fn take(
        &mut self,
        check: &str,
        held: bool,
        stage: Option<Stage>,
    ) -> Option<Standing> {
        let before = self.standing.get(check).copied();
        let early = stage.is_none_or(|stage| stage <= Stage::SteadyState);
        let now = match (held, before) {
            (true, _) => Standing::Holds,
            (false, None | Some(Standing::Waiting)) if early => Standing::Waiting,
            (false, _) => Standing::Fails,
        };
        self.standing.insert(check.to_owned(), now);
        (before != Some(now)).then_some(now)
    }

    /// `✓ steady state · … abort condition` for the live area.
    pub(super) fn line(&self) -> String {
        let all = self.standing.iter().map(|(check, standing)| {
            let mark = match standing {
                Standing::Waiting => "…",
                Standing::Holds => "✓",
                Standing::Fails => "✗",
            };
            format!("{mark} {}", name(check))
        });
        all.collect::<Vec<_>>().join(" · ")
    }
}

/// `steady-state/0` is the first probe of the steady state; a name that the file gives stays as it is.
pub(super) fn name(check: &str) -> String {
    let Some((part, number)) = check.rsplit_once('/') else {
        return check.to_owned();
    };
    let words = match part {
        "steady-state" => "steady state",
        "abort-when" => "abort condition",
        _ => return check.to_owned(),
    };
    match number.parse::<u32>() {
        Ok(0) => words.to_owned(),
        Ok(number) => format!("{words} {}", number + 1),
        Err(_) => check.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_waited_for_until_it_first_holds_and_told_when_it_changes() {
        let mut probes = Probes::default();
        let steady = Some(Stage::SteadyState);
        assert_eq!(
            probes.take("steady-state/0", false, steady),
            Some(Standing::Waiting)
        );
        assert_eq!(probes.take("steady-state/0", false, steady), None);
        assert_eq!(
            probes.take("steady-state/0", true, steady),
            Some(Standing::Holds)
        );
        assert_eq!(
            probes.take("steady-state/0", true, Some(Stage::Method)),
            None
        );
        assert_eq!(
            probes.take("steady-state/0", false, Some(Stage::Method)),
            Some(Standing::Fails)
        );
        assert_eq!(probes.line(), "✗ steady state");
        assert_eq!(
            probes.take("late", false, Some(Stage::Recovery)),
            Some(Standing::Fails)
        );
        assert_eq!(name("abort-when/1"), "abort condition 2");
        assert_eq!(name("my check"), "my check");
    }
}
