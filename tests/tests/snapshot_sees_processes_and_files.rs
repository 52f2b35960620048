//! The reader is proven able to see: processes, cgroups and files.
//!
//! As for the network: one leftover is planted, named, removed, and no longer named.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::Context as _;
use rustix::process::Signal;
use squall_tests::folder::Folder;
use squall_tests::poll::{poll, until};
use squall_tests::proof::{LIMIT, inside};
use squall_tests::sandbox::{command, skip};
use squall_tests::snapshot::{HostSnapshot, Kind, ProcessState};
use squall_tests::spawned::Spawned;

#[test]
fn a_stopped_process_is_seen_watched_or_not() {
    inside("a_stopped_process_is_seen_watched_or_not", |inside| {
        let child = Spawned::sleeper()?;
        let name = format!("pid {}", child.pid());
        for scope in [inside.scope(), inside.scope().pid(child.pid())] {
            let plant = || {
                child.signal(Signal::STOP)?;
                child.reaches(ProcessState::Stopped, LIMIT)
            };
            inside.sees(&scope, &[(Kind::ProcessState, &name)], plant, || {
                child.signal(Signal::CONT)
            })?;
        }
        Ok(())
    });
}

/// Holds its first argument as a tracer, or a BPF program on the loopback, until it is ended: two
/// things that no tool at hand does and that safe Rust cannot.
const HOLDER: &str = r#"
import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[1] == "trace":
    result = libc.ptrace(0x4206, int(sys.argv[2]), None, None)
else:
    number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    code = bytes.fromhex("b7000000ffffffff9500000000000000")  # return TC_ACT_UNSPEC
    code, terms = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    load = struct.pack("<IIQQ", 3, 2, ctypes.addressof(code), ctypes.addressof(terms)).ljust(128, b"\0")
    program = libc.syscall(number, 5, ctypes.create_string_buffer(load, 128), 128)
    link = struct.pack("<iIII", program, 1, 46, 0).ljust(64, b"\0")  # interface 1, BPF_TCX_INGRESS
    result = libc.syscall(number, 28, ctypes.create_string_buffer(link, 64), 64)
open(sys.argv[3], "w").write("held" if result >= 0 else "error %d" % ctypes.get_errno())
time.sleep(3600)
"#;

/// Starts the holder and waits until it says how it went.
fn hold(what: &str, pid: u32, folder: &Folder) -> anyhow::Result<(Spawned, String)> {
    let told = folder.path().join("told");
    let mut holder = Command::new("python3");
    holder
        .args(["-c", HOLDER, what, &pid.to_string()])
        .arg(&told);
    let holder = Spawned::start(&mut holder)?;
    let told = poll(LIMIT, || {
        Ok(fs::read_to_string(&told)
            .ok()
            .filter(|told| !told.is_empty()))
    })?;
    Ok((holder, told))
}

#[test]
fn a_traced_process_is_seen() {
    inside("a_traced_process_is_seen", |inside| {
        let (child, folder) = (Spawned::sleeper()?, Folder::new()?);
        let name = format!("pid {}", child.pid());
        let scope = inside.scope();
        let before = HostSnapshot::take(&scope)?;
        match hold("trace", child.pid(), &folder) {
            Err(error) => return skip(inside.test, &format!("no tracer: {error:#}")),
            Ok((_, told)) if told != "held" => {
                return skip(inside.test, &format!("no tracer: {told}"));
            }
            Ok((mut holder, _)) => {
                let left = before.diff(&HostSnapshot::take(&scope)?);
                let named: Vec<_> = left
                    .iter()
                    .map(|left| (left.kind, left.name.as_str()))
                    .collect();
                anyhow::ensure!(named == [(Kind::ProcessState, name.as_str())], "{left:?}");
                holder.end()?;
            }
        }
        until(LIMIT, || {
            Ok(before.diff(&HostSnapshot::take(&scope)?).is_empty())
        })
    });
}

#[test]
fn a_bpf_program_on_an_interface_is_seen() {
    inside("a_bpf_program_on_an_interface_is_seen", |inside| {
        let (scope, folder) = (inside.scope(), Folder::new()?);
        let before = HostSnapshot::take(&scope)?;
        match hold("bpf", 0, &folder) {
            Err(error) => return skip(inside.test, &format!("no BPF link: {error:#}")),
            Ok((_, told)) if told != "held" => {
                return skip(inside.test, &format!("no BPF link: {told}"));
            }
            Ok((mut holder, _)) => {
                let left = before.diff(&HostSnapshot::take(&scope)?);
                let is_named = left.len() == 1
                    && left[0].kind == Kind::Bpf
                    && left[0].to_string().contains("tcx");
                anyhow::ensure!(is_named, "{left:?}");
                holder.end()?;
            }
        }
        until(LIMIT, || {
            Ok(before.diff(&HostSnapshot::take(&scope)?).is_empty())
        })
    });
}

#[test]
fn a_watched_process_that_is_gone_is_seen() {
    inside("a_watched_process_that_is_gone_is_seen", |inside| {
        let mut child = Spawned::sleeper()?;
        let scope = inside.scope().pid(child.pid());
        let before = HostSnapshot::take(&scope)?;
        child.end()?;
        let left = before.diff(&HostSnapshot::take(&scope)?);
        let name = format!("pid {}", child.pid());
        anyhow::ensure!(
            left.iter()
                .any(|left| left.kind == Kind::ProcessState && left.name == name),
            "{left:?}"
        );
        Ok(())
    });
}

#[test]
fn a_process_with_our_mark_is_seen() {
    inside("a_process_with_our_mark_is_seen", |inside| {
        // The first process of the namespace is 1; the next pid is not known before.
        let mut child = None;
        let scope = inside.scope();
        let before = HostSnapshot::take(&scope)?;
        let started = Spawned::start(
            Command::new("sleep")
                .arg("3600")
                .env("SQUALL_RUN", "planted"),
        )?;
        let name = format!("pid {}", started.pid());
        child.replace(started);
        let left = before.diff(&HostSnapshot::take(&scope)?);
        let named: Vec<_> = left
            .iter()
            .map(|left| (left.kind, left.name.as_str()))
            .collect();
        anyhow::ensure!(named == [(Kind::StrayProcess, name.as_str())], "{left:?}");
        drop(child);
        anyhow::ensure!(before.diff(&HostSnapshot::take(&scope)?).is_empty());
        Ok(())
    });
}

#[test]
fn a_process_of_our_name_is_seen() {
    inside("a_process_of_our_name_is_seen", |inside| {
        let folder = Folder::new()?;
        let program = folder.path().join("squall");
        // A renamed copy keeps its executable's name even where it sets another command name.
        fs::copy("/bin/sleep", &program)?;
        let scope = inside.scope();
        let before = HostSnapshot::take(&scope)?;
        let child = Spawned::start(Command::new(&program).arg("3600"))?;
        let left = before.diff(&HostSnapshot::take(&scope)?);
        let named: Vec<_> = left
            .iter()
            .map(|left| (left.kind, left.name.clone()))
            .collect();
        anyhow::ensure!(
            named == [(Kind::StrayProcess, format!("pid {}", child.pid()))],
            "{left:?}"
        );
        drop(child);
        anyhow::ensure!(before.diff(&HostSnapshot::take(&scope)?).is_empty());
        Ok(())
    });
}

#[test]
fn a_stray_child_is_seen() {
    inside("a_stray_child_is_seen", |inside| {
        let scope = inside.scope().descendants(std::process::id());
        let before = HostSnapshot::take(&scope)?;
        let child = Spawned::sleeper()?;
        let left = before.diff(&HostSnapshot::take(&scope)?);
        let named: Vec<_> = left
            .iter()
            .map(|left| (left.kind, left.name.clone()))
            .collect();
        anyhow::ensure!(
            named == [(Kind::StrayProcess, format!("pid {}", child.pid()))],
            "{left:?}"
        );
        drop(child);
        anyhow::ensure!(before.diff(&HostSnapshot::take(&scope)?).is_empty());
        Ok(())
    });
}

#[test]
fn a_changed_affinity_and_oom_score_are_seen() {
    inside("a_changed_affinity_and_oom_score_are_seen", |inside| {
        let child = Spawned::sleeper()?;
        let pid = child.rustix_pid()?;
        let scope = inside.scope().pid(child.pid());
        let threads = format!("pid {} threads", child.pid());
        let before = rustix::thread::sched_getaffinity(Some(pid))?;
        let mut one = rustix::thread::CpuSet::new();
        one.set(
            (0..rustix::thread::CpuSet::MAX_CPU)
                .find(|cpu| before.is_set(*cpu))
                .context("no processor")?,
        );
        if before.count() > 1 {
            let set = |to| Ok(rustix::thread::sched_setaffinity(Some(pid), to)?);
            inside.sees(
                &scope,
                &[(Kind::ProcessSetting, &threads)],
                || set(&one),
                || set(&before),
            )?;
        }
        let path = format!("/proc/{}/oom_score_adj", child.pid());
        let score = format!("pid {} oom_score_adj", child.pid());
        let was = fs::read_to_string(&path)?;
        let write = |value: &str| Ok(fs::write(&path, value)?);
        inside.sees(
            &scope,
            &[(Kind::ProcessSetting, &score)],
            || write("900"),
            || write(&was),
        )
    });
}

#[test]
fn a_changed_niceness_is_seen() {
    inside("a_changed_niceness_is_seen", |inside| {
        let child = Spawned::sleeper()?;
        let pid = Some(child.rustix_pid()?);
        let scope = inside.scope().pid(child.pid());
        let threads = format!("pid {} threads", child.pid());
        let before = HostSnapshot::take(&scope)?;
        rustix::process::setpriority_process(pid, 7)?;
        let left = before.diff(&HostSnapshot::take(&scope)?);
        anyhow::ensure!(left.len() == 1 && left[0].name == threads, "{left:?}");
        anyhow::ensure!(
            left[0]
                .after
                .as_ref()
                .is_some_and(|after| after.contains("nice 7")),
            "{left:?}"
        );
        Ok(())
    });
}

#[test]
fn a_cgroup_and_a_frozen_cgroup_are_seen() {
    inside("a_cgroup_and_a_frozen_cgroup_are_seen", |inside| {
        // Cgroups are host-wide whatever the namespace: a folder laid out like a hierarchy stands in.
        let hierarchy = Folder::new()?;
        let group = hierarchy.path().join("theirs");
        fs::create_dir(&group)?;
        fs::write(group.join("freezer.state"), "THAWED\n")?;
        let scope = squall_tests::snapshot::Scope::host().cgroup_root(hierarchy.path());
        let left = hierarchy.path().join("squall-left");
        let expected = [(Kind::Cgroup, left.to_str().context("a name")?)];
        inside.sees(
            &scope,
            &expected,
            || Ok(fs::create_dir(&left)?),
            || Ok(fs::remove_dir(&left)?),
        )?;
        let freeze = |state| Ok(fs::write(group.join("freezer.state"), state)?);
        let expected = [(Kind::Cgroup, group.to_str().context("a name")?)];
        inside.sees(
            &scope,
            &expected,
            || freeze("FROZEN\n"),
            || freeze("THAWED\n"),
        )
    });
}

#[test]
fn a_files_content_mode_times_and_attributes_are_seen() {
    inside(
        "a_files_content_mode_times_and_attributes_are_seen",
        |inside| {
            let folder = Folder::new()?;
            let path = folder.path().join("checkpoint");
            fs::write(&path, "weights")?;
            let scope = inside.scope().file(folder.path());
            let expected = [(Kind::File, path.to_str().context("a name")?)];
            let modified = fs::metadata(&path)?.modified()?;
            let set_time = |time| {
                anyhow::Ok(
                    fs::File::options()
                        .write(true)
                        .open(&path)?
                        .set_modified(time)?,
                )
            };
            let write = |content: &str| {
                fs::write(&path, content)?;
                set_time(modified)
            };
            inside.sees(&scope, &expected, || write("weightz"), || write("weights"))?;
            let later = modified + std::time::Duration::from_nanos(1000);
            inside.sees(&scope, &expected, || set_time(later), || set_time(modified))?;
            let mode = |bits| {
                Ok(fs::set_permissions(
                    &path,
                    fs::Permissions::from_mode(bits),
                )?)
            };
            mode(0o644)?;
            inside.sees(&scope, &expected, || mode(0o600), || mode(0o644))?;
            let flags = rustix::fs::XattrFlags::empty();
            let plant = || Ok(rustix::fs::lsetxattr(&path, "user.planted", b"x", flags)?);
            let remove = || Ok(rustix::fs::lremovexattr(&path, "user.planted")?);
            inside.sees(&scope, &expected, plant, remove)
        },
    );
}

#[test]
fn a_new_file_and_a_deleted_one_are_seen() {
    inside("a_new_file_and_a_deleted_one_are_seen", |inside| {
        let folder = Folder::new()?;
        let (new, aside) = (folder.path().join("new"), Folder::new()?);
        let kept = folder.path().join("kept");
        fs::write(&kept, "kept")?;
        let scope = inside.scope().file(folder.path());
        let expected = [(Kind::File, new.to_str().context("a name")?)];
        inside.sees(
            &scope,
            &expected,
            || Ok(fs::write(&new, "")?),
            || Ok(fs::remove_file(&new)?),
        )?;
        let expected = [(Kind::File, kept.to_str().context("a name")?)];
        let (here, there) = (&kept, aside.path().join("kept"));
        inside.sees(
            &scope,
            &expected,
            || Ok(fs::rename(here, &there)?),
            || Ok(fs::rename(&there, here)?),
        )
    });
}

#[test]
fn a_swap_area_is_seen() {
    inside("a_swap_area_is_seen", |inside| {
        // Devices are host-wide: the kernel's list of them is covered by one of our own.
        let folder = Folder::new()?;
        let list = folder.path().join("swaps");
        fs::write(&list, "Filename Type Size Used Priority\n")?;
        command(
            "mount",
            &["--bind", list.to_str().context("a name")?, "/proc/swaps"],
        )?;
        let planted = "Filename Type Size Used Priority\n/planted file 8 0 -2\n";
        let plant = || Ok(fs::write(&list, planted)?);
        let remove = || Ok(fs::write(&list, "Filename Type Size Used Priority\n")?);
        inside.sees(
            &inside.scope(),
            &[(Kind::BlockDevice, "swap /planted")],
            plant,
            remove,
        )
    });
}
