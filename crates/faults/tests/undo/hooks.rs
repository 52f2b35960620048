//! Programs at TCX hooks: taken away by name, though their owner lives, and found where no run is left to tell of them.

use crate::network::Namespace;
use squall_faults::recover::sweep::{Fate, sweep};
use squall_faults::sys::bpf::{Link, Program, hooked};
use squall_faults::sys::namespace;
use squall_faults::sys::traffic_control::{SIDES, Side};
use squall_faults::undo::{Undo, presence, revert};
use squall_model::event::Presence;

/// `r0 = -1; exit`: everything goes on.
fn instructions() -> [u64; 2] {
    let set = [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    [set, [0x95, 0, 0, 0, 0, 0, 0, 0]].map(u64::from_ne_bytes)
}

/// Puts a program of this name at both hooks of the namespace's loopback. They stay while the links do.
fn planted(namespace: &Namespace, name: &str) -> Vec<Link> {
    let plant = |side| Program::load(name, side, &instructions())?.attach(1, side);
    namespace::inside(Some(&namespace.path), || {
        SIDES.into_iter().map(plant).collect()
    })
    .unwrap()
}

fn names(namespace: &Namespace, side: Side) -> Vec<String> {
    let found = namespace::inside(Some(&namespace.path), || hooked(1, side)).unwrap();
    found.into_iter().map(|one| one.name).collect()
}

fn undo(namespace: &Namespace, name: &str) -> Undo {
    Undo::DetachPrograms {
        name: name.into(),
        namespace: Some(namespace.path.clone()),
        namespace_inode: Some(namespace::inode(Some(&namespace.path)).unwrap()),
    }
}

/// A namespace; `None` where the kernel has no hook.
fn with_hooks() -> Option<Namespace> {
    let namespace = Namespace::new()?;
    if !squall_faults::kind::tcx() {
        crate::skip("the kernel has no TCX hook");
        return None;
    }
    Some(namespace)
}

#[test]
fn a_program_is_detached_by_name_though_its_owner_lives_and_anothers_stays() {
    let Some(namespace) = with_hooks() else {
        return;
    };
    let undo = undo(&namespace, "squall_aaaaaaaa");
    revert(&undo).unwrap();
    assert_eq!(presence(&undo).presence, Presence::Absent);
    let _theirs = planted(&namespace, "theirs");
    let ours = planted(&namespace, "squall_aaaaaaaa");
    let seen = presence(&undo);
    assert_eq!(seen.presence, Presence::Present);
    assert_eq!(
        seen.evidence,
        "eBPF program squall_aaaaaaaa at the TCX hooks of lo (in), lo (out)"
    );
    for side in SIDES {
        assert_eq!(names(&namespace, side), ["squall_aaaaaaaa", "theirs"]);
    }
    revert(&undo).unwrap();
    revert(&undo).unwrap();
    assert_eq!(presence(&undo).presence, Presence::Absent);
    for side in SIDES {
        assert_eq!(names(&namespace, side), ["theirs"]);
    }
    drop(ours);
    // A namespace that is gone took its hooks along.
    drop(namespace);
    revert(&undo).unwrap();
    assert_eq!(presence(&undo).evidence, "the network namespace is gone");
}

#[test]
fn a_program_goes_with_whoever_holds_its_link() {
    let Some(namespace) = with_hooks() else {
        return;
    };
    let undo = undo(&namespace, "squall_aaaaaaab");
    let links = planted(&namespace, "squall_aaaaaaab");
    assert_eq!(presence(&undo).presence, Presence::Present);
    drop(links);
    assert_eq!(presence(&undo).presence, Presence::Absent);
}

#[test]
fn a_program_that_no_run_explains_is_found_by_its_name_and_not_touched() {
    let Some(namespace) = with_hooks() else {
        return;
    };
    let _ours = planted(&namespace, "squall_bbbbbbbb");
    let _theirs = planted(&namespace, "squall_other");
    let state = std::env::temp_dir().join(format!("squall-sweep-hooks-{}", std::process::id()));
    std::fs::create_dir_all(state.join("runs")).unwrap();
    let found = sweep(&state, false).unwrap();
    std::fs::remove_dir_all(state).unwrap();
    let ours: Vec<_> = found
        .iter()
        .filter(|one| one.what.contains("squall_bbbbbbbb"))
        .collect();
    assert_eq!(ours.len(), 1, "{found:?}");
    assert_eq!(ours[0].fate, Fate::Unattributed);
    assert!(
        !found.iter().any(|one| one.what.contains("squall_other")),
        "{found:?}"
    );
    // Forced, this is what would be done.
    assert_eq!(presence(&ours[0].undo).presence, Presence::Present);
    revert(&ours[0].undo).unwrap();
    assert_eq!(presence(&ours[0].undo).presence, Presence::Absent);
    assert_eq!(names(&namespace, Side::Ingress), ["squall_other"]);
}
