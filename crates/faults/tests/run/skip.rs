//! What is not tested here.

#![allow(clippy::print_stderr, reason = "a test says what it does not try")]

/// Says that something is not tested here. With `SQUALL_NO_SKIP=1` only what `tests/allowed-skips.txt` lists may be skipped.
pub(crate) fn skip(reason: &str) {
    let allowed = include_str!("../../../../tests/allowed-skips.txt")
        .lines()
        .filter_map(|line| line.split_once(" | "))
        .any(|(beginning, _)| reason.starts_with(beginning));
    let forbidden = std::env::var_os("SQUALL_NO_SKIP").is_some_and(|value| value == "1");
    assert!(
        allowed || !forbidden,
        "may not be skipped (SQUALL_NO_SKIP=1): {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}
