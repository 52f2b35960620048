//! nf_tables in the kernel's own words: tables, chains and rules, made and removed in one transaction, read back with their counters.

use super::module::{self, Module};
use super::netlink::{Attributes, CREATE_APPEND, CREATE_NEW, Message, Netfilter, attributes, text};
use std::io;
use std::net::IpAddr;

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const GET_GENERATION: u16 = 16;
/// IPv4 and IPv6 together.
pub const INET: u8 = 1;
const DROP: u32 = 0;
/// The verdict -3 in two's complement.
const JUMP: u32 = u32::MAX - 2;
/// The verdict -5.
const RETURN: u32 = u32::MAX - 4;
/// Before connection tracking and every other filter: -400 in two's complement.
const PRIORITY: u32 = u32::MAX - 399;

/// Where a base chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Input,
    Output,
}

/// A condition or an effect of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The packet comes from this network: address and length of the prefix.
    From(IpAddr, u8),
    /// The packet goes to this network.
    To(IpAddr, u8),
    /// Its transport protocol, by number.
    Protocol(u8),
    SourcePort(u16),
    DestinationPort(u16),
    Count,
    Drop,
    Jump(String),
    /// Its mark.
    Mark(u32),
    /// Goes on to the next filter.
    Return,
    /// Waits for the verdict of whoever reads this queue; goes on when nobody does.
    Queue(u16, QueueRule),
}

/// What leads packets to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueRule {
    /// The `queue` expression of nf_tables.
    Expression,
    /// The xtables target NFQUEUE, by the kernel's own compatibility layer.
    Target,
}

impl std::fmt::Display for QueueRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            QueueRule::Expression => "nftables queue expression",
            QueueRule::Target => "xtables target NFQUEUE in an nftables table of its own",
        })
    }
}

/// Go on when nobody reads the queue.
const BYPASS: u16 = 1;

fn queue(number: u16, rule: QueueRule) -> Attributes {
    match rule {
        QueueRule::Expression => expression(
            "queue",
            Attributes::new()
                .short(1, number)
                .short(2, 1)
                .short(3, BYPASS),
        ),
        QueueRule::Target => {
            // struct xt_NFQ_info_v3, padded to eight bytes, in the host's order.
            let mut info = Vec::with_capacity(8);
            for word in [number, 1, BYPASS, 0] {
                info.extend_from_slice(&word.to_ne_bytes());
            }
            expression(
                "target",
                Attributes::new()
                    .text(1, "NFQUEUE")
                    .number(2, 3)
                    .bytes(3, &info),
            )
        }
    }
}

fn expression(name: &str, data: Attributes) -> Attributes {
    Attributes::new().text(1, name).nested(2, data)
}

fn meta(key: u32) -> Attributes {
    expression("meta", Attributes::new().number(2, key).number(1, 1))
}

fn equals(value: &[u8]) -> Attributes {
    let data = Attributes::new().bytes(1, value);
    expression(
        "cmp",
        Attributes::new().number(1, 1).number(2, 0).nested(3, data),
    )
}

fn payload(base: u32, offset: u32, length: u32) -> Attributes {
    let data = Attributes::new()
        .number(1, 1)
        .number(2, base)
        .number(3, offset)
        .number(4, length);
    expression("payload", data)
}

fn masked(mask: &[u8]) -> Attributes {
    let data = Attributes::new()
        .number(1, 1)
        .number(2, 1)
        .number(3, mask.len() as u32)
        .nested(4, Attributes::new().bytes(1, mask))
        .nested(5, Attributes::new().bytes(1, &vec![0; mask.len()]));
    expression("bitwise", data)
}

fn verdict(code: u32, chain: Option<&str>) -> Attributes {
    let mut inner = Attributes::new().number(1, code);
    if let Some(chain) = chain {
        inner = inner.text(2, chain);
    }
    let data = Attributes::new().nested(2, inner);
    expression("immediate", Attributes::new().number(1, 0).nested(2, data))
}

/// The first `prefix` bits set.
fn mask(prefix: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| {
            let bits = usize::from(prefix).saturating_sub(at * 8).min(8);
            (0xff00u16 >> bits) as u8
        })
        .collect()
}

fn address(network: IpAddr, prefix: u8, source: bool) -> Vec<Attributes> {
    let (family, offset, bytes) = match network {
        IpAddr::V4(address) => (2u8, if source { 12 } else { 16 }, address.octets().to_vec()),
        IpAddr::V6(address) => (10u8, if source { 8 } else { 24 }, address.octets().to_vec()),
    };
    let mut parts = vec![meta(15), equals(&[family])];
    if prefix == 0 {
        return parts;
    }
    let mask = mask(prefix, bytes.len());
    let network: Vec<u8> = bytes
        .iter()
        .zip(&mask)
        .map(|(byte, mask)| byte & mask)
        .collect();
    parts.push(payload(1, offset, bytes.len() as u32));
    if usize::from(prefix) < bytes.len() * 8 {
        parts.push(masked(&mask));
    }
    parts.push(equals(&network));
    parts
}

impl Part {
    fn expressions(&self) -> Vec<Attributes> {
        match self {
            Part::From(network, prefix) => address(*network, *prefix, true),
            Part::To(network, prefix) => address(*network, *prefix, false),
            Part::Protocol(number) => vec![meta(16), equals(&[*number])],
            Part::SourcePort(port) => vec![payload(2, 0, 2), equals(&port.to_be_bytes())],
            Part::DestinationPort(port) => vec![payload(2, 2, 2), equals(&port.to_be_bytes())],
            Part::Count => vec![expression("counter", Attributes::new())],
            Part::Drop => vec![verdict(DROP, None)],
            Part::Jump(chain) => vec![verdict(JUMP, Some(chain))],
            Part::Mark(mark) => vec![meta(3), equals(&mark.to_ne_bytes())],
            Part::Return => vec![verdict(RETURN, None)],
            Part::Queue(number, rule) => vec![queue(*number, *rule)],
        }
    }
}

fn message(kind: u16, flags: u16, attributes: Attributes) -> Message {
    Message {
        kind,
        flags,
        family: INET,
        attributes,
    }
}

/// Makes a new table. Fails when there is one of this name.
pub fn new_table(table: &str) -> Message {
    message(NEW_TABLE, CREATE_NEW, Attributes::new().text(1, table))
}

/// Makes a chain: with a hook it sees packets, without it is jumped to.
pub fn new_chain(table: &str, chain: &str, hook: Option<Hook>) -> Message {
    let mut made = Attributes::new().text(1, table).text(3, chain);
    if let Some(hook) = hook {
        let number = match hook {
            Hook::Input => 1,
            Hook::Output => 3,
        };
        let place = Attributes::new().number(1, number).number(2, PRIORITY);
        made = made.nested(4, place).number(5, 1).text(7, "filter");
    }
    message(NEW_CHAIN, CREATE_NEW, made)
}

/// Adds a rule at the end of a chain.
pub fn new_rule(table: &str, chain: &str, parts: &[Part]) -> Message {
    let expressions = parts
        .iter()
        .flat_map(Part::expressions)
        .fold(Attributes::new(), |list, one| list.nested(1, one));
    let rule = Attributes::new()
        .text(1, table)
        .text(2, chain)
        .nested(4, expressions);
    message(NEW_RULE, CREATE_APPEND, rule)
}

/// Does all of it, or nothing.
pub fn transact(messages: &[Message]) -> io::Result<()> {
    Netfilter::open()?.transact(messages)
}

const QUEUE_RULES: [QueueRule; 2] = [QueueRule::Expression, QueueRule::Target];

/// What this kernel has to lead packets to a queue; nothing is made, but modules may be loaded. `None`: neither, or it may not be asked.
pub fn queue_rule() -> Option<QueueRule> {
    QUEUE_RULES.into_iter().find(|rule| knows_queue_rule(*rule))
}

fn knows_queue_rule(rule: QueueRule) -> bool {
    let table = format!("squall_probe_{}", std::process::id());
    let messages = [
        new_table(&table),
        new_chain(&table, "in", Some(Hook::Input)),
        new_rule(&table, "in", &[Part::Queue(1, rule)]),
    ];
    Netfilter::open().is_ok_and(|socket| socket.rehearse(&messages).is_ok())
}

/// As [`queue_rule`], for a read-only command: where the question alone would load a module, the module's file is the answer.
pub fn queue_rule_unloaded() -> Option<QueueRule> {
    find_queue_rule(module::find, may_change(), |rule| {
        knows_queue_rule(rule) && super::queue::Queue::is_known()
    })
}

fn find_queue_rule(
    find: impl Fn(&str, &str) -> Module,
    may_load: bool,
    asked: impl Fn(QueueRule) -> bool,
) -> Option<QueueRule> {
    let found = |rule: &QueueRule| {
        let mut needed = vec![
            ("nf_tables", "nf_tables_newtable"),
            ("nfnetlink_queue", "nfqnl_recv_config"),
        ];
        match rule {
            QueueRule::Expression => needed.push(("nft_queue", "nft_queue_eval")),
            QueueRule::Target => {
                needed.push(("nft_compat", "nft_target_select_ops"));
                needed.push(("xt_NFQUEUE", "nfqueue_tg_check"));
            }
        }
        let states: Vec<Module> = needed.iter().map(|(name, one)| find(name, one)).collect();
        if states.contains(&Module::Absent) {
            return false;
        }
        if states.contains(&Module::Loadable) {
            return may_load;
        }
        asked(*rule)
    };
    QUEUE_RULES.into_iter().find(found)
}

/// Whether nf_tables can hold any table now.
pub fn is_loaded() -> bool {
    module() == Module::Askable
}

fn module() -> Module {
    module::find("nf_tables", "nf_tables_newtable")
}

/// Whether the kernel answers nf_tables requests of this process, or would once the module is loaded. A read-only command may ask:
/// where the question alone would load the module, it is not put.
pub fn answers() -> bool {
    match module() {
        Module::Askable => asked(),
        Module::Loadable => may_change(),
        Module::Absent => false,
    }
}

/// Whether this process may change the network of its namespace.
pub fn may_change() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::NET_ADMIN)
    })
}

fn asked() -> bool {
    Netfilter::open()
        .and_then(|socket| {
            socket.ask(&Message {
                kind: GET_GENERATION,
                flags: 0,
                family: 0,
                attributes: Attributes::new(),
            })
        })
        .is_ok()
}

/// Deletes a table with all that is in it. False when there was none.
pub fn delete_table(family: u8, table: &str) -> io::Result<bool> {
    let request = Message {
        kind: DELETE_TABLE,
        flags: 0,
        family,
        attributes: Attributes::new().text(1, table),
    };
    match Netfilter::open()?.transact(&[request]) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// All tables: family and name.
pub fn tables() -> io::Result<Vec<(u8, String)>> {
    let request = Message {
        kind: GET_TABLE,
        flags: 0,
        family: 0,
        attributes: Attributes::new(),
    };
    let found = Netfilter::open()?.dump(&request)?;
    let name = |bytes: &[u8]| {
        attributes(bytes)
            .find(|(kind, _)| *kind == 1)
            .map(|(_, value)| text(value))
    };
    Ok(found
        .into_iter()
        .filter_map(|(family, bytes)| Some((family, name(&bytes)?)))
        .collect())
}

/// What the counters of a table's rules say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    pub rules: usize,
    pub packets: u64,
    pub bytes: u64,
}

/// Reads the counters of a table's rules.
pub fn counted(family: u8, table: &str) -> io::Result<Counted> {
    let request = Message {
        kind: GET_RULE,
        flags: 0,
        family,
        attributes: Attributes::new().text(1, table),
    };
    let mut sum = Counted::default();
    for (_, rule) in Netfilter::open()?.dump(&request)? {
        let of_table = attributes(&rule).any(|(kind, value)| kind == 1 && text(value) == table);
        if !of_table {
            continue;
        }
        sum.rules += 1;
        let lists = attributes(&rule).filter(|(kind, _)| *kind == 4);
        for (_, element) in lists.flat_map(|(_, list)| attributes(list)) {
            let is_counter =
                attributes(element).any(|(kind, name)| kind == 1 && text(name) == "counter");
            let data = attributes(element).filter(|(kind, _)| *kind == 2);
            for (kind, value) in data
                .flat_map(|(_, data)| attributes(data))
                .filter(|_| is_counter)
            {
                let number = value.try_into().map_or(0, u64::from_be_bytes);
                match kind {
                    1 => sum.bytes += number,
                    2 => sum.packets += number,
                    _ => {}
                }
            }
        }
    }
    Ok(sum)
}

/// The number of a family as Squall writes its name.
pub fn family(name: &str) -> Option<u8> {
    match name {
        "inet" => Some(INET),
        "ip" => Some(2),
        "arp" => Some(3),
        "netdev" => Some(5),
        "bridge" => Some(7),
        "ip6" => Some(10),
        _ => None,
    }
}

/// The name of a family.
pub fn family_name(number: u8) -> &'static str {
    match number {
        INET => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_as_many_ones_as_the_prefix() {
        assert_eq!(mask(0, 4), [0, 0, 0, 0]);
        assert_eq!(mask(12, 4), [255, 240, 0, 0]);
        assert_eq!(mask(32, 4), [255; 4]);
        assert_eq!(
            mask(65, 16)[..9],
            [255, 255, 255, 255, 255, 255, 255, 255, 128]
        );
        for number in [1, 2, 3, 5, 7, 10] {
            assert_eq!(family(family_name(number)), Some(number));
        }
    }

    #[test]
    fn a_queue_is_asked_for_only_where_asking_loads_nothing() {
        use Module::{Absent, Askable, Loadable};
        use QueueRule::{Expression, Target};
        let find = |states: [(&'static str, Module); 2]| {
            move |name: &str, _: &str| {
                let state = states.iter().find(|(one, _)| *one == name);
                state.map_or(Askable, |(_, state)| *state)
            }
        };
        let none = ("", Askable);
        let asked_never = |_: QueueRule| panic!("asked");
        for module in ["nf_tables", "nfnetlink_queue", "nft_queue"] {
            let found = |may| find_queue_rule(find([(module, Loadable), none]), may, asked_never);
            assert_eq!(found(true), Some(Expression), "{module}");
        }
        for module in ["nf_tables", "nfnetlink_queue"] {
            let found = find_queue_rule(find([(module, Loadable), none]), false, asked_never);
            assert_eq!(found, None, "{module}");
            let found = find_queue_rule(find([(module, Absent), none]), true, asked_never);
            assert_eq!(found, None, "{module}");
        }
        for module in ["nft_compat", "xt_NFQUEUE"] {
            let states = [("nft_queue", Absent), (module, Loadable)];
            let found = find_queue_rule(find(states), true, asked_never);
            assert_eq!(found, Some(Target), "{module}");
        }
        let only_target = |rule| rule == Target;
        assert_eq!(
            find_queue_rule(find([none, none]), true, only_target),
            Some(Target)
        );
    }
}
