//! What a client of a name server is told under `network-dns`: by UDP and TCP, IPv4 and IPv6, and for names that are not meant.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use squall_faults::fault::Target;
use squall_tests::compliance::trial::{Injection, RUN, build};
use squall_tests::folder::Folder;
use squall_tests::poll::until;
use squall_tests::sandbox::{Sandbox, tmpfs};
use squall_tests::targets::names::{Told, by_datagram, by_stream};

const LIMIT: Duration = Duration::from_secs(20);
const GENUINE: [u8; 4] = [10, 0, 0, 9];

/// What a query for a name that is meant brings. `None`: no answer.
type Expected = fn(&Option<Told>) -> bool;

fn is(told: &Option<Told>, code: u8, addresses: &[[u8; 4]]) -> bool {
    told.as_ref()
        .is_some_and(|told| told.code == code && told.addresses == addresses)
}

const WAYS: [(&str, Expected); 6] = [
    (r#"{"fail": "nxdomain"}"#, |told| is(told, 3, &[])),
    (r#"{"fail": "servfail"}"#, |told| is(told, 2, &[])),
    (r#"{"fail": "refused"}"#, |told| is(told, 5, &[])),
    (r#"{"answers": ["192.0.2.1", "2001:db8::1"]}"#, |told| {
        is(told, 0, &[[192, 0, 2, 1]])
    }),
    (r#"{"slow": "60ms"}"#, |told| {
        is(told, 0, &[GENUINE])
            && told
                .as_ref()
                .is_some_and(|told| told.took >= Duration::from_millis(60))
    }),
    (r#"{"drop": true}"#, Option::is_none),
];

#[test]
fn queries_of_a_name_fail_are_answered_wrongly_wait_or_vanish_and_others_do_not() {
    let test = "queries_of_a_name_fail_are_answered_wrongly_wait_or_vanish_and_others_do_not";
    let sandbox = Sandbox::new()
        .with_own_pids()
        .limit(Duration::from_secs(180));
    sandbox.run(test, || {
        tmpfs("/run", "16m")?;
        let folder = Folder::new()?;
        for place in ["127.0.0.1:53", "[::1]:53"] {
            let servers = (UdpSocket::bind(place)?, TcpListener::bind(place)?);
            for (way, expected) in WAYS {
                one_way(&folder, place, &servers, way, expected)
                    .with_context(|| format!("{way} at {place}"))?;
            }
        }
        Ok(())
    });
}

fn one_way(
    folder: &Folder,
    place: &str,
    (datagrams, streams): &(UdpSocket, TcpListener),
    way: &str,
    expected: Expected,
) -> anyhow::Result<()> {
    let mut config: Value = serde_json::from_str(way)?;
    config["names"] = json!(["Example.org"]);
    config["peers"] = json!([place
        .rsplit_once(':')
        .context("a port")?
        .0
        .trim_matches(['[', ']'])]);
    let state = folder
        .path()
        .join(format!("{way}{place}").replace(['"', ' ', '/'], "-"));
    std::fs::create_dir_all(state.join("runs").join(RUN))?;
    let injection = Injection::begin(&state, &build("network-dns", config)?, Target::Host)?;
    injection.inject()?;
    let told = injection.observed();
    ensure!(
        told.iter()
            .any(|one| one.evidence.contains("packets received")),
        "{told:?}"
    );
    streams.set_nonblocking(true)?;
    while streams.accept().is_ok() {}
    streams.set_nonblocking(false)?;
    for name in ["example.org", "a.EXAMPLE.org"] {
        let told = by_datagram(datagrams, name)?;
        ensure!(expected(&told), "{name} by UDP: {told:?}");
        let told = by_stream(streams, name)?;
        ensure!(expected(&told), "{name} by TCP: {told:?}");
    }
    for name in ["anexample.org", "example.com"] {
        let told = by_datagram(datagrams, name)?;
        ensure!(is(&told, 0, &[GENUINE]), "{name} by UDP: {told:?}");
        let told = by_stream(streams, name)?;
        ensure!(is(&told, 0, &[GENUINE]), "{name} by TCP: {told:?}");
    }
    injection.undo().context("the journal knows it")?;
    until(LIMIT, || {
        Ok(is(&by_datagram(datagrams, "example.org")?, 0, &[GENUINE]))
    })?;
    let told = by_stream(streams, "example.org")?;
    ensure!(is(&told, 0, &[GENUINE]), "after the undo: {told:?}");
    Ok(())
}
