use super::{Known, Scope, own_namespace, resolve};
use crate::fault::Target;
use squall_model::timing::Selector;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

struct Tree(Child);

impl Drop for Tree {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().ok();
    }
}

fn start(mark: &str, script: &str) -> Tree {
    Tree(
        Command::new("sh")
            .args(["-c", script])
            .env("SQUALL_WORKLOAD", mark)
            .spawn()
            .unwrap(),
    )
}

fn scope(mark: &str, tree: &Tree) -> Scope {
    Scope {
        mark: Some(mark.into()),
        root: Known::of(tree.0.id()),
        seed: 7,
        ..Scope::default()
    }
}

fn pids(selector: &Selector, scope: &Scope) -> Vec<u32> {
    let targets = resolve(selector, scope).unwrap();
    targets
        .iter()
        .map(|target| {
            if let Target::Process { identity, .. } = target {
                identity.pid
            } else {
                0
            }
        })
        .collect()
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not happen in time");
        std::thread::yield_now();
    }
}

fn command(pid: u32) -> String {
    super::procs::command(pid)
}

#[test]
fn a_rank_is_its_topmost_process_not_a_worker_that_inherited_the_variable() {
    let mark = format!("rank-{}", std::process::id());
    // A supervisor, a rank below it, and two workers below the rank.
    let tree = start(
        &mark,
        "RANK=1 sh -c 'sleep 61 & sleep 62 & wait' & RANK=10 sleep 63 & wait",
    );
    let scope = scope(&mark, &tree);
    let everything = Selector {
        workload: Some(true),
        at_most: Some(9),
        ..Selector::default()
    };
    until(|| {
        resolve(&everything, &scope)
            .is_ok_and(|found| found.len() == 5)
            .then_some(())
    });
    let rank = Selector {
        rank: Some(1),
        ..Selector::default()
    };
    let found = until(|| {
        let found = pids(&rank, &scope);
        (found.len() == 1 && command(found[0]).starts_with("sh -c sleep 61")).then_some(found[0])
    });
    assert_ne!(found, tree.0.id());
    assert_eq!(
        pids(&everything, &scope)[0],
        tree.0.id(),
        "the first process comes first"
    );
    let none = resolve(
        &Selector {
            rank: Some(2),
            ..Selector::default()
        },
        &scope,
    )
    .unwrap_err();
    assert_eq!(
        none.0,
        "no process of the workload carries RANK=2; set it for a script that does not, or aim at `workload`"
    );
    for pid in pids(&everything, &scope).into_iter().skip(1) {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

#[test]
fn a_command_never_means_squall_itself_and_the_bound_holds_with_a_seeded_choice() {
    let marks: Vec<Tree> = (0..4).map(|_| start("x", "exec sleep 9471")).collect();
    let mut scope = Scope {
        seed: 3,
        ..Scope::default()
    };
    let mut selector = Selector {
        command: Some("^sleep 9471$".into()),
        at_most: Some(9),
        ..Selector::default()
    };
    until(|| {
        resolve(&selector, &scope)
            .is_ok_and(|found| found.len() == 4)
            .then_some(())
    });
    selector.at_most = None;
    let first = pids(&selector, &scope);
    assert_eq!(first.len(), 1, "one target unless the file says more");
    assert_eq!(
        first,
        pids(&selector, &scope),
        "the same seed and occasion choose the same"
    );
    let chosen: std::collections::BTreeSet<u32> = (0..32u8)
        .flat_map(|occasion| {
            scope.choice = vec![occasion];
            pids(&selector, &scope)
        })
        .collect();
    assert!(chosen.len() > 1, "other occasions choose anew");
    drop(marks);

    let own = std::fs::read_to_string("/proc/self/cmdline").unwrap();
    let own = regex::escape(own.split('\0').next().unwrap());
    let selector = Selector {
        command: Some(format!("^{own}")),
        ..Selector::default()
    };
    assert!(resolve(&selector, &scope).is_err());
    let selector = Selector {
        pid: Some(std::process::id()),
        ..Selector::default()
    };
    assert!(
        resolve(&selector, &scope)
            .unwrap_err()
            .0
            .ends_with("is Squall's own")
    );
    let init = Selector {
        pid: Some(1),
        ..Selector::default()
    };
    assert!(resolve(&init, &scope).is_err());
}

#[test]
fn a_file_is_the_newest_match_and_never_a_link() {
    let folder = std::env::temp_dir().join(format!("squall-files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let time = |seconds| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    for (name, seconds) in [("step-1.ckpt", 30), ("step-2.ckpt", 20), ("other", 90)] {
        std::fs::File::create(folder.join(name))
            .unwrap()
            .set_modified(time(seconds))
            .unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", folder.join("step-9.ckpt")).unwrap();
    let pattern = folder.join("step-*.ckpt").to_str().unwrap().to_owned();
    let selector = Selector {
        file: Some(pattern),
        ..Selector::default()
    };
    let found = resolve(&selector, &Scope::default()).unwrap();
    assert_eq!(
        found,
        [Target::File {
            path: folder.join("step-1.ckpt")
        }]
    );
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(resolve(&selector, &Scope::default()).is_err());
}
#[test]
fn a_network_that_the_workload_shares_with_the_host_is_none_of_its_own() {
    let tree = start("shared-network", "sleep 60");
    let none = own_namespace(&scope("shared-network", &tree)).unwrap_err();
    assert!(none.0.contains("no network namespace of its own"), "{none}");
}

#[test]
fn a_pid_means_the_process_that_had_it_when_the_run_was_planned() {
    let tree = start("planned", "exec sleep 9473");
    let pid = tree.0.id();
    let selector = Selector {
        pid: Some(pid),
        ..Selector::default()
    };
    let planned = super::procs::identity(pid).unwrap();
    let mut scope = Scope {
        planned: Some(planned.clone()),
        ..Scope::default()
    };
    assert_eq!(pids(&selector, &scope), [pid]);
    let start_time = planned.start_time - 1;
    let pid_ns = planned.pid_ns + 1;
    let mut others = [planned.clone(), planned];
    (others[0].start_time, others[1].pid_ns) = (start_time, pid_ns);
    for other in others {
        scope.planned = Some(other);
        let refused = resolve(&selector, &scope).unwrap_err().0;
        assert!(
            refused.starts_with(&format!("process {pid} is not the one that was planned")),
            "{refused}"
        );
    }
}

#[test]
fn what_a_policy_does_not_allow_is_not_hit_though_it_came_after_the_plan() {
    use squall_model::policy::{AllowedTarget, Policy, PolicyFile, Source};
    let policy = |allowed: Option<&str>, share: Option<f64>| PolicyFile {
        source: Source {
            file: "policy.yaml".into(),
            sha256: String::new(),
        },
        policy: Policy {
            version: 1,
            allowed_targets: allowed.map(|text| vec![AllowedTarget::Command(text.into())]),
            forbidden_faults: Vec::new(),
            maximum_duration: None,
            maximum_share: share.map(squall_model::units::Percent),
        },
    };
    let permit = |policies| super::Permit {
        rule: squall_model::id::RuleId(0),
        kind: "process-kill".into(),
        policies,
    };
    let selector = Selector {
        command: Some("^sleep 947[45]$".into()),
        ..Selector::default()
    };
    let mut scope = Scope {
        permit: Some(permit(vec![policy(Some("*9474*"), None)])),
        ..Scope::default()
    };
    let allowed = start("x", "exec sleep 9474");
    until(|| (command(allowed.0.id()) == "sleep 9474").then_some(()));
    assert_eq!(pids(&selector, &scope), [allowed.0.id()]);
    let notebook = start("x", "exec sleep 9475");
    until(|| (command(notebook.0.id()) == "sleep 9475").then_some(()));
    let refused = resolve(&selector, &scope).unwrap_err().0;
    assert_eq!(
        refused,
        "refused by the policy policy.yaml (allowed-targets): `process-kill` on processes that already run is not among the allowed \
         targets: `sleep 9475` is among them now"
    );
    // The share is that of what matches now.
    scope.permit = Some(permit(vec![policy(None, Some(50.0))]));
    assert_eq!(pids(&selector, &scope).len(), 1);
    drop(notebook);
    let refused = resolve(&selector, &scope).unwrap_err().0;
    assert!(
        refused.contains("would touch 1 of 1 targets, and at most 50% is allowed"),
        "{refused}"
    );
}
