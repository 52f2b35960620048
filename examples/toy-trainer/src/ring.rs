//! All-reduce and all-gather over a ring of loopback TCP connections.
//!
//! Rank r sends to r+1 and receives from r-1. The buffer is cut into one chunk per rank; each chunk travels once
//! round the ring and is summed in the same order in every run (chunk c: c, c+1, …), then the finished chunks travel
//! round once more. So the result is bit for bit the same on all ranks and in all runs of the same world size.
//! A peer that dies or stays silent longer than the time-out is an error here, never a hang.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

/// Bytes sent before the same number is received. Both directions of a pair can hold at least two of them in the
/// kernel, so all ranks may send at the same time.
const SEGMENT: usize = 16 * 1024;

/// The two connections of one rank.
pub(crate) struct Ring {
    rank: usize,
    world: usize,
    /// To the next rank and from the one before; none in a world of one.
    links: Option<(TcpStream, TcpStream)>,
}

impl Ring {
    /// Connects to the next rank and accepts the one before, within `timeout`, which then bounds every transfer too.
    /// `ports` holds the port of each rank's listener; `generation` keeps out ranks of an earlier start.
    pub(crate) fn connect(
        rank: usize,
        ports: &[u16],
        generation: u32,
        listener: &TcpListener,
        timeout: Duration,
    ) -> io::Result<Self> {
        let world = ports.len();
        if world == 1 {
            return Ok(Self {
                rank,
                world,
                links: None,
            });
        }
        let deadline = Instant::now() + timeout;
        let mut next = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[(rank + 1) % world]))?;
        prepare(&next, timeout)?;
        next.write_all(&greeting(rank, generation))?;
        let wanted = greeting((rank + world - 1) % world, generation);
        let previous = loop {
            wait_readable(listener, deadline)?;
            let (mut candidate, _) = listener.accept()?;
            prepare(&candidate, timeout)?;
            let mut found = [0; 8];
            if candidate.read_exact(&mut found).is_ok() && found == wanted {
                break candidate;
            }
        };
        Ok(Self {
            rank,
            world,
            links: Some((next, previous)),
        })
    }

    /// Replaces `values` by their sum over all ranks.
    pub(crate) fn all_reduce(&mut self, values: &mut [f32]) -> io::Result<()> {
        let (rank, world, length) = (self.rank, self.world, values.len());
        let chunk = |index: usize| {
            let index = index % world;
            length * index / world..length * (index + 1) / world
        };
        for turn in 0..world.saturating_sub(1) {
            let (outgoing, incoming) = (
                chunk(rank + world - turn),
                chunk(rank + 2 * world - turn - 1),
            );
            let received = self.exchange(&bytes_of(&values[outgoing]), incoming.len() * 4)?;
            for (value, other) in values[incoming].iter_mut().zip(floats_of(&received)) {
                *value += other;
            }
        }
        for turn in 0..world.saturating_sub(1) {
            let (outgoing, incoming) = (chunk(rank + world + 1 - turn), chunk(rank + world - turn));
            let received = self.exchange(&bytes_of(&values[outgoing]), incoming.len() * 4)?;
            for (value, other) in values[incoming].iter_mut().zip(floats_of(&received)) {
                *value = other;
            }
        }
        Ok(())
    }

    /// The `mine` of every rank, in the order of ranks. All ranks give the same number of bytes.
    pub(crate) fn all_gather(&mut self, mine: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut all = vec![Vec::new(); self.world];
        let mut travelling = mine.to_vec();
        for turn in 1..self.world {
            let received = self.exchange(&travelling, mine.len())?;
            all[(self.rank + self.world - turn + 1) % self.world] = travelling;
            travelling = received;
        }
        all[(self.rank + 1) % self.world] = travelling;
        Ok(all)
    }

    /// Returns when every rank has called it.
    pub(crate) fn barrier(&mut self) -> io::Result<()> {
        self.all_gather(&[0]).map(drop)
    }

    /// Sends `outgoing` to the next rank while `expected` bytes come from the one before.
    fn exchange(&mut self, outgoing: &[u8], expected: usize) -> io::Result<Vec<u8>> {
        let Some((next, previous)) = &mut self.links else {
            return Err(io::Error::other("a world of one has nobody to talk to"));
        };
        let mut received = vec![0; expected];
        let (mut sent, mut read) = (0, 0);
        while sent < outgoing.len() || read < expected {
            let upto = outgoing.len().min(sent + SEGMENT);
            next.write_all(&outgoing[sent..upto])?;
            sent = upto;
            let upto = expected.min(read + SEGMENT);
            previous.read_exact(&mut received[read..upto])?;
            read = upto;
        }
        Ok(received)
    }
}

/// What a rank says first, so that a stranger on the port is not taken for a peer.
fn greeting(rank: usize, generation: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&(rank as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&generation.to_le_bytes());
    bytes
}

fn prepare(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))
}

/// Waits until a connection can be accepted, or fails at `deadline`.
fn wait_readable(listener: &TcpListener, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the previous rank did not connect",
            ));
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn floats_of(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs `work` as every rank of a ring of `world`, each in its own thread.
    fn on_ring<T: Send>(world: usize, work: impl Fn(usize, &mut Ring) -> T + Sync) -> Vec<T> {
        let listeners: Vec<_> = (0..world)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let ports: Vec<u16> = listeners
            .iter()
            .map(|l| l.local_addr().unwrap().port())
            .collect();
        std::thread::scope(|scope| {
            let (ports, work) = (&ports, &work);
            let handles: Vec<_> = listeners
                .iter()
                .enumerate()
                .map(|(rank, listener)| {
                    scope.spawn(move || {
                        let timeout = Duration::from_secs(10);
                        work(
                            rank,
                            &mut Ring::connect(rank, ports, 0, listener, timeout).unwrap(),
                        )
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_all_reduce_equals_the_naive_sum(world in 1usize..6, length in 0usize..9000, seed in any::<u64>()) {
            // Small integers: every order of summation gives the same float, so equality is exact.
            let value = |rank: usize, at: usize| {
                (crate::random::Random::new(seed ^ at as u64, rank as u64).below(2001) as f32) - 1000.0
            };
            let results = on_ring(world, |rank, ring| {
                let mut values: Vec<f32> = (0..length).map(|at| value(rank, at)).collect();
                ring.all_reduce(&mut values).unwrap();
                values
            });
            let naive: Vec<f32> = (0..length).map(|at| (0..world).map(|rank| value(rank, at)).sum()).collect();
            prop_assert!(results.iter().all(|result| *result == naive));
        }
    }

    #[test]
    fn the_all_reduce_is_bit_equal_on_all_ranks_and_in_all_runs() {
        let run = || {
            on_ring(4, |rank, ring| {
                let mut random = crate::random::Random::new(5, rank as u64);
                let mut values: Vec<f32> = (0..50_000).map(|_| random.normal()).collect();
                ring.all_reduce(&mut values).unwrap();
                bytes_of(&values)
            })
        };
        let results = run();
        assert!(results.iter().all(|result| *result == results[0]));
        assert_eq!(results, run());
    }

    #[test]
    fn the_all_gather_is_in_the_order_of_ranks() {
        for world in 1..5 {
            let wanted: Vec<Vec<u8>> = (0..world as u8).map(|rank| vec![rank, 9]).collect();
            for found in on_ring(world, |rank, ring| {
                ring.all_gather(&[rank as u8, 9]).unwrap()
            }) {
                assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn a_silent_peer_is_an_error_after_the_time_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ports = [
            listener.local_addr().unwrap().port(),
            silent.local_addr().unwrap().port(),
        ];
        let result = Ring::connect(0, &ports, 0, &listener, Duration::from_millis(50));
        assert_eq!(
            result.err().map(|error| error.kind()),
            Some(io::ErrorKind::TimedOut)
        );
    }
}
