//! Programs as the kernel runs them, on packets made here: what they mean, and that they decide as the queue's server does.

#[path = "../../../tests/run/skip.rs"]
mod skip;

use super::program::{ALTERED, DROPPED, FAILED, RECEIVED, Wanted, program};
use super::scope::Scope;
use super::*;
use crate::packet::alter;
use crate::packet::decide::{Decider, Fate};
use crate::sys::bpf::{Counters, Program, WORDS};
use std::net::IpAddr;

const SEED: u64 = 0x0123_4567_89ab_cdef;
const DROPPED_IT: i32 = 2;
const NEXT: i32 = -1;

/// Runs `act` where programs may be loaded, in a network namespace of its own.
fn with_kernel(act: impl FnOnce() -> io::Result<()> + Send) {
    if !is_known() {
        return skip::skip("programs at TCX hooks need root, and a kernel that has them");
    }
    private::inside_new(act).unwrap();
}

/// A program and its counters.
struct Loaded {
    program: Program,
    counters: Counters,
}

impl Loaded {
    fn new(scope: &Scope, side: Side, treatment: &Treatment) -> io::Result<Loaded> {
        let counters = Counters::new("squall_test")?;
        let wanted = Wanted {
            scope,
            side,
            head: HEAD,
            is_loopback: true,
            treatment,
            seed: SEED,
            map: counters.number(),
        };
        let instructions = program(wanted).expect("a program can be made of it");
        let program = Program::load("squall_test", side, &instructions)?;
        Ok(Loaded { program, counters })
    }

    fn counted(&self) -> [u64; WORDS] {
        self.counters.read().unwrap()
    }
}

/// What a packet is.
#[derive(Debug, Clone, Copy)]
struct Made {
    from: &'static str,
    to: &'static str,
    protocol: u8,
    ports: [u16; 2],
    payload: usize,
}

const FOUR: Made = Made {
    from: "10.1.2.3",
    to: "10.9.9.9",
    protocol: 17,
    ports: [4000, 5000],
    payload: 100,
};
const SIX: Made = Made {
    from: "fd01::3",
    to: "fd09::9",
    ..FOUR
};

impl Made {
    /// From the head of Ethernet on, with a checksum that fits.
    fn bytes(&self) -> Vec<u8> {
        let (from, to): (IpAddr, IpAddr) = (self.from.parse().unwrap(), self.to.parse().unwrap());
        let transport = match self.protocol {
            6 => {
                let mut head = self.ports.map(u16::to_be_bytes).concat();
                head.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x80, 0x10, 1, 0, 0, 0, 0, 0]);
                // Three bytes of options and their end: the head is longer than the least.
                head.extend([1; 12]);
                head
            }
            17 => {
                let length = (8 + self.payload) as u16;
                let mut head = self.ports.map(u16::to_be_bytes).concat();
                head.extend(length.to_be_bytes());
                head.extend([0, 0]);
                head
            }
            _ => vec![128, 0, 0, 0, 0, 7, 0, 1],
        };
        let payload: Vec<u8> = (0..self.payload).map(|at| (at * 7) as u8).collect();
        let rest = [transport, payload].concat();
        let (kind, mut packet) = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = (20 + rest.len()) as u16;
                let mut head = vec![0x45, 0];
                head.extend(length.to_be_bytes());
                head.extend([0, 0, 0x40, 0, 64, self.protocol, 0, 0]);
                head.extend(from.octets());
                head.extend(to.octets());
                ([8, 0], head)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut head = vec![0x60, 0, 0, 0];
                head.extend((rest.len() as u16).to_be_bytes());
                head.extend([self.protocol, 64]);
                head.extend(from.octets());
                head.extend(to.octets());
                ([0x86, 0xdd], head)
            }
            _ => panic!("of one family"),
        };
        packet.extend(rest);
        if let Some(shape) = alter::shape(&packet) {
            alter::fit_checksum(&mut packet, &shape);
        }
        // To the loopback's own address, from nowhere.
        [&[0; 12][..], &kind, &packet].concat()
    }
}

fn bursts() -> Treatment {
    Treatment::Bursts {
        begin: 0.1,
        end: 0.3,
        loss_within: 0.9,
        loss_outside: 0.05,
    }
}

#[test]
fn the_same_packets_meet_the_same_fate_in_the_kernel_as_in_the_queue() {
    with_kernel(|| {
        for treatment in [Treatment::Loss { chance: 0.3 }, bursts()] {
            for side in SIDES {
                let loaded = Loaded::new(&Scope::default(), side, &treatment)?;
                let mut decider = Decider::new(treatment.clone(), SEED);
                let mut dropped = 0;
                for number in 0..1000 {
                    let made = if number % 2 == 0 { FOUR } else { SIX };
                    let (verdict, _) = loaded.program.run(&made.bytes())?;
                    let fate = decider.next(0, 100);
                    let wanted = if fate == Fate::Drop { DROPPED_IT } else { NEXT };
                    assert_eq!(verdict, wanted, "{treatment:?}, packet {number}: {fate:?}");
                    dropped += u64::from(fate == Fate::Drop);
                }
                let counted = loaded.counted();
                assert_eq!(counted[RECEIVED as usize], 1000);
                assert_eq!(counted[DROPPED as usize], dropped);
                assert!(dropped > 100, "{dropped}");
            }
        }
        Ok(())
    });
}

#[test]
fn the_same_bits_are_turned_as_in_the_queue_and_the_checksum_fits() {
    with_kernel(|| {
        for protocol in [6, 17, 58] {
            for (family, bits, payload) in [
                (FOUR, 1, 100),
                (SIX, 1, 33),
                (FOUR, BITS_MAX, 1),
                (SIX, 3, 1200),
            ] {
                if protocol == 58 && family.from == FOUR.from {
                    continue;
                }
                let made = Made {
                    protocol,
                    payload,
                    ..family
                };
                let treatment = Treatment::Corrupt {
                    chance: 0.5,
                    bits,
                    fits: true,
                };
                let loaded = Loaded::new(&Scope::default(), Side::Ingress, &treatment)?;
                let mut decider = Decider::new(treatment, SEED);
                let mut altered = 0;
                for _ in 0..50 {
                    let before = made.bytes();
                    let (verdict, after) = loaded.program.run(&before)?;
                    assert_eq!(verdict, NEXT);
                    let mut wanted = before.clone();
                    if let Fate::Turn { bits, seed, fits } = decider.next(0, 0) {
                        let packet = &mut wanted[usize::from(HEAD)..];
                        let shape = alter::shape(packet).unwrap();
                        assert!(fits && alter::turn(packet, &shape, bits, seed));
                        assert!(alter::fit_checksum(packet, &shape));
                        assert_ne!(wanted, before);
                        altered += 1;
                    }
                    assert_eq!(after, wanted, "{made:?}, {bits} bits");
                }
                let counted = loaded.counted();
                assert_eq!(counted[ALTERED as usize], altered);
                assert_eq!(counted[FAILED as usize], 0);
                assert!(altered > 5);
            }
        }
        Ok(())
    });
}

#[test]
fn what_carries_nothing_stays_as_it_is_and_is_said_to() {
    with_kernel(|| {
        let treatment = Treatment::Corrupt {
            chance: 1.0,
            bits: 1,
            fits: true,
        };
        let loaded = Loaded::new(&Scope::default(), Side::Ingress, &treatment)?;
        let later = |mut bytes: Vec<u8>| {
            bytes[usize::from(HEAD) + 7] = 1;
            bytes
        };
        let untreatable = [
            Made { payload: 0, ..FOUR }.bytes(),
            Made {
                protocol: 47,
                ..FOUR
            }
            .bytes(),
            later(FOUR.bytes()),
        ];
        for bytes in &untreatable {
            assert_eq!(loaded.program.run(bytes)?, (NEXT, bytes.clone()));
        }
        assert_eq!(loaded.counted()[FAILED as usize], 3);
        Ok(())
    });
}

#[test]
fn a_copy_is_sent_and_not_met_again() {
    with_kernel(|| {
        for side in SIDES {
            let treatment = Treatment::Duplicate { chance: 1.0 };
            let order = Order {
                namespace: None,
                namespace_inode: 0,
                name: "squall_test".to_owned(),
                hooks: vec![Hook {
                    index: 1,
                    arriving: side == Side::Ingress,
                    head: HEAD,
                    is_loopback: true,
                }],
                scope: Scope::default(),
                seed: SEED,
                counts: PathBuf::new(),
                treatment,
            };
            let attached = Attached::new(&order)?;
            let to = std::net::UdpSocket::bind("127.0.0.1:0")?;
            to.set_read_timeout(Some(Duration::from_secs(5)))?;
            let from = std::net::UdpSocket::bind("127.0.0.1:0")?;
            for number in 0..50u8 {
                from.send_to(&[number], to.local_addr()?)?;
                let mut bytes = [0; 8];
                for _ in 0..2 {
                    assert_eq!(to.recv(&mut bytes)?, 1, "{side:?}");
                    assert_eq!(bytes[0], number);
                }
            }
            to.set_nonblocking(true)?;
            assert!(to.recv(&mut [0; 8]).is_err(), "a third came");
            let counts = attached.counts()?;
            assert_eq!((counts.received, counts.doubled), (50, 50));
        }
        Ok(())
    });
}

#[test]
fn only_what_is_meant_is_met() {
    let scope = |networks: &[(&str, u8)], ports: &[u16], protocol| Scope {
        networks: networks
            .iter()
            .map(|(address, prefix)| (address.parse().unwrap(), *prefix))
            .collect(),
        ports: ports.to_vec(),
        protocol,
        spared: Vec::new(),
    };
    let tcp = |made| Made {
        protocol: 6,
        ..made
    };
    let icmp = Made {
        protocol: 58,
        ..SIX
    };
    let spared = |local: &str, remote: &str| Scope {
        spared: vec![(local.parse().unwrap(), remote.parse().unwrap())],
        ..Scope::default()
    };
    let (arriving, leaving) = (Side::Ingress, Side::Egress);
    let cases = [
        (Scope::default(), arriving, FOUR, true),
        (scope(&[("10.0.0.0", 8)], &[], None), arriving, FOUR, true),
        (scope(&[("10.1.2.0", 25)], &[], None), arriving, FOUR, true),
        (
            scope(&[("10.1.2.128", 25)], &[], None),
            arriving,
            FOUR,
            false,
        ),
        (scope(&[("10.1.2.3", 32)], &[], None), leaving, FOUR, false),
        (scope(&[("10.9.9.9", 32)], &[], None), leaving, FOUR, true),
        (scope(&[("0.0.0.0", 0)], &[], None), arriving, FOUR, true),
        (scope(&[("0.0.0.0", 0)], &[], None), arriving, SIX, false),
        (scope(&[("::", 0)], &[], None), arriving, FOUR, false),
        (scope(&[("fd01::", 16)], &[], None), arriving, SIX, true),
        (scope(&[("fd01::", 127)], &[], None), arriving, SIX, false),
        (scope(&[("fd01::2", 127)], &[], None), arriving, SIX, true),
        (
            scope(&[("fd02::", 16), ("fd09::9", 128)], &[], None),
            leaving,
            SIX,
            true,
        ),
        (scope(&[], &[], Some(6)), arriving, FOUR, false),
        (scope(&[], &[], Some(6)), arriving, tcp(SIX), true),
        (scope(&[], &[5000], None), arriving, FOUR, true),
        (scope(&[], &[1, 4000], None), arriving, tcp(SIX), true),
        (scope(&[], &[4001, 136], None), arriving, FOUR, false),
        (scope(&[], &[5000], None), arriving, icmp, false),
        (scope(&[], &[5000], Some(17)), arriving, tcp(FOUR), false),
        (
            scope(&[("10.9.9.9", 32)], &[5000], None),
            arriving,
            FOUR,
            false,
        ),
        (
            spared("10.9.9.9:5000", "10.1.2.3:4000"),
            arriving,
            tcp(FOUR),
            false,
        ),
        (
            spared("10.9.9.9:5000", "10.1.2.3:4000"),
            arriving,
            FOUR,
            true,
        ),
        (
            spared("10.9.9.9:5000", "10.1.2.3:4001"),
            arriving,
            tcp(FOUR),
            true,
        ),
        (
            spared("10.1.2.3:4000", "10.9.9.9:5000"),
            arriving,
            tcp(FOUR),
            true,
        ),
        (
            spared("10.1.2.3:4000", "10.9.9.9:5000"),
            leaving,
            tcp(FOUR),
            false,
        ),
        (
            spared("[fd09::9]:5000", "[fd01::3]:4000"),
            arriving,
            tcp(SIX),
            false,
        ),
        (
            spared("[fd09::9]:5000", "[fd01::4]:4000"),
            arriving,
            tcp(SIX),
            true,
        ),
    ];
    with_kernel(|| {
        let all = Treatment::Loss { chance: 1.0 };
        for (scope, side, made, is_meant) in cases {
            let loaded = Loaded::new(&scope, side, &all)?;
            let (verdict, _) = loaded.program.run(&made.bytes())?;
            let wanted = if is_meant { DROPPED_IT } else { NEXT };
            assert_eq!(verdict, wanted, "{scope:?} {side:?} {made:?}");
            assert_eq!(loaded.counted()[RECEIVED as usize], u64::from(is_meant));
        }
        Ok(())
    });
}

#[test]
fn headers_between_are_passed_over_and_what_is_no_ip_goes_on() {
    with_kernel(|| {
        let scope = Scope {
            ports: vec![5000],
            ..Scope::default()
        };
        let loaded = Loaded::new(&scope, Side::Ingress, &Treatment::Loss { chance: 1.0 })?;
        let head = usize::from(HEAD);
        let with = |kind: u8, header: [u8; 8]| {
            let mut bytes = SIX.bytes();
            bytes[head + 6] = kind;
            bytes.splice(head + 40..head + 40, header);
            let length = (bytes.len() - head - 40) as u16;
            bytes[head + 4..head + 6].copy_from_slice(&length.to_be_bytes());
            bytes
        };
        let mut arp = FOUR.bytes();
        arp[13] = 6;
        let cases = [
            (with(60, [17, 0, 1, 4, 0, 0, 0, 0]), true),
            (with(0, [17, 0, 1, 4, 0, 0, 0, 0]), true),
            // The first part of a fragmented packet, and a later one.
            (with(44, [17, 0, 0, 1, 0, 0, 0, 9]), true),
            (with(44, [17, 0, 0, 9, 0, 0, 0, 9]), false),
            (with(60, [59, 0, 1, 4, 0, 0, 0, 0]), false),
            (arp, false),
            (FOUR.bytes()[..head + 22].to_vec(), false),
        ];
        for (place, (bytes, is_meant)) in cases.into_iter().enumerate() {
            let verdict = loaded.program.run(&bytes)?.0;
            let wanted = if is_meant { DROPPED_IT } else { NEXT };
            assert_eq!(verdict, wanted, "case {place}");
        }
        Ok(())
    });
}

#[test]
fn the_most_that_can_be_said_is_a_program_that_the_kernel_takes() {
    with_kernel(|| {
        let scope = Scope {
            networks: (0..256u32)
                .map(|host| (format!("fd00::{host:x}").parse().unwrap(), 127))
                .collect(),
            ports: (5000..5064).collect(),
            protocol: None,
            spared: (0..crate::packet::ssh::SESSIONS_MAX)
                .map(|host| {
                    let remote = format!("[fd01::{host:x}]:40000").parse().unwrap();
                    ("[fd00::1]:22".parse().unwrap(), remote)
                })
                .collect(),
        };
        let most = Treatment::Corrupt {
            chance: 0.5,
            bits: BITS_MAX,
            fits: true,
        };
        let short = Scope {
            networks: scope.networks[..4].to_vec(),
            spared: scope.spared[..4].to_vec(),
            ..scope.clone()
        };
        for treatment in [most, bursts(), Treatment::Duplicate { chance: 0.5 }] {
            for side in SIDES {
                Loaded::new(&scope, side, &treatment)?;
                Loaded::new(&short, side, &treatment)?;
            }
        }
        Ok(())
    });
}

#[test]
fn large_packets_and_unknown_links_are_left_to_others() {
    let link = |hardware, name: &str| Link {
        index: 7,
        hardware,
        name: name.to_owned(),
        kind: String::new(),
        is_up: true,
        mtu: 1500,
    };
    let loss = Treatment::Loss { chance: 0.5 };
    let fitting = Treatment::Corrupt {
        chance: 0.5,
        bits: 1,
        fits: true,
    };
    let all = Traffic::default();
    let udp = Traffic {
        protocol: Some(Protocol::Udp),
        ..Traffic::default()
    };
    let lo = link(LOOPBACK, "lo");
    let card = link(ETHERNET, "eth0");
    assert_eq!(
        places(std::slice::from_ref(&lo), &all, &loss)
            .unwrap()
            .len(),
        2
    );
    let both = [lo, card];
    let because = places(&both, &all, &loss).unwrap_err();
    assert!(because.contains("eth0 in large packets"), "{because}");
    assert_eq!(places(&both, &udp, &loss).unwrap().len(), 4);
    let found = places(&both, &all, &fitting).unwrap();
    assert!(found.iter().all(|hook| hook.head == HEAD), "{found:?}");
    let found = places(&[link(0xfffe, "tun0")], &udp, &loss).unwrap();
    assert!(found.iter().all(|hook| hook.head == 0), "{found:?}");
    let because = places(&[link(32, "ib0")], &udp, &loss).unwrap_err();
    assert!(because.contains("of the kind 32"), "{because}");
    assert!(places(&[], &udp, &loss).is_err());
    assert!(!does(&Treatment::Corrupt {
        chance: 0.5,
        bits: 1,
        fits: false
    }));
}
