//! Interfaces named `sqID…` and the filters that lead to them, in every network namespace that something leads to.

use super::{Found, Runs};
use crate::sys::namespace;
use crate::sys::traffic_control::{Link, Route};
use crate::undo::Undo;
use squall_model::id::InjectionId;
use std::io;

/// The kind of the interfaces that packets are led through.
const KIND: &str = "ifb";

pub(super) fn sweep(runs: &Runs, force: bool, found: &mut Vec<Found>) -> io::Result<()> {
    for (inode, path) in namespace::all()? {
        // A namespace that ends while it is looked at has no interfaces any more.
        let held = namespace::inside(Some(&path), left).unwrap_or_default();
        let (namespace, namespace_inode) = (Some(path.clone()), Some(inode));
        for (id, link, leading) in held {
            let run = runs.injections.get(&id).cloned();
            // Filters that lead nowhere lose packets: they go first.
            for other in leading {
                let what = format!(
                    "the filters of {id} at {} in {}",
                    other.name,
                    path.display()
                );
                let undo = Undo::DeleteFilters {
                    device: other.name,
                    index: other.index,
                    cookie: format!("squall_{id}"),
                    namespace: namespace.clone(),
                    namespace_inode,
                };
                found.push(runs.settle(what, undo, run.clone(), force));
            }
            let what = format!("the interface {} in {}", link.name, path.display());
            let undo = Undo::DeleteLink {
                name: link.name,
                kind: link.kind,
                namespace: namespace.clone(),
                namespace_inode,
            };
            found.push(runs.settle(what, undo, run, force));
        }
    }
    Ok(())
}

type Left = Vec<(InjectionId, Link, Vec<Link>)>;

fn left() -> io::Result<Left> {
    let route = Route::open()?;
    let links = route.links()?;
    let mut found = Vec::new();
    for link in links.iter().filter(|link| link.kind == KIND) {
        let id = link
            .name
            .strip_suffix(|last: char| last.is_ascii_digit())
            .and_then(|name| super::injection_in(name, "sq"));
        let Some(id) = id else {
            continue;
        };
        let cookie = format!("squall_{id}");
        let mut leading = Vec::new();
        for other in &links {
            if route.whose_filters(other.index, &cookie)?.0 {
                leading.push(other.clone());
            }
        }
        found.push((id, link.clone(), leading));
    }
    Ok(found)
}
