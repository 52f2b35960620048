//! The program of one side of one interface: which packets it means, and what it does to them. Made of instructions of our own.
//!
//! It draws as [`super::super::decide::Decider`] does: from the seed, for the n-th packet that is meant. A packet that it cannot read goes on.

use super::assembler::{Assembler, FRAME, Helper, Is, Label, Op, Register, Width, With};
use super::scope::Scope;
use crate::packet::Treatment;
use crate::sys::raw::OWN_MARK;
use crate::sys::traffic_control::Side;
use std::net::{IpAddr, SocketAddr};

/// The counters, by their places.
pub(super) const RECEIVED: u32 = 0;
pub(super) const DROPPED: u32 = 1;
pub(super) const DOUBLED: u32 = 2;
pub(super) const ALTERED: u32 = 3;
pub(super) const FAILED: u32 = 4;
/// Whether a burst is on.
const IN_BURST: u32 = 5;

/// What it returns: the next program, or the stack; or nobody.
const NEXT: i32 = -1;
const DROP: i32 = 2;
/// Taken off the wire for somebody else.
const OTHER_HOST: i32 = 3;
/// Relative to the IP header.
const FROM_NETWORK: i32 = 1;
/// An interface's way in.
const INTO: i32 = 1;
/// The length of a checksum, and that a datagram without one stays so.
const TWO_BYTES: i32 = 2;
const ZERO_IS_NONE: i32 = 1 << 5;

/// Where the kernel shows things of a packet.
mod shown {
    pub(super) const PACKET_TYPE: i16 = 4;
    pub(super) const MARK: i16 = 8;
    pub(super) const PROTOCOL: i16 = 16;
    pub(super) const IS_TAGGED: i16 = 20;
    pub(super) const TAG: i16 = 24;
    pub(super) const INDEX: i16 = 40;
    pub(super) const BYTES: i16 = 76;
    pub(super) const BYTES_END: i16 = 80;
    pub(super) const SEGMENTS: i16 = 164;
    pub(super) const SEGMENT_SIZE: i16 = 176;
}

/// The packet; kept through all of it.
const PACKET: Register = 6;
/// The number of its transport protocol, and where its transport header begins, from the IP header on.
const PROTOCOL: Register = 7;
const TRANSPORT: Register = 8;
/// The state of the draws.
const STATE: Register = 9;

/// Places on the stack.
mod stack {
    pub(super) const HEADER: i16 = -40;
    pub(super) const PORTS: i16 = -48;
    pub(super) const SCRATCH: i16 = -56;
    pub(super) const END: i16 = -64;
    /// Not 0: a later part of a fragmented packet, without a transport header.
    pub(super) const IS_LATER: i16 = -72;
    pub(super) const NUMBER: i16 = -80;
    pub(super) const SEGMENT: i16 = -88;
    pub(super) const SEGMENTS: i16 = -96;
    pub(super) const SIZE: i16 = -104;
    pub(super) const PAYLOAD: i16 = -112;
    pub(super) const START: i16 = -120;
    pub(super) const ROOM: i16 = -128;
    pub(super) const STRIDE: i16 = -136;
    pub(super) const AT: i16 = -144;
    pub(super) const MASK: i16 = -152;
    pub(super) const OLD: i16 = -160;
    /// Where the checksum is, from the link's head on, and how the kernel is to change it.
    pub(super) const CHECKSUM: i16 = -168;
    pub(super) const HOW: i16 = -176;
    /// Where the transport header begins whose ports have been read; 0: none have.
    pub(super) const PORTS_OF: i16 = -184;
}

const TCP: i32 = 6;
const UDP: i32 = 17;
const ICMP6: i32 = 58;
/// Headers between IPv6 and transport that are walked at most.
const EXTENSIONS_MAX: u32 = 6;
/// The most networks and sessions with which headers are read without a call.
const SHORT: usize = 8;
/// Packets on the wire that a large one is looked at as, at most.
const SEGMENTS_MAX: i32 = 64;

/// The steps of the draws, as in [`super::super::decide::Draws`].
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const FIRST_FACTOR: u64 = 0xBF58_476D_1CE4_E5B9;
const SECOND_FACTOR: u64 = 0x94D0_49BB_1331_11EB;

/// What a program is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub scope: &'a Scope,
    pub side: Side,
    /// The length of the link's head, in bytes.
    pub head: u8,
    pub is_loopback: bool,
    pub treatment: &'a Treatment,
    pub seed: u64,
    /// The counters.
    pub map: i32,
}

struct Builder<'a> {
    code: Assembler,
    wanted: Wanted<'a>,
    /// The packet goes on.
    pass: Label,
}

/// Its instructions. `None`: this treatment is none of its, or the program would be too long.
pub(super) fn program(wanted: Wanted<'_>) -> Option<Vec<u64>> {
    let mut code = Assembler::default();
    let pass = code.label();
    let mut builder = Builder { code, wanted, pass };
    builder.is_meant();
    builder.treat()?;
    builder.code.here(pass);
    builder.give(NEXT);
    builder.code.finish()
}

impl Builder<'_> {
    fn give(&mut self, verdict: i32) {
        self.code.set(0, verdict);
        self.code.exit();
    }

    /// Goes on below only with packets that are meant.
    fn is_meant(&mut self) {
        let (code, pass) = (&mut self.code, self.pass);
        code.copy(PACKET, 1);
        code.load(Width::Word, 1, PACKET, shown::MARK);
        code.jump_if_half(1, Is::Equal, OWN_MARK, pass);
        if self.wanted.side == Side::Ingress {
            code.load(Width::Word, 1, PACKET, shown::PACKET_TYPE);
            code.jump_if(1, Is::Equal, With::Number(OTHER_HOST), pass);
        }
        // One with a tag is met again at the interface of its tag. Tag 0 is none.
        let untagged = code.label();
        code.load(Width::Word, 1, PACKET, shown::IS_TAGGED);
        code.jump_if(1, Is::Equal, With::Number(0), untagged);
        code.load(Width::Word, 1, PACKET, shown::TAG);
        code.op(Op::And, 1, With::Number(0xfff));
        code.jump_if(1, Is::Other, With::Number(0), pass);
        code.here(untagged);
        let (six, common) = (code.label(), code.label());
        let is_six = With::Number(i32::from(0x86ddu16.to_be()));
        let is_four = With::Number(i32::from(0x0800u16.to_be()));
        let [four_is_meant, six_is_meant] = [false, true].map(|is_v6| self.has_peers(is_v6));
        let code = &mut self.code;
        code.load(Width::Word, 1, PACKET, shown::PROTOCOL);
        if six_is_meant {
            code.jump_if(1, Is::Equal, is_six, six);
        }
        if four_is_meant {
            code.jump_if(1, Is::Other, is_four, pass);
            self.read_four();
            self.spare_sessions(false);
            self.pick_peers(false);
            self.code.jump(common);
        } else {
            code.jump(pass);
        }
        if six_is_meant {
            self.code.here(six);
            self.read_six();
            self.spare_sessions(true);
            self.pick_peers(true);
        }
        self.code.here(common);
        self.pick_ports();
    }

    /// Whether a packet of this family can be meant.
    fn has_peers(&self, is_v6: bool) -> bool {
        let networks = &self.wanted.scope.networks;
        networks.is_empty() || networks.iter().any(|one| one.0.is_ipv6() == is_v6)
    }

    /// Copies so many bytes from an offset (in register 2) behind the IP header's beginning to the stack.
    fn fetch(&mut self, to: i16, length: i32, otherwise: Label) {
        let code = &mut self.code;
        code.copy(1, PACKET);
        code.copy(3, FRAME);
        code.op(Op::Add, 3, With::Number(i32::from(to)));
        code.set(4, length);
        code.set(5, FROM_NETWORK);
        code.call(Helper::LoadFromHeader);
        code.jump_if(0, Is::Other, With::Number(0), otherwise);
    }

    /// Reads an IP header of this length, and where it is not too much for the verifier the ports that mostly follow it.
    fn read_header(&mut self, length: i16) {
        let (far, read, pass) = (self.code.label(), self.code.label(), self.pass);
        let scope = self.wanted.scope;
        if scope.networks.len() + scope.spared.len() <= SHORT {
            self.copy_header(length, far);
            self.code.jump(read);
            self.code.here(far);
        }
        self.code.set(1, 0);
        self.put(stack::PORTS_OF, 1);
        self.code.set(2, 0);
        self.fetch(stack::HEADER, i32::from(length), pass);
        self.code.here(read);
    }

    /// Copies header and ports from where they lie in one piece. A call for it would cost more than all the rest together.
    fn copy_header(&mut self, length: i16, far: Label) {
        let head = i16::from(self.wanted.head);
        let code = &mut self.code;
        code.load(Width::Word, 2, PACKET, shown::BYTES);
        code.load(Width::Word, 3, PACKET, shown::BYTES_END);
        code.copy(4, 2);
        code.op(Op::Add, 4, With::Number(i32::from(head + length + 4)));
        code.jump_if(4, Is::Above, With::Register(3), far);
        for at in (0..length).step_by(4) {
            code.load(Width::Word, 1, 2, head + at);
            code.store(Width::Word, FRAME, stack::HEADER + at, 1);
        }
        code.load(Width::Word, 1, 2, head + length);
        code.store(Width::Word, FRAME, stack::PORTS, 1);
        code.set(1, i32::from(length));
        self.put(stack::PORTS_OF, 1);
    }

    fn read_four(&mut self) {
        self.read_header(20);
        let code = &mut self.code;
        code.load(Width::Byte, TRANSPORT, FRAME, stack::HEADER);
        code.op(Op::And, TRANSPORT, With::Number(0xf));
        code.op(Op::Left, TRANSPORT, With::Number(2));
        code.load(Width::Half, 1, FRAME, stack::HEADER + 2);
        code.swap_from_network(1);
        code.store(Width::Long, FRAME, stack::END, 1);
        code.load(Width::Half, 1, FRAME, stack::HEADER + 6);
        code.swap_from_network(1);
        code.op(Op::And, 1, With::Number(0x1fff));
        code.store(Width::Long, FRAME, stack::IS_LATER, 1);
        code.load(Width::Byte, PROTOCOL, FRAME, stack::HEADER + 9);
    }

    fn read_six(&mut self) {
        self.read_header(40);
        let code = &mut self.code;
        code.load(Width::Half, 1, FRAME, stack::HEADER + 4);
        code.swap_from_network(1);
        code.op(Op::Add, 1, With::Number(40));
        code.store(Width::Long, FRAME, stack::END, 1);
        code.set(1, 0);
        code.store(Width::Long, FRAME, stack::IS_LATER, 1);
        code.load(Width::Byte, PROTOCOL, FRAME, stack::HEADER + 6);
        code.set(TRANSPORT, 40);
        let done = code.label();
        for _ in 0..EXTENSIONS_MAX {
            self.step_over(done);
        }
        self.code.here(done);
    }

    /// Passes over one header between IPv6 and transport.
    fn step_over(&mut self, done: Label) {
        let (options, next, pass) = (self.code.label(), self.code.label(), self.pass);
        // Hop-by-hop, routing and destination have a length; a fragment's has none.
        for kind in [0, 43, 60] {
            self.code
                .jump_if(PROTOCOL, Is::Equal, With::Number(kind), options);
        }
        self.code
            .jump_if(PROTOCOL, Is::Other, With::Number(44), done);
        self.code.copy(2, TRANSPORT);
        self.fetch(stack::SCRATCH, 4, pass);
        let code = &mut self.code;
        code.load(Width::Byte, PROTOCOL, FRAME, stack::SCRATCH);
        code.load(Width::Half, 1, FRAME, stack::SCRATCH + 2);
        code.swap_from_network(1);
        code.op(Op::And, 1, With::Number(0xfff8));
        code.store(Width::Long, FRAME, stack::IS_LATER, 1);
        code.jump_if(1, Is::Other, With::Number(0), done);
        code.op(Op::Add, TRANSPORT, With::Number(8));
        code.jump(next);
        code.here(options);
        code.copy(2, TRANSPORT);
        self.fetch(stack::SCRATCH, 2, pass);
        let code = &mut self.code;
        code.load(Width::Byte, PROTOCOL, FRAME, stack::SCRATCH);
        code.load(Width::Byte, 1, FRAME, stack::SCRATCH + 1);
        code.op(Op::Add, 1, With::Number(1));
        code.op(Op::Left, 1, With::Number(3));
        code.op(Op::Add, TRANSPORT, With::Register(1));
        code.here(next);
    }

    /// Goes on at `other` unless an address of the header lies in a network.
    fn compare(&mut self, at: i16, network: (IpAddr, u8), other: Label) {
        let words: Vec<(u32, u32)> = match network {
            (IpAddr::V4(address), prefix) => {
                let mask = mask(u128::from(u32::MAX), 32, prefix) as u32;
                vec![(address.to_bits() & mask, mask)]
            }
            (IpAddr::V6(address), prefix) => {
                let mask = mask(u128::MAX, 128, prefix);
                let address = address.to_bits() & mask;
                let word = |shift: u32| ((address >> shift) as u32, (mask >> shift) as u32);
                [96, 64, 32, 0].map(word).to_vec()
            }
        };
        for (offset, (word, mask)) in (0..).step_by(4).zip(words) {
            if mask == 0 {
                return;
            }
            self.code
                .load(Width::Word, 1, FRAME, stack::HEADER + at + offset);
            // Even of the whole: else the verifier learns what the stack holds with each address, and gives up.
            self.code.op_on_half(Op::And, 1, mask.to_be());
            self.code.jump_if_half(1, Is::Other, word.to_be(), other);
        }
    }

    /// Where sender and receiver stand in the header.
    fn ends(is_v6: bool) -> (i16, i16) {
        if is_v6 { (8, 24) } else { (12, 16) }
    }

    /// Packets of these connections go on.
    fn spare_sessions(&mut self, is_v6: bool) {
        let arriving = self.wanted.side == Side::Ingress;
        let all = self.wanted.scope.spared.iter();
        let all: Vec<(SocketAddr, SocketAddr)> = all
            .filter(|(local, _)| local.is_ipv6() == is_v6)
            .map(|(local, remote)| {
                if arriving {
                    (*remote, *local)
                } else {
                    (*local, *remote)
                }
            })
            .collect();
        if all.is_empty() {
            return;
        }
        let none = self.code.label();
        self.code
            .jump_if(PROTOCOL, Is::Other, With::Number(TCP), none);
        self.read_ports(none);
        let (sender, receiver) = Self::ends(is_v6);
        for (from, to) in all {
            let next = self.code.label();
            let [one, two] = [from.port().to_be_bytes(), to.port().to_be_bytes()];
            let ports = u32::from_ne_bytes([one[0], one[1], two[0], two[1]]);
            self.code.load(Width::Word, 1, FRAME, stack::PORTS);
            self.code.op_on_half(Op::And, 1, u32::MAX);
            self.code.jump_if_half(1, Is::Other, ports, next);
            let whole = if is_v6 { 128 } else { 32 };
            self.compare(sender, (from.ip(), whole), next);
            self.compare(receiver, (to.ip(), whole), next);
            self.code.jump(self.pass);
            self.code.here(next);
        }
        self.code.here(none);
    }

    /// Reads both ports to the stack; goes on elsewhere where the packet has none.
    fn read_ports(&mut self, otherwise: Label) {
        self.code.load(Width::Long, 1, FRAME, stack::IS_LATER);
        self.code.jump_if(1, Is::Other, With::Number(0), otherwise);
        let read = self.code.label();
        self.code.load(Width::Long, 1, FRAME, stack::PORTS_OF);
        self.code
            .jump_if(1, Is::Equal, With::Register(TRANSPORT), read);
        self.code.copy(2, TRANSPORT);
        self.fetch(stack::PORTS, 4, otherwise);
        self.code.here(read);
    }

    /// Only packets of the peers go on below.
    fn pick_peers(&mut self, is_v6: bool) {
        let networks = &self.wanted.scope.networks;
        let is_all = |one: &(IpAddr, u8)| one.0.is_ipv6() == is_v6 && one.1 == 0;
        if networks.is_empty() || networks.iter().any(is_all) {
            return;
        }
        let (sender, receiver) = Self::ends(is_v6);
        let at = match self.wanted.side {
            Side::Ingress => sender,
            Side::Egress => receiver,
        };
        let picked = self.code.label();
        for network in self.wanted.scope.networks.clone() {
            if network.0.is_ipv6() != is_v6 {
                continue;
            }
            let next = self.code.label();
            self.compare(at, network, next);
            self.code.jump(picked);
            self.code.here(next);
        }
        self.code.jump(self.pass);
        self.code.here(picked);
    }

    /// Only packets of the protocol and the ports go on below.
    fn pick_ports(&mut self) {
        let scope = self.wanted.scope;
        let pass = self.pass;
        if let Some(protocol) = scope.protocol {
            let only = With::Number(i32::from(protocol));
            self.code.jump_if(PROTOCOL, Is::Other, only, pass);
        }
        if scope.ports.is_empty() {
            return;
        }
        let (known, picked) = (self.code.label(), self.code.label());
        if scope.protocol.is_none() {
            self.code
                .jump_if(PROTOCOL, Is::Equal, With::Number(TCP), known);
            self.code
                .jump_if(PROTOCOL, Is::Other, With::Number(UDP), pass);
        }
        self.code.here(known);
        self.read_ports(pass);
        self.code.load(Width::Half, 1, FRAME, stack::PORTS);
        self.code.load(Width::Half, 2, FRAME, stack::PORTS + 2);
        for port in &scope.ports {
            for end in [1, 2] {
                let port = u32::from(port.to_be());
                self.code.jump_if_half(end, Is::Equal, port, picked);
            }
        }
        self.code.jump(pass);
        self.code.here(picked);
    }
}

/// The first `prefix` of so many bits.
fn mask(all: u128, bits: u32, prefix: u8) -> u128 {
    let rest = bits.saturating_sub(u32::from(prefix));
    all.checked_shl(rest).unwrap_or(0) & all
}

/// What happens to those that are meant.
impl Builder<'_> {
    fn treat(&mut self) -> Option<()> {
        match self.wanted.treatment {
            Treatment::Loss { chance } => {
                self.number_it();
                self.happens(*chance);
                self.give_up();
            }
            Treatment::Bursts {
                begin,
                end,
                loss_within,
                loss_outside,
            } => {
                self.number_it();
                self.burst([*begin, *end], [*loss_outside, *loss_within]);
                self.give_up();
            }
            Treatment::Duplicate { chance } => {
                self.number_it();
                self.happens(*chance);
                self.send_twice();
            }
            Treatment::Corrupt {
                chance,
                bits,
                fits: true,
            } => self.corrupt(*chance, *bits),
            _ => return None,
        }
        Some(())
    }

    fn tally(&mut self, counter: u32) {
        self.code.address(1, self.wanted.map, counter * 8);
        self.code.set(2, 1);
        self.code.count(1, 2);
    }

    /// Counts one packet on the wire more and readies its draws.
    fn number_it(&mut self) {
        self.tally(RECEIVED);
        self.code.copy(STATE, 2);
        self.ready_draws();
    }

    /// From the number in the register of the state. The first draw is thrown away.
    fn ready_draws(&mut self) {
        let code = &mut self.code;
        code.set_long(1, STEP);
        code.op(Op::Mul, STATE, With::Register(1));
        code.set_long(2, self.wanted.seed);
        code.op(Op::Xor, STATE, With::Register(2));
        code.op(Op::Add, STATE, With::Register(1));
    }

    /// The next draw, in register 1.
    fn draw(&mut self) {
        let code = &mut self.code;
        code.set_long(2, STEP);
        code.op(Op::Add, STATE, With::Register(2));
        code.copy(1, STATE);
        for (shift, factor) in [
            (30, Some(FIRST_FACTOR)),
            (27, Some(SECOND_FACTOR)),
            (31, None),
        ] {
            code.copy(2, 1);
            code.op(Op::Right, 2, With::Number(shift));
            code.op(Op::Xor, 1, With::Register(2));
            if let Some(factor) = factor {
                code.set_long(2, factor);
                code.op(Op::Mul, 1, With::Register(2));
            }
        }
    }

    /// A draw to be compared with [`threshold`].
    fn draw_share(&mut self) {
        self.draw();
        self.code.op(Op::Right, 1, With::Number(11));
    }

    /// The packet goes on unless it is chosen.
    fn happens(&mut self, chance: f64) {
        self.draw_share();
        self.code.set_long(2, threshold(chance));
        self.code
            .jump_if(1, Is::AtLeast, With::Register(2), self.pass);
    }

    fn give_up(&mut self) {
        self.tally(DROPPED);
        self.give(DROP);
    }

    /// Two states, each with its chance to leave it and its loss: outside first, within second.
    fn burst(&mut self, leaves: [f64; 2], lost: [f64; 2]) {
        let (within, outside, stays, decided) = (
            self.code.label(),
            self.code.label(),
            self.code.label(),
            self.code.label(),
        );
        self.draw_share();
        let code = &mut self.code;
        code.address(5, self.wanted.map, IN_BURST * 8);
        code.load(Width::Long, 3, 5, 0);
        code.set_long(2, threshold(leaves[0]));
        code.jump_if(3, Is::Equal, With::Number(0), outside);
        code.set_long(2, threshold(leaves[1]));
        code.here(outside);
        code.jump_if(1, Is::AtLeast, With::Register(2), stays);
        // Where another processor has changed it meanwhile, its word holds.
        code.copy(0, 3);
        code.op(Op::Xor, 3, With::Number(1));
        code.exchange(5, 3);
        code.here(stays);
        code.copy(4, 3);
        self.draw_share();
        let code = &mut self.code;
        code.jump_if(4, Is::Other, With::Number(0), within);
        code.set_long(2, threshold(lost[0]));
        code.jump(decided);
        code.here(within);
        code.set_long(2, threshold(lost[1]));
        code.here(decided);
        code.jump_if(1, Is::AtLeast, With::Register(2), self.pass);
    }

    /// A copy takes the same way, with our mark, so that it is not met again.
    fn send_twice(&mut self) {
        let failed = self.code.label();
        let code = &mut self.code;
        code.load(Width::Word, STATE, PACKET, shown::MARK);
        code.op_on_half(Op::Set, 1, OWN_MARK);
        code.store(Width::Word, PACKET, shown::MARK, 1);
        code.copy(1, PACKET);
        code.load(Width::Word, 2, PACKET, shown::INDEX);
        // On the loopback it would arrive without the way it came by, and be thrown away: there it leaves once more.
        let comes_in = self.wanted.side == Side::Ingress && !self.wanted.is_loopback;
        code.set(3, if comes_in { INTO } else { 0 });
        code.call(Helper::CloneRedirect);
        code.store(Width::Word, PACKET, shown::MARK, STATE);
        code.jump_if(0, Is::Other, With::Number(0), failed);
        self.tally(DOUBLED);
        self.give(NEXT);
        self.code.here(failed);
        self.tally(FAILED);
    }
}

/// A draw below it happens. A draw has 53 bits.
fn threshold(chance: f64) -> u64 {
    (chance.clamp(0.0, 1.0) * (1u64 << 53) as f64).ceil() as u64
}

/// Bits are turned, and the checksum made to fit: each packet as it goes over the wire has its own chance, in a large one too.
impl Builder<'_> {
    fn get(&mut self, to: Register, at: i16) {
        self.code.load(Width::Long, to, FRAME, at);
    }

    fn put(&mut self, at: i16, from: Register) {
        self.code.store(Width::Long, FRAME, at, from);
    }

    fn corrupt(&mut self, chance: f64, bits: u32) {
        self.find_payload();
        self.find_segments();
        let (again, next, failed) = (self.code.label(), self.code.label(), self.code.label());
        self.code.here(again);
        self.get(STATE, stack::NUMBER);
        self.get(1, stack::SEGMENT);
        self.code.op(Op::Add, STATE, With::Register(1));
        self.ready_draws();
        self.draw_share();
        self.code.set_long(2, threshold(chance));
        self.code.jump_if(1, Is::AtLeast, With::Register(2), next);
        self.draw();
        self.code.copy(STATE, 1);
        self.code.set_long(2, STEP);
        self.code.op(Op::Add, STATE, With::Register(2));
        self.find_room(bits, failed);
        for bit in 0..bits {
            self.turn(bit, failed);
        }
        self.tally(ALTERED);
        self.code.jump(next);
        self.code.here(failed);
        self.tally(FAILED);
        self.code.here(next);
        self.get(1, stack::SEGMENT);
        self.code.op(Op::Add, 1, With::Number(1));
        self.put(stack::SEGMENT, 1);
        self.get(2, stack::SEGMENTS);
        self.code.jump_if(1, Is::Below, With::Register(2), again);
    }

    /// Where begins what the packet carries (at its end, where nothing can be turned), and where its checksum is. Beyond here nothing branches
    /// by the protocol: the kernel's verifier walks every branch of every segment.
    fn find_payload(&mut self) {
        let (none, found) = (self.code.label(), self.code.label());
        self.get(1, stack::IS_LATER);
        self.code.jump_if(1, Is::Other, With::Number(0), none);
        for (protocol, checksum, how) in [
            (TCP, 16, TWO_BYTES),
            (UDP, 6, TWO_BYTES | ZERO_IS_NONE),
            (ICMP6, 2, TWO_BYTES),
        ] {
            let other = self.code.label();
            self.code
                .jump_if(PROTOCOL, Is::Other, With::Number(protocol), other);
            self.code.copy(1, TRANSPORT);
            let head = i32::from(self.wanted.head);
            self.code.op(Op::Add, 1, With::Number(head + checksum));
            self.put(stack::CHECKSUM, 1);
            self.code.set(1, how);
            self.put(stack::HOW, 1);
            if protocol == TCP {
                self.code.copy(2, TRANSPORT);
                self.code.op(Op::Add, 2, With::Number(12));
                self.fetch(stack::SCRATCH, 1, none);
                self.code.load(Width::Byte, 1, FRAME, stack::SCRATCH);
                self.code.op(Op::Right, 1, With::Number(4));
                self.code.op(Op::Left, 1, With::Number(2));
            } else {
                self.code.set(1, 8);
            }
            self.code.op(Op::Add, 1, With::Register(TRANSPORT));
            self.code.jump(found);
            self.code.here(other);
        }
        self.code.here(none);
        self.code.set(1, 0);
        self.put(stack::CHECKSUM, 1);
        self.put(stack::HOW, 1);
        self.get(1, stack::END);
        self.code.here(found);
        self.put(stack::PAYLOAD, 1);
    }

    /// The packets on the wire that it stands for: how many, how long, and the number of the first.
    fn find_segments(&mut self) {
        let (large, few, known) = (self.code.label(), self.code.label(), self.code.label());
        let code = &mut self.code;
        code.load(Width::Word, 1, PACKET, shown::SEGMENTS);
        code.load(Width::Word, 2, PACKET, shown::SEGMENT_SIZE);
        code.jump_if(1, Is::Above, With::Number(1), large);
        code.set(1, 1);
        code.set(2, 0xffff);
        code.jump(known);
        code.here(large);
        code.jump_if(1, Is::Below, With::Number(SEGMENTS_MAX), few);
        code.set(1, SEGMENTS_MAX);
        code.here(few);
        code.here(known);
        self.put(stack::SEGMENTS, 1);
        self.put(stack::SIZE, 2);
        self.code.copy(2, 1);
        self.code.address(1, self.wanted.map, RECEIVED * 8);
        self.code.count(1, 2);
        self.put(stack::NUMBER, 2);
        self.code.set(1, 0);
        self.put(stack::SEGMENT, 1);
    }

    /// Where the segment begins, its room in bits, and how far turned bits lie apart.
    fn find_room(&mut self, bits: u32, none: Label) {
        let (fits, apart) = (self.code.label(), self.code.label());
        self.get(1, stack::SEGMENT);
        self.get(2, stack::SIZE);
        self.code.op(Op::Mul, 1, With::Register(2));
        self.get(3, stack::PAYLOAD);
        self.code.op(Op::Add, 1, With::Register(3));
        self.put(stack::START, 1);
        self.get(3, stack::END);
        self.code.jump_if(1, Is::AtLeast, With::Register(3), none);
        self.code.op(Op::Sub, 3, With::Register(1));
        self.code.jump_if(2, Is::AtLeast, With::Register(3), fits);
        self.code.copy(3, 2);
        self.code.here(fits);
        self.code.op(Op::Left, 3, With::Number(3));
        self.put(stack::ROOM, 3);
        self.code
            .op(Op::Div, 3, With::Number(bits.max(1).cast_signed()));
        self.code.jump_if(3, Is::Other, With::Number(0), apart);
        self.code.set(3, 1);
        self.code.here(apart);
        self.put(stack::STRIDE, 3);
    }

    /// Turns the bit of this number, in a share of the room that is its own; none, where the room has fewer bits.
    fn turn(&mut self, number: u32, failed: Label) {
        let number = With::Number(number.cast_signed());
        self.draw();
        self.get(2, stack::STRIDE);
        self.get(4, stack::ROOM);
        let code = &mut self.code;
        code.op(Op::Rest, 1, With::Register(2));
        code.op(Op::Mul, 2, number);
        code.op(Op::Add, 1, With::Register(2));
        // 1 where the number is below the room, else 0.
        code.op(Op::Set, 3, number);
        code.op(Op::Sub, 3, With::Register(4));
        code.op(Op::Right, 3, With::Number(63));
        code.op(Op::Rest, 1, With::Register(4));
        code.copy(2, 1);
        code.op(Op::And, 2, With::Number(7));
        code.op(Op::Left, 3, With::Register(2));
        self.put(stack::MASK, 3);
        self.code.op(Op::Right, 1, With::Number(3));
        self.get(2, stack::START);
        self.code.op(Op::Add, 1, With::Register(2));
        self.put(stack::AT, 1);
        self.at_byte(Helper::LoadBytes, failed);
        self.code.load(Width::Byte, 1, FRAME, stack::SCRATCH);
        self.put(stack::OLD, 1);
        self.get(2, stack::MASK);
        self.code.op(Op::Xor, 1, With::Register(2));
        self.code.store(Width::Byte, FRAME, stack::SCRATCH, 1);
        self.at_byte(Helper::StoreBytes, failed);
        self.fit_checksum();
    }

    /// Copies the byte that is being turned from the packet to the stack, or back.
    fn at_byte(&mut self, helper: Helper, failed: Label) {
        self.get(2, stack::AT);
        let code = &mut self.code;
        code.op(Op::Add, 2, With::Number(i32::from(self.wanted.head)));
        code.copy(1, PACKET);
        code.copy(3, FRAME);
        code.op(Op::Add, 3, With::Number(i32::from(stack::SCRATCH)));
        code.set(4, 1);
        code.set(5, 0);
        code.call(helper);
        code.jump_if(0, Is::Other, With::Number(0), failed);
    }

    /// The kernel leaves alone what the card, or the kernel later, is to reckon.
    fn fit_checksum(&mut self) {
        self.get(3, stack::OLD);
        self.get(4, stack::MASK);
        self.get(1, stack::AT);
        let code = &mut self.code;
        code.op(Op::Xor, 4, With::Register(3));
        // The byte's place in its pair, counted from the transport header: the second of a pair is the upper half here.
        code.op(Op::Sub, 1, With::Register(TRANSPORT));
        if cfg!(target_endian = "big") {
            code.op(Op::Add, 1, With::Number(1));
        }
        code.op(Op::And, 1, With::Number(1));
        code.op(Op::Left, 1, With::Number(3));
        code.op(Op::Left, 3, With::Register(1));
        code.op(Op::Left, 4, With::Register(1));
        code.copy(1, PACKET);
        self.get(2, stack::CHECKSUM);
        self.get(5, stack::HOW);
        self.code.call(Helper::ReplaceChecksum);
    }
}
