//! Whole runs with real guards, agents and processes. Its own main: guard and agent are this same program again.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a test program of its own"
)]

mod cases;

use squall_catalog::Faults;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1).map_or("", String::as_str);
    match arguments.first().map(String::as_str) {
        Some("guard") => squall_faults::guard::main(rest),
        Some("agent") => squall_faults::agent::main::<Faults>(rest, &[]),
        Some("serve-fault") => squall_faults::serve::main(rest, squall_catalog::served::body),
        Some("play") => cases::play_file(&arguments[1..]),
        _ => run_all(&arguments),
    }
}

/// Cases whose name holds one of the given words.
fn run_all(words: &[String]) -> ExitCode {
    let words: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut failed = 0;
    for (name, case) in cases::ALL {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let held = std::panic::catch_unwind(case).is_ok();
        println!("test {name} ... {}", if held { "ok" } else { "FAILED" });
        failed += u32::from(!held);
    }
    ExitCode::from(u8::from(failed > 0))
}
