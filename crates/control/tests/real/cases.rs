use squall_control::clock::boot_ns;
use squall_control::prepare::{Circumstances, prepare};
use squall_control::run::{Conclusion, Interrupt, LocalHost, Request, Silent, conduct};
use squall_control::store::{StoredRun, runs};
use squall_faults::kind::HostFacts;
use squall_model::event::{Body, Event, Stage};
use squall_model::exit::Exit;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

pub(crate) const ALL: &[(&str, fn())] = &[
    (
        "a_pause_lands_is_undone_and_the_run_holds",
        a_pause_lands_is_undone_and_the_run_holds,
    ),
    (
        "a_killed_workload_is_a_deviation_and_leaves_no_process",
        a_killed_workload_is_a_deviation_and_leaves_no_process,
    ),
    (
        "a_workload_that_would_never_end_is_ended_and_the_log_says_by_whom",
        a_workload_that_would_never_end_is_ended_and_the_log_says_by_whom,
    ),
    (
        "training_is_seen_through_its_log_and_its_reference_compared",
        training_is_seen_through_its_log_and_its_reference_compared,
    ),
    (
        "a_controller_killed_in_mid_run_is_closed_by_the_next",
        a_controller_killed_in_mid_run_is_closed_by_the_next,
    ),
];

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("squall-real-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        Scratch(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

struct Process(Child);

impl Process {
    fn sleeping() -> Process {
        Process(
            Command::new("sleep")
                .arg("600")
                .stdin(Stdio::null())
                .spawn()
                .expect("started"),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no {what} within 20 s");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn play(state: &Path, file: &Path) -> Conclusion {
    let circumstances = Circumstances {
        seed: Some(7),
        policy_places: Vec::new(),
        facts: HostFacts::read(),
        private: squall_faults::sys::private::may_be_made,
    };
    let prepared = prepare(file, &circumstances).expect("prepared");
    conduct(Request {
        script: prepared.script,
        state_dir: state.to_path_buf(),
        host: &mut LocalHost::default(),
        observer: &mut Silent,
        interrupt: &Interrupt::default(),
        lease: Duration::from_secs(3),
    })
    .expect("the run begins")
}

/// A child program: plays a file and is killed on the way.
pub(crate) fn play_file(arguments: &[String]) -> ExitCode {
    let [state, file] = arguments else {
        return ExitCode::FAILURE;
    };
    let conclusion = play(Path::new(state), Path::new(file));
    ExitCode::from(conclusion.exit.code())
}

fn events(conclusion: &Conclusion) -> Vec<Event> {
    StoredRun::events(&conclusion.run_dir).expect("the log is there")
}

fn told(conclusion: &Conclusion) -> String {
    let events = events(conclusion);
    let lines: Vec<String> = events
        .iter()
        .map(|e| format!("{:8.3} {:?}", e.t_ns as f64 / 1e9, e.body))
        .collect();
    let report = conclusion
        .report
        .as_ref()
        .map(|report| format!("{:#?}", report.verdict));
    format!(
        "{}\n{:?}\n{}",
        lines.join("\n"),
        conclusion.problems,
        report.unwrap_or_default()
    )
}

/// Processes that carry a run's mark.
fn marked(run: &str) -> Vec<u32> {
    let wanted = format!("SQUALL_RUN={run}");
    let entries = std::fs::read_dir("/proc").expect("proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        state_of(*pid) != Some('Z')
            && environ
                .split(|byte| *byte == 0)
                .any(|entry| entry == wanted.as_bytes())
    })
    .collect()
}

fn a_pause_lands_is_undone_and_the_run_holds() {
    let scratch = Scratch::new("pause");
    let target = Process::sleeping();
    let pid = target.0.id();
    let file = scratch.write(
        "e.yaml",
        &format!(
            "version: 1\ntitle: a pause\nbaseline: 300ms\nsteady-state:\n  - probe: {{process-alive: {{target: {{pid: {pid}}}}}}}\n    interval: 100ms\n\
             method:\n  - process-pause: {{target: {{pid: {pid}}}, for: 500ms}}\nexpect:\n  - steady-again-within: 5s\n"
        ),
    );
    let conclusion = play(&scratch.0.join("state"), &file);
    assert_eq!(conclusion.exit, Exit::Held, "{}", told(&conclusion));
    let events = events(&conclusion);
    assert!(events.iter().any(|e| matches!(e.body, Body::Landed { .. })));
    assert!(events.iter().any(|e| matches!(e.body, Body::Undone { .. })));
    let at = |wanted: fn(&Body) -> bool| {
        events
            .iter()
            .find(|e| wanted(&e.body))
            .map_or(0, |e| e.t_ns)
    };
    let lasted = at(|body| matches!(body, Body::UndoBegun { .. }))
        - at(|body| matches!(body, Body::Landed { .. }));
    assert!(lasted >= 490_000_000, "it was cut short: {lasted} ns");
    assert_eq!(state_of(pid), Some('S'), "it runs again");
    let run = StoredRun::open(&conclusion.run_dir).expect("opened");
    let rss = run
        .series
        .iter()
        .find(|s| s.name == "process.rss" && s.labels["pid"] == pid.to_string());
    assert!(
        rss.is_some_and(|s| s.values.len() > 5),
        "the target was monitored"
    );
}

fn a_killed_workload_is_a_deviation_and_leaves_no_process() {
    let scratch = Scratch::new("kill");
    scratch.write("w.sh", "sleep 601 &\nsetsid sleep 602 &\nsleep 603\n");
    let file = scratch.write(
        "e.yaml",
        "version: 1\ntitle: a kill\nbaseline: 300ms\nworkload:\n  process: {run: \"sh w.sh\"}\n\
         method:\n  - process-kill: {target: {workload: true}}\nexpect:\n  - completes: {exit: 0}\ntime-limit: 30s\n",
    );
    let conclusion = play(&scratch.0.join("state"), &file);
    assert_eq!(conclusion.exit, Exit::Deviated, "{}", told(&conclusion));
    assert_eq!(
        marked(&conclusion.run.0),
        Vec::<u32>::new(),
        "nothing of the workload is left"
    );
    assert_eq!(ended_by_squall(&conclusion), Some(false));
}

/// What the log says of the workload's end.
fn ended_by_squall(conclusion: &Conclusion) -> Option<bool> {
    events(conclusion).iter().find_map(|e| match e.body {
        Body::WorkloadEnded { by_squall, .. } => Some(by_squall),
        _ => None,
    })
}

fn a_workload_that_would_never_end_is_ended_and_the_log_says_by_whom() {
    let scratch = Scratch::new("endless");
    let file = scratch.write(
        "e.yaml",
        "version: 1\ntitle: a pause\nbaseline: 100ms\nworkload:\n  process: {run: \"sleep 604\"}\n\
         method:\n  - process-pause: {target: {workload: true}, for: 100ms}\ntime-limit: 30s\n",
    );
    let conclusion = play(&scratch.0.join("state"), &file);
    assert_eq!(conclusion.exit, Exit::Held, "{}", told(&conclusion));
    assert_eq!(ended_by_squall(&conclusion), Some(true));
}

fn training_is_seen_through_its_log_and_its_reference_compared() {
    let scratch = Scratch::new("training");
    scratch.write("t.sh", "e=0\nwhile [ $e -lt 8 ]; do e=$((e+1)); sleep 0.15; echo \"epoch $e step $((e*10)) loss 0.$((9-e))\"; done\n");
    let file = scratch.write(
        "e.yaml",
        "version: 1\ntitle: a pause while training\nbaseline: 100ms\nworkload:\n  training:\n    run: \"sh t.sh\"\n    reference: true\n    events:\n      \
         - {event: epoch-end, pattern: 'epoch (?P<epoch>\\d+) step (?P<step>\\d+) loss (?P<loss>[0-9.]+)'}\n      \
         - {event: step-end, pattern: 'epoch (?P<epoch>\\d+) step (?P<step>\\d+) loss (?P<loss>[0-9.]+)'}\n\
         method:\n  - process-pause: {target: {workload: true}, at: {time: 300ms}, for: 300ms}\nexpect:\n  - completes: {}\ntime-limit: 60s\n",
    );
    let conclusion = play(&scratch.0.join("state"), &file);
    assert_eq!(conclusion.exit, Exit::Held, "{}", told(&conclusion));
    let events = events(&conclusion);
    let of = |wanted: bool| {
        events
            .iter()
            .filter(|e| matches!(e.body, Body::Training { reference, .. } if reference == wanted))
            .count()
    };
    assert_eq!((of(true), of(false)), (16, 16));
    assert!(
        events
            .iter()
            .any(|e| matches!(&e.body, Body::Landed { place, .. } if place.epoch.is_some()))
    );
    assert!(events.iter().any(|e| matches!(
        e.body,
        Body::StageEntered {
            stage: Stage::Reference
        }
    )));
}

fn a_controller_killed_in_mid_run_is_closed_by_the_next() {
    let scratch = Scratch::new("cut");
    let target = Process::sleeping();
    let pid = target.0.id();
    let state = scratch.0.join("state");
    let text = |length: &str| {
        format!(
            "version: 1\ntitle: a pause\nbaseline: 100ms\nmethod:\n  - process-pause: {{target: {{pid: {pid}}}, for: {length}}}\n"
        )
    };
    let file = scratch.write("long.yaml", &text("600s"));
    let own = std::env::current_exe().expect("own path");
    let mut controller = Command::new(own)
        .args(["play".as_ref(), state.as_os_str(), file.as_os_str()])
        .spawn()
        .expect("started");
    until("pause", || (state_of(pid) == Some('T')).then_some(()));
    let killed = boot_ns();
    controller.kill().expect("killed");
    controller.wait().expect("reaped");
    until("undo by guard or agent", || {
        (state_of(pid) == Some('S')).then_some(())
    });
    // The lease is 3 s: the loss itself was noticed, or its end.
    assert!(boot_ns() - killed < 8_000_000_000);
    let first = runs(&state).expect("listed").remove(0);
    until("free journal", || {
        (!squall_faults::journal::is_held(&first.dir).unwrap_or(true)).then_some(())
    });
    assert!(first.is_cut_off());

    let conclusion = play(&state, &scratch.write("short.yaml", &text("200ms")));
    assert_eq!(conclusion.exit, Exit::Held, "{}", told(&conclusion));
    let closed = StoredRun::events(&first.dir).expect("readable");
    assert!(
        matches!(
            closed.last().map(|e| &e.body),
            Some(Body::RunEnded {
                exit: Exit::Interrupted,
                ..
            })
        ),
        "{closed:#?}"
    );
    assert!(
        closed.iter().any(|e| matches!(e.body, Body::Undone { .. })),
        "the log tells who undid it"
    );
}
