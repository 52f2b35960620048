//! A trainer that speaks the hook protocol and writes down, for itself, where it is: what the tests judge by.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const PHASES: [&str; 4] = ["forward", "backward", "optimizer-step", "epoch-end"];

/// Restarts the trainer when it is killed, from the last finished epoch.
pub(crate) fn supervise() -> ExitCode {
    for restart in 0..20 {
        let me = std::env::current_exe().unwrap_or_default();
        let child = Command::new(me)
            .arg("trainer")
            .env("RANK", "1")
            .env("RESTART", restart.to_string())
            .status();
        if child.is_ok_and(|status| status.success()) {
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::FAILURE
}

struct Trainer {
    socket: Option<(BufReader<UnixStream>, UnixStream)>,
    holds: Vec<Value>,
    out: PathBuf,
    seq: u64,
}

/// Trains `EPOCHS` epochs of 4 steps.
pub(crate) fn train() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let number = |name: &str| variable(name).and_then(|text| text.parse::<u64>().ok());
    let out = PathBuf::from(variable("SQUALL_OUT").unwrap_or_else(|| ".".into()));
    let socket = variable("SQUALL_HOOK_SOCKET").and_then(|path| UnixStream::connect(path).ok());
    let socket = socket.and_then(|stream| Some((BufReader::new(stream.try_clone().ok()?), stream)));
    let mut trainer = Trainer {
        socket,
        holds: Vec::new(),
        out,
        seq: 0,
    };
    trainer.tell(
        &json!({"hello": {"v": 1, "pid": std::process::id(), "rank": number("RANK"), "world": 1,
        "restart": number("RESTART").unwrap_or(0), "phases": PHASES, "role": "rank"}}),
    );
    trainer.hear(true);
    for _ in 0..number("FLOOD").unwrap_or(0) {
        trainer.flood();
    }
    let checkpoint = trainer.out.join("checkpoint");
    let done: u64 = std::fs::read_to_string(&checkpoint)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    for epoch in done + 1..=number("EPOCHS").unwrap_or(4) {
        for step in (epoch - 1) * 4 + 1..=epoch * 4 {
            for phase in &PHASES[..3] {
                trainer.phase(phase, step, epoch);
            }
            trainer.event(json!({"kind": "step-end", "step": step, "epoch": epoch, "loss": 1.0}));
            writeln!(std::io::stdout(), "epoch {epoch} step {step} done").unwrap_or_default();
            std::thread::sleep(Duration::from_millis(number("STEP_MS").unwrap_or(3)));
        }
        trainer.event(json!({"kind": "epoch-end", "step": epoch * 4, "epoch": epoch}));
        trainer.phase("epoch-end", epoch * 4, epoch);
        if number("ASK_AT") == Some(epoch) {
            trainer.ask(epoch);
        }
        std::fs::write(&checkpoint, epoch.to_string()).unwrap_or_default();
    }
    ExitCode::SUCCESS
}

impl Trainer {
    fn tell(&mut self, message: &Value) {
        if let Some((_, socket)) = &mut self.socket {
            socket
                .write_all(format!("{message}\n").as_bytes())
                .unwrap_or_default();
        }
    }

    fn event(&mut self, mut body: Value) {
        self.seq += 1;
        body["seq"] = json!(self.seq);
        self.tell(&json!({"event": body}));
    }

    /// Reads what has been said; `wait`: at least one message.
    fn hear(&mut self, mut wait: bool) -> Vec<Value> {
        let mut said = Vec::new();
        while let Some((reader, socket)) = &mut self.socket {
            socket
                .set_nonblocking(!wait && reader.buffer().is_empty())
                .unwrap_or_default();
            let mut line = String::new();
            let read = reader.read_line(&mut line);
            socket.set_nonblocking(false).unwrap_or_default();
            if matches!(read, Ok(0)) {
                self.socket = None;
                break;
            }
            let Ok(message) = serde_json::from_str::<Value>(&line) else {
                break;
            };
            wait = false;
            let holds = message["welcome"]["arm"]
                .as_array()
                .or(message["arm"]["holds"].as_array());
            if let Some(holds) = holds {
                self.holds.clone_from(holds);
            }
            said.push(message);
        }
        said
    }

    /// In a phase: truth first, then the hold point, then the work.
    fn phase(&mut self, phase: &str, step: u64, epoch: u64) {
        let mut truth = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.out.join("truth"))
            .ok();
        let mut write = |what: &str| {
            if let Some(truth) = &mut truth {
                writeln!(truth, "{what} {epoch} {step} {phase}")
                    .and_then(|()| truth.sync_data())
                    .unwrap_or_default();
            }
        };
        write("begin");
        self.event(json!({"kind": "phase-begin", "phase": phase, "step": step, "epoch": epoch}));
        self.hear(false);
        let fits =
            |hold: &Value, key: &str, value: u64| hold[key].is_null() || hold[key] == json!(value);
        let hold = self.holds.iter().find(|hold| {
            hold["phase"] == json!(phase) && fits(hold, "step", step) && fits(hold, "epoch", epoch)
        });
        if let Some(id) = hold.map(|hold| hold["id"].clone()) {
            self.holds.retain(|hold| hold["id"] != id);
            self.tell(&json!({"hold": {"id": id, "step": step, "epoch": epoch, "phase": phase}}));
            self.wait_for(&id);
        }
        write("end");
        self.event(json!({"kind": "phase-end", "phase": phase, "step": step, "epoch": epoch}));
    }

    /// A thousand holds that nobody asked for; each is to be answered.
    fn flood(&mut self) {
        const HOLDS: usize = 1000;
        let hold = json!({"hold": {"id": "r0-x", "step": 1, "epoch": 1, "phase": "forward"}});
        (0..HOLDS).for_each(|_| self.tell(&hold));
        let mut answered = 0;
        while answered < HOLDS && self.socket.is_some() {
            let said = self.hear(true);
            let ours = |message: &&Value| message["release"]["id"] == json!("r0-x");
            answered += said.iter().filter(ours).count();
        }
        let line = format!("answered {answered}");
        writeln!(std::io::stdout(), "{line}").unwrap_or_default();
    }

    fn wait_for(&mut self, id: &Value) -> Value {
        let impatience = std::env::var("PATIENCE_MS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(5000);
        let deadline = Instant::now() + Duration::from_millis(impatience);
        while self.socket.is_some() && Instant::now() < deadline {
            for message in self.hear(false) {
                for key in ["landed", "release", "refused"] {
                    if message[key]["id"] == *id {
                        return json!({key: message[key]});
                    }
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        self.event(json!({"kind": "hold-expired", "id": id}));
        Value::Null
    }

    fn ask(&mut self, epoch: u64) {
        let id = json!("ask1");
        self.tell(&json!({"request": {"id": id, "fault": "process-kill", "epoch": epoch, "step": epoch * 4}}));
        let answer = self.wait_for(&id);
        std::fs::write(self.out.join("answer"), answer.to_string()).unwrap_or_default();
    }
}
