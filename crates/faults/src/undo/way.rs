//! Takes away interfaces and filters of traffic control that we made, in whatever network namespace.

use super::{UndoError, seen};
use crate::sys::namespace;
use crate::sys::traffic_control::Route;
use squall_model::event::{Observation, Presence};
use std::io;
use std::path::Path;

/// The namespace that a change was made in.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) path: Option<&'a Path>,
    pub(super) inode: Option<u64>,
}

impl At<'_> {
    /// `None`: nothing leads to the namespace any more; it has taken what was in it along.
    pub(super) fn inside<T: Send>(
        self,
        act: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<Option<T>> {
        match namespace::find_open(self.path, self.inode)? {
            Some(place) => place.inside(act).map(Some),
            None => Ok(None),
        }
    }

    fn routed<T: Send>(
        self,
        act: impl FnOnce(Route) -> io::Result<T> + Send,
    ) -> io::Result<Option<T>> {
        self.inside(|| act(Route::open()?))
    }

    pub(super) fn command(self, command: &str) -> String {
        match self.path {
            Some(path) => format!("nsenter --net={} {command}", path.display()),
            None => command.to_owned(),
        }
    }
}

/// Deletes an interface by name and kind.
pub(super) fn delete_link(name: &str, kind: &str, at: At<'_>) -> Result<(), UndoError> {
    let deleted = at.routed(|route| route.delete_link(name, kind));
    deleted.map(drop).map_err(|error| {
        let remedy = at.command(&format!("ip link delete {name}"));
        UndoError::new(format!("delete the interface {name}"), error, remedy)
    })
}

/// Deletes the filters with a cookie at an interface.
pub(super) fn delete_filters(
    device: &str,
    index: u32,
    cookie: &str,
    at: At<'_>,
) -> Result<(), UndoError> {
    let deleted = at.routed(|route| route.delete_filters(index, cookie));
    deleted.map(drop).map_err(|error| {
        let remedy = at.command(&format!("tc qdisc delete dev {device} clsact"));
        UndoError::new(
            format!("delete the filters {cookie} at {device}"),
            error,
            remedy,
        )
    })
}

/// Reads from the kernel whether the interface is there.
pub(super) fn link_presence(name: &str, kind: &str, at: At<'_>) -> Observation {
    let found = at.routed(|route| {
        let links = route.links()?;
        Ok(links
            .iter()
            .any(|link| link.name == name && link.kind == kind))
    });
    told(found, &format!("interface {name}"))
}

/// Reads from the kernel whether the filters are there.
pub(super) fn filters_presence(device: &str, index: u32, cookie: &str, at: At<'_>) -> Observation {
    let found = at.routed(|route| Ok(route.whose_filters(index, cookie)?.0));
    told(found, &format!("filters {cookie} at {device}"))
}

fn told(found: io::Result<Option<bool>>, what: &str) -> Observation {
    let source = "kernel state";
    match found {
        Err(error) => seen(Presence::Unknown, source, format!("{what}: {error}")),
        Ok(None) => seen(Presence::Absent, source, "the network namespace is gone"),
        Ok(Some(false)) => seen(Presence::Absent, source, format!("no {what}")),
        Ok(Some(true)) => seen(Presence::Present, source, what),
    }
}
