//! Interfaces that packets are led through: deleted by name and kind, and found where no run is left to tell of them.

use crate::network::Namespace;
use squall_faults::recover::sweep::{Fate, sweep};
use squall_faults::sys::namespace;
use squall_faults::sys::traffic_control::Route;
use squall_faults::undo::{Undo, presence, revert};
use squall_model::event::Presence;

/// A namespace with interfaces of these names; `None` where there can be none.
fn with(names: &[&str]) -> Option<Namespace> {
    let namespace = Namespace::new()?;
    let made = namespace::inside(Some(&namespace.path), || {
        let route = Route::open()?;
        names
            .iter()
            .try_for_each(|name| route.make_ifb(name).map(drop))
    });
    if let Err(error) = made {
        crate::skip(&format!(
            "no interface of the kind ifb can be made: {error}"
        ));
        return None;
    }
    Some(namespace)
}

fn undo(namespace: &Namespace, name: &str, kind: &str) -> Undo {
    Undo::DeleteLink {
        name: name.into(),
        kind: kind.into(),
        namespace: Some(namespace.path.clone()),
        namespace_inode: Some(namespace::inode(Some(&namespace.path)).unwrap()),
    }
}

#[test]
fn an_interface_is_deleted_by_name_and_kind_and_another_is_left() {
    let Some(namespace) = with(&["sqaaaaaaaa0", "sqother"]) else {
        return;
    };
    let undo = |kind| undo(&namespace, "sqaaaaaaaa0", kind);
    revert(&undo("veth")).unwrap();
    assert_eq!(presence(&undo("ifb")).presence, Presence::Present);
    revert(&undo("ifb")).unwrap();
    revert(&undo("ifb")).unwrap();
    assert_eq!(presence(&undo("ifb")).presence, Presence::Absent);
    let links = namespace::inside(Some(&namespace.path), || Route::open()?.links()).unwrap();
    assert!(links.iter().any(|link| link.name == "sqother"), "{links:?}");
}

#[test]
fn an_interface_that_no_run_explains_is_found_by_its_name_and_not_touched() {
    let Some(namespace) = with(&["sqbbbbbbbb1", "sqother"]) else {
        return;
    };
    let state = std::env::temp_dir().join(format!("squall-sweep-links-{}", std::process::id()));
    std::fs::create_dir_all(state.join("runs")).unwrap();
    let found = sweep(&state, false).unwrap();
    std::fs::remove_dir_all(state).unwrap();
    let ours: Vec<_> = found
        .iter()
        .filter(|one| one.what.contains("sqbbbbbbbb1"))
        .collect();
    assert_eq!(ours.len(), 1, "{found:?}");
    assert_eq!(ours[0].fate, Fate::Unattributed);
    assert!(
        !found.iter().any(|one| one.what.contains("sqother")),
        "{found:?}"
    );
    // Forced, this is what would be done.
    assert_eq!(presence(&ours[0].undo).presence, Presence::Present);
    revert(&undo(&namespace, "sqbbbbbbbb1", "ifb")).unwrap();
    assert_eq!(presence(&ours[0].undo).presence, Presence::Absent);
}
