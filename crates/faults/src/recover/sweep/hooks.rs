//! Programs named `squall_ID` at TCX hooks, in every network namespace that something leads to. Their owner lives: they go with it.

use super::{Found, Runs};
use crate::packet::tcx::all_hooked;
use crate::sys::namespace;
use crate::undo::Undo;
use std::collections::BTreeSet;
use std::io;

pub(super) fn sweep(runs: &Runs, force: bool, found: &mut Vec<Found>) -> io::Result<()> {
    for (inode, path) in namespace::all()? {
        // A namespace that ends while it is looked at has no hooks any more; a kernel without hooks has none at all.
        let all = namespace::inside(Some(&path), all_hooked).unwrap_or_default();
        let names: BTreeSet<String> = all.into_iter().map(|(_, _, one)| one.name).collect();
        for name in names {
            let Some(id) = super::injection_in(&name, "squall_") else {
                continue;
            };
            let what = format!("the programs {name} at TCX hooks in {}", path.display());
            let undo = Undo::DetachPrograms {
                name,
                namespace: Some(path.clone()),
                namespace_inode: Some(inode),
            };
            found.push(runs.settle(what, undo, runs.injections.get(&id).cloned(), force));
        }
    }
    Ok(())
}
