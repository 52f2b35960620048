//! What is refused before anything is touched, each with a code and words of its own.

use anyhow::ensure;
use squall_tests::product::Desk;
use squall_tests::spawned::Spawned;

use super::alone;

/// Runs a text that is to be refused with a code, in words that hold these, and leaves a bystander as it was.
fn refused(desk: &Desk, text: &str, code: i32, words: &[&str]) -> anyhow::Result<()> {
    let file = desk.write("experiment.yaml", text)?;
    let ended = desk.run(&file)?;
    ended.expect(code)?;
    let said = format!("{}{}", ended.out, ended.err);
    for word in words {
        ensure!(
            said.contains(word),
            "`{word}` is not in what it said: {}",
            ended.told()
        );
    }
    Ok(())
}

fn pause(target: &str) -> String {
    format!(
        "version: 1\ntitle: a process is stopped\nbaseline: 50ms\nmethod:\n  - process-pause: {{target: {{{target}}}, for: 1s}}\n"
    )
}

#[test]
fn a_selection_of_nothing_is_refused() {
    alone("refusals::a_selection_of_nothing_is_refused", |desk| {
        refused(
            desk,
            &pause("command: 'no such command, surely'"),
            20,
            &["no such command, surely"],
        )
    });
}

#[test]
fn what_a_policy_forbids_is_refused() {
    alone("refusals::what_a_policy_forbids_is_refused", |desk| {
        let mut bystander = Spawned::sleeper()?;
        let policy = desk.write(
            "home/config/squall/policy.yaml",
            "version: 1\nforbidden-faults: [process-*]\n",
        )?;
        let text = pause(&format!("pid: {}", bystander.pid()));
        refused(
            desk,
            &text,
            23,
            &["process-pause", &policy.to_string_lossy()],
        )?;
        bystander.end()
    });
}

#[test]
fn an_invalid_file_is_refused_with_all_its_problems() {
    alone(
        "refusals::an_invalid_file_is_refused_with_all_its_problems",
        |desk| {
            let text = "version: 1\ntitle: much is wrong\nmethd: []\nmethod:\n  - process-kil: {target: {rank: 1}}\n  - process-pause: {target: {pid: 1}, for: 5}\n";
            refused(
                desk,
                text,
                3,
                &[
                    "methd",
                    "process-kil",
                    "did you mean `process-kill`?",
                    ":6:",
                ],
            )
        },
    );
}

#[test]
fn a_wrong_command_line_is_refused() {
    alone("refusals::a_wrong_command_line_is_refused", |desk| {
        desk.squall(&["rnu"])?.expect(2)
    });
}
