//! The reader sees nothing where nothing happened, and is quick enough to time a clean-up.

use std::time::{Duration, Instant};

use anyhow::ensure;
use squall_tests::folder::Folder;
use squall_tests::nft_writer::Nft;
use squall_tests::proof::inside;
use squall_tests::snapshot::{HostSnapshot, Kind, Scope, poll_until_clean};
use squall_tests::spawned::Spawned;

const INTERVAL: Duration = Duration::from_millis(1);

#[test]
fn twenty_pairs_of_snapshots_are_equal() {
    inside("twenty_pairs_of_snapshots_are_equal", |inside| {
        let child = Spawned::sleeper()?;
        let scope = inside.scope().pid(child.pid()).file("/etc");
        for pair in 1..=20 {
            let before = HostSnapshot::take(&scope)?;
            let left = before.diff(&HostSnapshot::take(&scope)?);
            ensure!(left.is_empty(), "pair {pair}: {left:?}");
        }
        Ok(())
    });
}

#[test]
fn the_cgroups_of_this_host_are_read() {
    inside("the_cgroups_of_this_host_are_read", |inside| {
        let snapshot = HostSnapshot::take_only(&Scope::narrow(), &[Kind::Cgroup])?;
        let mounted = std::fs::read_to_string("/proc/self/mountinfo")?.contains(" - cgroup");
        if !mounted {
            return squall_tests::sandbox::skip(inside.test, "no cgroup hierarchy is mounted");
        }
        ensure!(snapshot.of(Kind::Cgroup).count() > 0);
        Ok(())
    });
}

/// The best of many: others on the machine can only make a reading slower, so one reading within
/// the bound proves that a reading costs no more.
fn best(scope: &Scope, kind: Kind) -> anyhow::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..30 {
        let start = Instant::now();
        HostSnapshot::take_only(scope, &[kind])?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

#[test]
fn one_kind_is_read_within_two_milliseconds() {
    inside("one_kind_is_read_within_two_milliseconds", |_| {
        let child = Spawned::sleeper()?;
        let folder = Folder::new()?;
        let file = folder.path().join("checkpoint");
        std::fs::write(&file, vec![7u8; 64 << 10])?;
        let scope = Scope::narrow().pid(child.pid()).file(&file);
        for kind in Kind::ALL {
            println!("best reading of {kind}: {:?}", best(&scope, kind)?);
        }
        for kind in [
            Kind::Nftables,
            Kind::ProcessState,
            Kind::ProcessSetting,
            Kind::File,
            Kind::Mount,
        ] {
            let best = best(&scope, kind)?;
            ensure!(best <= Duration::from_millis(2), "{kind} took {best:?}");
        }
        Ok(())
    });
}

#[test]
fn polling_ends_at_the_first_clean_reading() {
    inside("polling_ends_at_the_first_clean_reading", |_| {
        let (scope, kinds) = (Scope::narrow(), [Kind::Nftables]);
        let nft = Nft::open()?;
        let before = HostSnapshot::take_only(&scope, &kinds)?;
        nft.add_table("squall_w")?;
        let soon = Instant::now() + Duration::from_millis(30);
        let dirty = poll_until_clean(&before, &scope, &kinds, soon, INTERVAL);
        let told = dirty.expect_err("a table is left").to_string();
        ensure!(told.contains("table ip squall_w"), "{told}");

        let (ready, go) = std::sync::mpsc::channel();
        let remover = std::thread::spawn(move || {
            go.recv()?;
            nft.delete_table("squall_w")?;
            anyhow::Ok(Instant::now())
        });
        ready.send(())?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let clean = poll_until_clean(&before, &scope, &kinds, deadline, INTERVAL)?;
        let removed = remover.join().expect("the remover panicked")?;
        // Once removed, the next reading is clean: one interval and two readings away at most, with
        // room for being scheduled late.
        ensure!(clean.at < removed + Duration::from_millis(500), "{clean:?}");
        Ok(())
    });
}

#[test]
fn polling_refuses_what_was_not_read_before() {
    let scope = Scope::narrow();
    let before = HostSnapshot::take_only(&scope, &[Kind::Hostname]).expect("the hostname");
    let deadline = Instant::now() + Duration::from_secs(1);
    let refused = poll_until_clean(&before, &scope, &[Kind::Mount], deadline, INTERVAL);
    assert_eq!(
        refused.expect_err("not read").to_string(),
        "mount was not read before"
    );
}

#[test]
fn a_kind_that_may_not_be_read_is_told_and_not_passed_as_clean() {
    inside(
        "a_kind_that_may_not_be_read_is_told_and_not_passed_as_clean",
        |_| {
            let (scope, kinds) = (Scope::narrow(), [Kind::Nftables]);
            let before = HostSnapshot::take_only(&scope, &kinds)?;
            let mut rights = rustix::thread::capabilities(None)?;
            rights
                .effective
                .remove(rustix::thread::CapabilitySet::NET_ADMIN);
            rustix::thread::set_capabilities(None, rights)?;
            let after = HostSnapshot::take_only(&scope, &kinds)?;
            ensure!(after.blind().contains_key(&Kind::Nftables), "{after:?}");
            ensure!(before.diff(&after).len() == 1 && after.diff(&before).len() == 1);
            let refused = poll_until_clean(&after, &scope, &kinds, Instant::now(), INTERVAL);
            ensure!(refused.is_err(), "blind and called clean");
            Ok(())
        },
    );
}
