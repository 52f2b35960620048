//! nftables as the kernel reports it: tables, chains, rules, sets and their elements.
//!
//! Read by nfnetlink dumps, so no `nft` binary is needed. Normalised: counters, handles, use counts
//! and expiry times are left out; a rule is named by its place in its chain, so order is compared.

use anyhow::Context as _;

use super::netlink::{Builder, Socket, attributes};
use super::{Facts, hex};

const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_SET: u16 = SUBSYSTEM | 10;
const GET_ELEMENTS: u16 = SUBSYSTEM | 13;
const GET_OBJECT: u16 = SUBSYSTEM | 19;
const GET_FLOWTABLE: u16 = SUBSYSTEM | 23;

/// Attributes of a rule that change by themselves or by what stands before it: handle, position.
const RULE_SKIPPED: [u16; 2] = [3, 6];
/// Of a set element: expiration and the counters hung on it.
const ELEMENT_SKIPPED: [u16; 3] = [5, 7, 12];

/// Reads every table of the current network namespace.
pub(super) fn read(facts: &mut Facts) -> anyhow::Result<()> {
    let mut socket = Socket::netfilter()?;
    for table in dump(&mut socket, GET_TABLE)? {
        let name = format!("table {}", table.path(&[1]));
        facts.add(name, table.render(&[1, 3, 4]));
    }
    for chain in dump(&mut socket, GET_CHAIN)? {
        let name = format!("chain {}", chain.path(&[1, 3]));
        facts.add(name, chain.render(&[1, 2, 3, 6, 8, 11]));
    }
    read_rules(&mut socket, facts)?;
    read_sets(&mut socket, facts)?;
    for object in dump(&mut socket, GET_OBJECT)? {
        let name = format!("object {}", object.path(&[1, 2]));
        // Its data is a running count or an account of one; that it stands is what matters.
        facts.add(name, object.render(&[1, 2, 4, 5, 6]));
    }
    for flowtable in dump(&mut socket, GET_FLOWTABLE)? {
        let name = format!("flowtable {}", flowtable.path(&[1, 2]));
        facts.add(name, flowtable.render(&[1, 2, 4, 5]));
    }
    Ok(())
}

fn read_rules(socket: &mut Socket, facts: &mut Facts) -> anyhow::Result<()> {
    let mut last_chain = String::new();
    let mut place = 0;
    for rule in dump(socket, GET_RULE)? {
        let chain = rule.path(&[1, 2]);
        place = if chain == last_chain { place + 1 } else { 1 };
        let mut parts = vec![
            rule.render(
                &[1, 2, 4]
                    .into_iter()
                    .chain(RULE_SKIPPED)
                    .collect::<Vec<_>>(),
            ),
        ];
        parts.extend(
            attributes(rule.value(4))
                .into_iter()
                .map(|(_, expression)| render_expression(expression)),
        );
        parts.retain(|part| !part.is_empty());
        facts.add(format!("rule {chain} {place}"), parts.join("; "));
        last_chain = chain;
    }
    Ok(())
}

fn read_sets(socket: &mut Socket, facts: &mut Facts) -> anyhow::Result<()> {
    for set in dump(socket, GET_SET)? {
        let name = format!("set {}", set.path(&[1, 2]));
        let request = Builder::new()
            .raw(&[set.family, 0, 0, 0])
            .attribute(1, set.value(1))
            .attribute(2, set.value(2));
        let mut elements = Vec::new();
        for answer in socket
            .dump(GET_ELEMENTS, &request)
            .with_context(|| format!("elements of {name}"))?
        {
            let answer = Object::parse(&answer);
            for (_, element) in attributes(answer.value(3)) {
                elements.push(render(element, &ELEMENT_SKIPPED));
            }
        }
        elements.sort();
        let value = format!(
            "{} elements {{{}}}",
            set.render(&[1, 2, 16, 17]),
            elements.join(", ")
        );
        facts.add(name, value);
    }
    Ok(())
}

/// One dumped object: its address family and its attributes.
struct Object {
    family: u8,
    payload: Vec<u8>,
}

impl Object {
    fn parse(payload: &[u8]) -> Self {
        Self {
            family: payload.first().copied().unwrap_or_default(),
            payload: payload.get(4..).unwrap_or_default().to_vec(),
        }
    }

    fn value(&self, kind: u16) -> &[u8] {
        let found = attributes(&self.payload)
            .into_iter()
            .find(|(found, _)| *found == kind);
        found.map(|(_, value)| value).unwrap_or_default()
    }

    fn path(&self, kinds: &[u16]) -> String {
        let mut path = vec![family_name(self.family)];
        path.extend(kinds.iter().map(|kind| text(self.value(*kind))));
        path.join(" ")
    }

    fn render(&self, skipped: &[u16]) -> String {
        render(&self.payload, skipped)
    }
}

fn dump(socket: &mut Socket, kind: u16) -> anyhow::Result<Vec<Object>> {
    // Family 0 asks for all of them.
    let request = Builder::new().raw(&[0, 0, 0, 0]);
    let answers = socket
        .dump(kind, &request)
        .with_context(|| format!("nftables dump {}", kind & 0xff))?;
    Ok(answers.iter().map(|answer| Object::parse(answer)).collect())
}

/// An expression as `name data`, without what counts by itself.
fn render_expression(expression: &[u8]) -> String {
    let parts = attributes(expression);
    let value = |kind| {
        parts
            .iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| *value)
            .unwrap_or_default()
    };
    let name = text(value(1));
    match name.as_str() {
        // Counts and ages: only that they stand there is compared.
        "counter" | "last" => name,
        // NFTA_QUOTA_CONSUMED
        "quota" => format!("{name} {}", render(value(2), &[4])),
        _ => format!("{name} {}", render(value(2), &[])),
    }
}

fn render(payload: &[u8], skipped: &[u16]) -> String {
    let shown = attributes(payload)
        .into_iter()
        .filter(|(kind, _)| !skipped.contains(kind));
    shown
        .map(|(kind, value)| format!("{kind}={}", readable(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Text where the bytes are a closed text, else hexadecimal.
fn readable(value: &[u8]) -> String {
    match value.split_last() {
        Some((0, body)) if body.len() > 1 && body.iter().all(u8::is_ascii_graphic) => text(value),
        _ => format!("0x{}", hex(value)),
    }
}

fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn family_name(family: u8) -> String {
    match family {
        1 => "inet".to_owned(),
        2 => "ip".to_owned(),
        3 => "arp".to_owned(),
        5 => "netdev".to_owned(),
        7 => "bridge".to_owned(),
        10 => "ip6".to_owned(),
        other => format!("family-{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_has_counted_reads_as_before() {
        let expression = |packets: u64| {
            let counts = Builder::new().attribute(2, &packets.to_be_bytes());
            Builder::new().text(1, "counter").nested(2, counts)
        };
        assert_eq!(
            render_expression(expression(1).bytes()),
            render_expression(expression(9).bytes())
        );
    }

    #[test]
    fn a_verdict_that_differs_reads_differently() {
        let expression = |verdict: u32| {
            let data = Builder::new().attribute(1, &verdict.to_be_bytes());
            Builder::new().text(1, "immediate").nested(2, data)
        };
        assert_ne!(
            render_expression(expression(0).bytes()),
            render_expression(expression(1).bytes())
        );
    }
}
