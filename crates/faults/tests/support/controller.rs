//! A controller of few words, so that tests can stop and kill one.

use squall_faults::protocol::{FromAgent, ToAgent};
use squall_faults::spawn::{Start, start};
use squall_model::id::RunId;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};

/// Starts a run in `folder` (its name is the run's id). Lines in: messages to the agent. Lines out: pids, then the agent's messages.
pub(crate) fn run(folder: &Path) -> ExitCode {
    let run = RunId(
        folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    );
    let started = start(
        folder,
        &Start {
            run,
            lease_ms: 1500,
            program: None,
        },
    );
    let mut connection = match started {
        Ok(connection) => connection,
        Err(error) => {
            writeln!(std::io::stdout(), "failed {error}").unwrap_or_default();
            return ExitCode::FAILURE;
        }
    };
    let mut out = std::io::stdout();
    let mut say = |text: String| {
        out.write_all(format!("{text}\n").as_bytes())
            .and_then(|()| out.flush())
            .unwrap_or_default()
    };
    say(format!(
        "{} {}",
        connection.guard_pid, connection.agent_process.pid
    ));
    let (sender, receiver) = channel::<Option<ToAgent>>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let message = serde_json::from_str(&line).ok();
            sender.send(message).unwrap_or_default();
        }
        sender.send(None).unwrap_or_default();
    });
    let mut renewed = Instant::now();
    loop {
        match receiver.try_recv() {
            Ok(Some(message)) => connection.agent.push(&message).unwrap_or_default(),
            Ok(None) | Err(TryRecvError::Disconnected) => return ExitCode::SUCCESS,
            Err(TryRecvError::Empty) => {}
        }
        if renewed.elapsed() > Duration::from_millis(300) {
            renewed = Instant::now();
            connection.guard.renew().unwrap_or_default();
            connection.agent.push(&ToAgent::Renew).unwrap_or_default();
        }
        connection.agent.flush().unwrap_or_default();
        connection.agent.fill().unwrap_or_default();
        for _ in 0..500 {
            let Ok(Some(message)) = connection.agent.next::<FromAgent>() else {
                break;
            };
            say(serde_json::to_string(&message).unwrap_or_default());
        }
        while let Ok(Some(report)) = connection.guard.report() {
            say(format!(
                "guard {}",
                serde_json::to_string(&report).unwrap_or_default()
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
