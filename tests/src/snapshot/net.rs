//! The network of the current namespace, as `ip` and `tc` tell it.
//!
//! Left out: interface numbers, lifetimes and timers that run by themselves, the name of the qdisc
//! in a link (it has a kind of its own), and the local routes that the kernel makes from addresses.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::Facts;

/// Qdiscs that hold neither classes nor filters.
const PLAIN_QDISCS: [&str; 3] = ["noqueue", "pfifo_fast", "mq"];

/// Runs a reading command and gives its lines.
fn lines(program: &str, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", shown()))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            shown(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .map(str::to_owned)
        .filter(|line| !line.trim().is_empty())
        .collect())
}

/// The address families that this kernel has, as `ip` options.
fn families() -> &'static [&'static str] {
    if Path::new("/proc/net/if_inet6").exists() {
        &["-4", "-6"]
    } else {
        &["-4"]
    }
}

/// Drops each word of `keys` with the word after it, and words that end in `_timer` likewise.
fn without(line: &str, keys: &[&str]) -> String {
    let mut kept = Vec::new();
    let mut words = line.split_whitespace().filter(|word| *word != "\\");
    while let Some(word) = words.next() {
        if keys.contains(&word) || word.ends_with("_timer") {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// `2: eth0@if3: rest` as the name and the rest.
fn named(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(": ")?;
    let (name, rest) = rest.split_once([':', ' '])?;
    Some((name.split('@').next().unwrap_or(name), rest))
}

pub(super) fn links(facts: &mut Facts) -> anyhow::Result<()> {
    for line in lines("ip", &["-o", "-d", "link", "show"])? {
        let (name, rest) = named(&line).with_context(|| format!("a link in {line:?}"))?;
        facts.add(name, without(&rest.replace('\\', " "), &["qdisc"]));
    }
    Ok(())
}

pub(super) fn addresses(facts: &mut Facts) -> anyhow::Result<()> {
    for line in lines("ip", &["-o", "address", "show"])? {
        let (name, rest) = named(&line).with_context(|| format!("an address in {line:?}"))?;
        let rest = without(&rest.replace('\\', " "), &["valid_lft", "preferred_lft"]);
        let mut words = rest.split(' ').skip_while(|word| !word.starts_with("inet"));
        let address = words.nth(1).unwrap_or("?");
        facts.add(format!("{name} {address}"), rest.clone());
    }
    Ok(())
}

pub(super) fn routes(facts: &mut Facts) -> anyhow::Result<()> {
    for family in families() {
        for line in lines("ip", &[family, "-o", "route", "show", "table", "all"])? {
            let made_by_kernel = line.contains(" table local ") && line.contains(" proto kernel ");
            if made_by_kernel {
                continue;
            }
            let route = without(&line.replace('\\', " "), &["expires", "age"]);
            // A route has no name but itself; told apart from its attributes by its first words.
            facts.add(format!("{family} {}", destination(&route)), route);
        }
    }
    Ok(())
}

/// The type and destination of a route, with its table where it is not the main one.
fn destination(route: &str) -> String {
    let types = [
        "unicast",
        "local",
        "broadcast",
        "multicast",
        "anycast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
    ];
    let mut words = route.split(' ');
    let first = words.next().unwrap_or_default();
    let mut name = first.to_owned();
    if types.contains(&first) {
        name = format!("{first} {}", words.next().unwrap_or_default());
    }
    match words.skip_while(|word| *word != "table").nth(1) {
        Some(table) => format!("{name} table {table}"),
        None => name,
    }
}

pub(super) fn rules(facts: &mut Facts) -> anyhow::Result<()> {
    for family in families() {
        for line in lines("ip", &[family, "rule", "show"])? {
            let (priority, rule) = line
                .split_once(':')
                .with_context(|| format!("a rule in {line:?}"))?;
            facts.add(format!("{family} {priority}"), without(rule, &[]));
        }
    }
    Ok(())
}

pub(super) fn qdiscs(facts: &mut Facts) -> anyhow::Result<()> {
    let mut carriers = Vec::new();
    for line in lines("tc", &["qdisc", "show"])? {
        let line = without(&line, &["refcnt"]);
        let words: Vec<_> = line.split(' ').collect();
        let after = |key: &str| {
            words
                .iter()
                .position(|word| *word == key)
                .and_then(|at| words.get(at + 1))
        };
        let (kind, device) = (
            words.get(1).copied().unwrap_or("?"),
            after("dev").copied().unwrap_or("?"),
        );
        let place =
            after("parent").map_or_else(|| "root".to_owned(), |parent| format!("parent {parent}"));
        if !PLAIN_QDISCS.contains(&kind) && !carriers.contains(&device.to_owned()) {
            carriers.push(device.to_owned());
        }
        facts.add(format!("{device} {place}"), line.clone());
    }
    for device in carriers {
        classes_and_filters(&device, facts)?;
    }
    Ok(())
}

/// Classes and filters at the root are told with the root qdisc, which they go with; filters on the
/// way in or out have a fact of their own.
fn classes_and_filters(device: &str, facts: &mut Facts) -> anyhow::Result<()> {
    let mut at_root = lines("tc", &["class", "show", "dev", device])?;
    at_root.extend(filters(device, None));
    if !at_root.is_empty() {
        facts.extend(
            &format!("{device} root"),
            &without(&at_root.join(" | "), &[]),
        );
    }
    for hook in ["ingress", "egress"] {
        let filters = filters(device, Some(hook));
        if !filters.is_empty() {
            facts.add(
                format!("{device} filters {hook}"),
                without(&filters.join(" | "), &[]),
            );
        }
    }
    Ok(())
}

fn filters(device: &str, hook: Option<&str>) -> Vec<String> {
    let arguments: Vec<_> = ["filter", "show", "dev", device]
        .into_iter()
        .chain(hook)
        .collect();
    // A device without the hook answers with an error, which is no filter either.
    lines("tc", &arguments).unwrap_or_default()
}

/// The older iptables, looked at only where the kernel has any of its tables.
pub(super) fn iptables(facts: &mut Facts) -> anyhow::Result<()> {
    for (names, program) in [
        ("ip_tables_names", "iptables-legacy-save"),
        ("ip6_tables_names", "ip6tables-legacy-save"),
    ] {
        let tables =
            std::fs::read_to_string(Path::new("/proc/net").join(names)).unwrap_or_default();
        if tables.trim().is_empty() {
            continue;
        }
        let saved = lines(program, &[])?;
        for (place, line) in saved
            .iter()
            .filter(|line| !line.starts_with('#'))
            .enumerate()
        {
            let rule = line.split('[').next().unwrap_or(line);
            facts.add(format!("{program} {place}"), rule.trim());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_by_itself_is_dropped_with_its_value() {
        assert_eq!(
            without("a hello_timer 0.91 \\ b qdisc tbf c", &["qdisc"]),
            "a b c"
        );
        assert_eq!(
            named("3: eth0@if4: <UP> mtu 1"),
            Some(("eth0", " <UP> mtu 1"))
        );
    }

    #[test]
    fn a_route_is_named_by_where_it_leads_and_its_table() {
        assert_eq!(
            destination("blackhole 198.51.100.0/24"),
            "blackhole 198.51.100.0/24"
        );
        assert_eq!(
            destination("default via 192.0.2.1 dev eth0 table 7"),
            "default table 7"
        );
    }
}
