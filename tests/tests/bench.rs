//! The bench measures real processes.

use std::process::Command;

#[test]
fn the_monitor_s_figures_come_from_real_processes() {
    let output = Command::new(env!("CARGO_BIN_EXE_squall-bench"))
        .args(["--child", "monitor", "2", "6", "2"])
        .output()
        .expect("started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let number = |name: &str| figures[name].as_f64().unwrap_or(0.0);
    assert!(
        number("samples") > 500.0 && number("cpu_percent") > 0.0 && number("store_bytes") > 0.0,
        "{figures}"
    );
}
