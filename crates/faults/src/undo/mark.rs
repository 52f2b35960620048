//! What every process of an owned workload carries, whatever it does to its parents, its session and its cgroups: a variable of its environment, and a
//! resource limit.
//!
//! A program that sets its title (`setproctitle`, perl's `$0`) writes over the environment that others can read. Limits are inherited as surely, and
//! nobody writes over them by accident. The one that is used bounds the processor time of a real-time task between two sleeps, in microseconds: with
//! our value, 200,000 years.

use crate::sys::process;
use squall_model::id::RunId;
use squall_model::seed::hash64;

/// The variable.
pub const MARK: &str = "SQUALL_WORKLOAD";
/// The upper bits of the limit, below half of what 64 bits hold.
const PREFIX: u64 = 0x5351 << BITS;
const BITS: u32 = 48;

/// Whether the process carries this mark.
pub fn is_on(pid: u32, mark: &str) -> bool {
    process::has_variable(pid, &format!("{MARK}={mark}")) || limit_of(pid) == Some(limit(mark))
}

/// The limit that stands for a mark.
pub fn limit(mark: &str) -> u64 {
    PREFIX | hash64(&[mark.as_bytes()]) >> (64 - BITS)
}

/// The limit of a process, if it stands for a mark. Everybody may read it, also of processes that have changed their user.
pub fn limit_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max realtime timeout"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    (limit >> BITS << BITS == PREFIX).then_some(limit)
}

/// The marks that a run's workloads carry: of the one that is disturbed, and of the undisturbed.
pub fn of_run(run: &RunId) -> [String; 2] {
    [false, true].map(|reference| of_workload(run, reference))
}

/// The mark of one workload of a run.
pub fn of_workload(run: &RunId, reference: bool) -> String {
    let reference = if reference { "-reference" } else { "" };
    format!("{run}{reference}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_tell_marks_apart_and_bound_nobody() {
        let run = "01a20dc3-7e9e-715e-86ba-0ab2bf49ffef";
        let both = [run.to_owned(), format!("{run}-reference")].map(|mark| limit(&mark));
        assert_ne!(both[0], both[1]);
        // A hundred thousand years and more.
        assert!(both.iter().all(|limit| *limit > 3_200_000_000_000_000_000));
        assert!(both.iter().all(|limit| i64::try_from(*limit).is_ok()));
        assert_eq!(limit_of(std::process::id()), None);
    }
}
