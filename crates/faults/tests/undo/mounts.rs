//! Damaged files whose file system is away when the undo comes: the backup is kept, and the undo succeeds once it is back.

use crate::files::{Case, damages, snapshot};
use squall_faults::journal::state::Phase;
use squall_faults::sys::private;
use squall_model::event::Presence;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `test` where its mounts are its own; says loudly that it is not tried without root.
fn with_own_mounts(test: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        crate::skip("mounts of its own need root");
        return;
    }
    private::inside_new(|| {
        test();
        Ok(())
    })
    .unwrap();
}

fn run(words: &[&str], paths: &[&Path]) {
    let status = Command::new(words[0])
        .args(&words[1..])
        .args(paths)
        .status()
        .unwrap();
    assert!(status.success(), "{words:?} {paths:?}");
}

fn bind(from: &Path, to: &Path) {
    run(&["mount", "--bind"], &[from, to]);
}

fn tmpfs(at: &Path) {
    run(&["mount", "-t", "tmpfs", "squall-test"], &[at]);
}

fn unmount(at: &Path) {
    // Between its fork and its exec, a child of another test holds what is open here.
    run(&["umount", "--lazy"], &[at]);
}

/// A folder beside the one that the file lies in.
fn beside(folder: &Path, name: &str) -> PathBuf {
    let path = folder.with_file_name(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The undo is stuck, with words, and everything that a later one needs is there.
fn is_stuck(case: &Case, what: &str) {
    let stuck = case
        .undo()
        .stuck
        .unwrap_or_else(|| panic!("{what}: not stuck"));
    let folder = case.path.parent().unwrap().display().to_string();
    assert!(stuck.because.contains(&folder), "{what}: {}", stuck.because);
    assert!(
        stuck.because.contains("mounted"),
        "{what}: {}",
        stuck.because
    );
    assert!(stuck.remedy.contains("mount"), "{what}: {}", stuck.remedy);
    assert!(
        stuck.remedy.contains("squall undo"),
        "{what}: {}",
        stuck.remedy
    );
    assert_eq!(case.fixture.phase(0), Phase::Stuck, "{what}");
    for file in ["data", "manifest.json"] {
        assert!(case.backups().join(file).exists(), "{what}: {file} is gone");
    }
}

/// The next undo puts everything back.
fn is_undone(case: &Case, what: &str) {
    let outcome = case.undo();
    assert_eq!((outcome.stuck, outcome.unrecorded), (None, None), "{what}");
    assert_eq!(outcome.observations[0].presence, Presence::Absent, "{what}");
    assert_eq!(snapshot(&case.path), case.before, "{what}");
    assert!(!case.backups().exists(), "{what}");
}

#[test]
fn a_file_system_that_is_not_mounted_is_not_superseded() {
    with_own_mounts(|| {
        for (name, damage) in damages() {
            // Another device than the folder below it, and the same one.
            for device in ["other", "same"] {
                let what = format!("unmounted-{name}-{device}");
                let case = Case::prepared(&what, |folder| {
                    let disk = beside(folder, "disk");
                    if device == "other" {
                        tmpfs(&disk);
                    }
                    bind(&disk, folder);
                });
                let folder = case.path.parent().unwrap();
                let disk = folder.with_file_name("disk");
                case.inject(damage.clone());
                unmount(folder);
                is_stuck(&case, &what);
                bind(&disk, folder);
                is_undone(&case, &what);
                unmount(folder);
                if device == "other" {
                    unmount(&disk);
                }
            }
        }
    });
}

#[test]
fn a_manifest_that_tells_no_mount_goes_by_the_device() {
    with_own_mounts(|| {
        for (name, damage) in damages() {
            let what = format!("older-{name}");
            let case = Case::prepared(&what, |folder| {
                let disk = beside(folder, "disk");
                tmpfs(&disk);
                bind(&disk, folder);
            });
            let folder = case.path.parent().unwrap();
            case.inject(damage);
            let path = case.backups().join("manifest.json");
            let mut manifest: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert!(manifest.as_object_mut().unwrap().remove("mount").is_some());
            std::fs::write(&path, manifest.to_string()).unwrap();
            unmount(folder);
            is_stuck(&case, &what);
            bind(&folder.with_file_name("disk"), folder);
            is_undone(&case, &what);
            unmount(folder);
            unmount(&folder.with_file_name("disk"));
        }
    });
}

/// A disk image of a file system that tells no times of birth, mounted through another loop device each time.
struct Image {
    path: PathBuf,
    devices: Vec<String>,
}

impl Image {
    fn new(folder: &Path) -> Image {
        let path = folder.with_file_name("image");
        std::fs::File::create(&path)
            .unwrap()
            .set_len(16 << 20)
            .unwrap();
        // Inodes that have no room for a time of birth.
        run(&["mke2fs", "-q", "-F", "-t", "ext2", "-I", "128"], &[&path]);
        Image {
            path,
            devices: Vec::new(),
        }
    }

    fn mount(&mut self, at: &Path) {
        // The earlier ones stay, so that this is another.
        let found = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&self.path)
            .output()
            .unwrap();
        assert!(found.status.success(), "{found:?}");
        let device = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        run(&["mount", &device], &[at]);
        self.devices.push(device);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for device in &self.devices {
            let status = Command::new("losetup").args(["-d", device]).status();
            assert!(status.is_ok_and(|status| status.success()) || std::thread::panicking());
        }
    }
}

#[test]
fn numbers_tell_nothing_where_no_birth_is_told_and_the_device_is_another() {
    let needed = ["/dev/loop-control", "/sbin/mke2fs"];
    if !needed.iter().all(|one| Path::new(one).exists()) {
        crate::skip("there is no loop device or no mke2fs here");
        return;
    }
    with_own_mounts(|| {
        for (name, damage) in damages() {
            for way in ["same", "renumbered", "replaced"] {
                let what = format!("birthless-{way}-{name}");
                let mut image = None;
                let case = Case::prepared(&what, |folder| {
                    let mut made = Image::new(folder);
                    made.mount(folder);
                    image = Some(made);
                });
                let mut image = image.unwrap();
                let folder = case.path.parent().unwrap();
                case.inject(damage.clone());
                let is_there = case.path.exists();
                // What a file system does that numbers its files when they are asked for.
                let copy = folder.join("copy");
                if is_there && way != "same" {
                    run(&["cp", "-a"], &[&case.path, &copy]);
                    std::fs::rename(&copy, &case.path).unwrap();
                }
                if is_there && way == "replaced" {
                    std::fs::write(&case.path, b"a newer checkpoint").unwrap();
                }
                unmount(folder);
                image.mount(folder);
                match way {
                    "same" => is_undone(&case, &what),
                    _ if !is_there => is_undone(&case, &what),
                    "renumbered" => {
                        let stuck = case.undo().stuck.unwrap();
                        let because = stuck.because;
                        assert!(because.contains("numbers its files anew"), "{because}");
                        assert!(case.backups().join("data").exists());
                    }
                    _ => {
                        let outcome = case.undo();
                        assert_eq!(outcome.stuck, None, "{what}");
                        let seen = outcome.observations[0].presence;
                        assert_eq!(seen, Presence::Superseded, "{what}");
                    }
                }
                unmount(folder);
            }
        }
    });
}

#[test]
fn a_file_system_whose_mount_point_is_gone_is_not_superseded() {
    with_own_mounts(|| {
        for (name, damage) in damages() {
            let what = format!("pointless-{name}");
            let case = Case::prepared(&what, |folder| bind(&beside(folder, "disk"), folder));
            let folder = case.path.parent().unwrap();
            case.inject(damage);
            unmount(folder);
            std::fs::remove_dir(folder).unwrap();
            is_stuck(&case, &what);
            std::fs::create_dir(folder).unwrap();
            bind(&folder.with_file_name("disk"), folder);
            is_undone(&case, &what);
            unmount(folder);
        }
    });
}

#[test]
fn a_file_system_that_another_one_is_mounted_over_is_not_superseded() {
    with_own_mounts(|| {
        for (name, damage) in damages() {
            let what = format!("covered-{name}");
            let case = Case::new(&what);
            case.inject(damage);
            let folder = case.path.parent().unwrap();
            tmpfs(folder);
            is_stuck(&case, &what);
            // Not even when a file lies at the path there.
            std::fs::write(&case.path, b"of another file system").unwrap();
            is_stuck(&case, &what);
            unmount(folder);
            is_undone(&case, &what);
        }
    });
}

#[test]
fn a_file_system_that_was_mounted_anew_under_another_number_is_known_again() {
    with_own_mounts(|| {
        for (name, damage) in damages() {
            let what = format!("renumbered-{name}");
            // Layers on a disk of their own: such a mount gets the next free number each time.
            let mount = |folder: &Path| {
                let disk = folder.with_file_name("disk");
                let layer = |name: &str| format!("{}/{name}", disk.display());
                let layers = format!(
                    "lowerdir={},upperdir={},workdir={}",
                    layer("lower"),
                    layer("upper"),
                    layer("temporary")
                );
                run(
                    &["mount", "-t", "overlay", "-o", &layers, "squall-test"],
                    &[folder],
                );
            };
            let case = Case::prepared(&what, |folder| {
                let disk = beside(folder, "disk");
                tmpfs(&disk);
                for layer in ["lower", "upper", "temporary"] {
                    std::fs::create_dir(disk.join(layer)).unwrap();
                }
                mount(folder);
            });
            let folder = case.path.parent().unwrap();
            let number = || std::fs::metadata(folder).unwrap().dev();
            let before = number();
            case.inject(damage);
            unmount(folder);
            // Other mounts take the free numbers until this one gets another: whoever mounts meanwhile takes and frees some too.
            let mut fillers = Vec::new();
            mount(folder);
            while number() == before {
                assert!(fillers.len() < 50, "{what}: it has the same number");
                unmount(folder);
                let filler = beside(folder, &format!("filler-{}", fillers.len()));
                tmpfs(&filler);
                fillers.push(filler);
                mount(folder);
            }
            is_undone(&case, &what);
            fillers.extend([folder.to_owned(), folder.with_file_name("disk")]);
            fillers.iter().for_each(|one| unmount(one));
        }
    });
}

#[test]
fn what_lay_in_memory_went_with_the_machine() {
    with_own_mounts(|| {
        for (name, damage) in damages() {
            let what = format!("memory-{name}");
            let case = Case::prepared(&what, tmpfs);
            let folder = case.path.parent().unwrap();
            case.inject(damage);
            unmount(folder);
            tmpfs(folder);
            is_stuck(&case, &what);
            let manifest = case.backups().join("manifest.json");
            let text = std::fs::read_to_string(&manifest).unwrap();
            let boot = squall_faults::sys::process::boot_id().unwrap();
            assert!(text.contains(&boot), "{text}");
            std::fs::write(&manifest, text.replace(&boot, "an earlier boot")).unwrap();
            let outcome = case.undo();
            assert_eq!(outcome.stuck, None, "{what}");
            assert_eq!(outcome.observations[0].presence, Presence::Superseded);
            assert!(!case.backups().exists(), "{what}");
            unmount(folder);
        }
    });
}
