//! Deletes an nftables table of ours, in whatever network namespace it was made.

use super::{UndoError, seen};
use crate::sys::{namespace, nftables};
use squall_model::event::{Observation, Presence};
use std::io;
use std::path::Path;

/// Deletes it. A namespace that nothing leads to any more has taken its tables with it.
pub(super) fn delete(
    family: &str,
    table: &str,
    path: Option<&Path>,
    inode: Option<u64>,
) -> Result<(), UndoError> {
    let deleted = (|| {
        let number = known(family)?;
        match namespace::find_open(path, inode)? {
            Some(place) => place
                .inside(|| nftables::delete_table(number, table))
                .map(|_| ()),
            None => Ok(()),
        }
    })();
    deleted.map_err(|error: io::Error| {
        let command = format!("nft delete table {family} {table}");
        let remedy = match path {
            Some(path) => format!("nsenter --net={} {command}", path.display()),
            None => command,
        };
        UndoError::new(
            format!("delete the nftables table {family} {table}"),
            error,
            remedy,
        )
    })
}

fn known(family: &str) -> io::Result<u8> {
    nftables::family(family)
        .ok_or_else(|| io::Error::other(format!("the family {family} is unknown")))
}

/// Reads from the kernel whether the table is there.
pub(super) fn presence(
    family: &str,
    table: &str,
    path: Option<&Path>,
    inode: Option<u64>,
) -> Observation {
    let source = "kernel state";
    let found = (|| {
        let number = known(family)?;
        let Some(place) = namespace::find_open(path, inode)? else {
            return Ok(None);
        };
        let tables = place.inside(nftables::tables)?;
        Ok(Some(
            tables
                .iter()
                .any(|(family, name)| *family == number && name == table),
        ))
    })();
    match found {
        Err(error) => {
            let error: io::Error = error;
            seen(
                Presence::Unknown,
                source,
                format!("nftables tables: {error}"),
            )
        }
        Ok(None) => seen(Presence::Absent, source, "the network namespace is gone"),
        Ok(Some(false)) => seen(
            Presence::Absent,
            source,
            format!("no nftables table {family} {table}"),
        ),
        Ok(Some(true)) => seen(
            Presence::Present,
            source,
            format!("nftables table {family} {table}"),
        ),
    }
}
