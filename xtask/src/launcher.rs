//! Whose fault a failed PyTorch run was: the launcher's, or the training's. Read from the workload's log.
//!
//! torchrun's own restart sometimes fails before any rank trains: the rendezvous or gloo's connections do not come about.
//! That says nothing about the experiment. It counts as the launcher's failure only if the log shows such a line and no
//! exception that is neither one of these nor the echo of a lost peer: whenever a rank's own code may be at fault, it is.

/// What the launcher says when it fails, in torch 2.
const LAUNCHER: &[&str] = &[
    "connectFullMesh failed",
    "RendezvousTimeoutError",
    "RendezvousConnectionError",
    "RendezvousClosedError",
    "RendezvousStateError",
    "DistNetworkError",
    "DistStoreError",
    "client socket has timed out",
    "client socket has failed to connect",
    "server socket has failed to",
];

/// What ranks and torchrun say because another rank died.
const ECHOES: &[&str] = &[
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket closed",
    "Read error",
    "Write error",
    "ChildFailedError",
    "SignalException",
];

/// What a workload's log tells of failures.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Exceptions of the launcher, one line each.
    pub(crate) launcher: Vec<String>,
    /// Exceptions of anything else.
    pub(crate) own: Vec<String>,
}

impl Findings {
    /// Reads a log of Squall's, each line with its time in front.
    pub(crate) fn of(log: &str) -> Findings {
        let mut found = Findings::default();
        for line in log.lines() {
            let text = line.split_once(' ').map_or("", |(_, text)| text);
            let text = text
                .strip_prefix("[rank")
                .and_then(|rest| rest.split_once("]: "))
                .map_or(text, |(_, rest)| rest);
            if !is_exception(text) {
                continue;
            }
            let says = |any: &[&str]| any.iter().any(|part| text.contains(part));
            if says(LAUNCHER) {
                found.launcher.push(text.to_owned());
            } else if !says(ECHOES) {
                found.own.push(text.to_owned());
            }
        }
        found
    }

    /// Whether the launcher alone is to blame.
    pub(crate) fn blame_the_launcher(&self) -> bool {
        !self.launcher.is_empty() && self.own.is_empty()
    }
}

/// The last line of a traceback: a dotted name that ends like an exception, then a colon or nothing.
fn is_exception(text: &str) -> bool {
    let name = text.split(':').next().unwrap_or_default();
    let last = name.rsplit('.').next().unwrap_or_default();
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '.')
        && ["Error", "Exception", "Interrupt", "Exit"]
            .iter()
            .any(|end| last.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::Findings;

    const LOST: &str =
        "5.1 [rank0]: RuntimeError: [/x/pair.cc:561] Connection closed by peer [127.0.0.1]:17098";
    const MESH: &str = "6.2 [rank1]: RuntimeError: Gloo connectFullMesh failed with [/x/pair.cc:144] Connection refused";
    const ELASTIC: &str = "7.3 torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ";

    fn of(lines: &[&str]) -> Findings {
        Findings::of(&lines.join("\n"))
    }

    #[test]
    fn a_connection_that_never_came_about_is_the_launchers_fault() {
        let found = of(&[LOST, MESH, ELASTIC]);
        assert!(found.blame_the_launcher());
        assert_eq!(found.launcher.len(), 1);
    }

    #[test]
    fn an_exception_of_the_script_is_never_excused_by_one_of_the_launcher() {
        for own in [
            "5.5 [rank1]: ValueError: bad checkpoint",
            "5.5 KeyError: 'step'",
            "5.5 [rank0]: _pickle.UnpicklingError: pickle data was truncated",
            "5.5 [rank0]: AssertionError",
        ] {
            let found = of(&[LOST, MESH, own, ELASTIC]);
            assert!(!found.blame_the_launcher(), "{own}");
            assert_eq!(found.own.len(), 1, "{own}");
        }
    }

    #[test]
    fn the_echo_of_a_killed_rank_is_no_failure_of_the_launcher() {
        assert!(!of(&[LOST, ELASTIC]).blame_the_launcher());
    }

    #[test]
    fn ordinary_lines_are_not_exceptions() {
        let found = of(&[
            "1.0 epoch 3 step 24 loss 2.1",
            "1.0 resumed from step 72",
            "1.0 [rank0]:   File \"x.py\", line 3, in main",
            "1.0 W1124 11:47:02 api.py:1028] Sending process 19966 closing signal SIGTERM",
        ]);
        assert_eq!(found, Findings::default());
    }
}
