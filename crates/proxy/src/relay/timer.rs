//! When connections want to be looked at again: a heap and a timerfd, which is not late by a millisecond as a runtime's wheel is.

use crate::stream::{NEVER, Nanos};
use rustix::fd::OwnedFd;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

/// Nanoseconds on the monotonic clock.
pub(crate) fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).saturating_mul(1_000_000_000) + time.tv_nsec as u64
}

pub(super) struct Timers {
    fd: OwnedFd,
    heap: BinaryHeap<Reverse<(Nanos, u64)>>,
    set: Nanos,
}

impl Timers {
    pub(super) fn new() -> io::Result<Timers> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        Ok(Timers {
            fd,
            heap: BinaryHeap::new(),
            set: NEVER,
        })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Asks for `key` at a time.
    pub(super) fn add(&mut self, due: Nanos, key: u64) {
        self.heap.push(Reverse((due, key)));
    }

    /// The next key whose time has come.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<u64> {
        let Reverse((due, key)) = *self.heap.peek()?;
        if due > now {
            return None;
        }
        self.heap.pop();
        Some(key)
    }

    /// Sets the clock to the earliest time. Setting it also takes back its readiness.
    pub(super) fn arm(&mut self) -> io::Result<()> {
        let next = self.heap.peek().map_or(NEVER, |Reverse((due, _))| *due);
        if next == self.set {
            return Ok(());
        }
        self.set = next;
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let at = match next {
            NEVER => zero,
            // Zero would disarm it.
            due => Timespec {
                tv_sec: (due.max(1) / 1_000_000_000) as i64,
                tv_nsec: (due.max(1) % 1_000_000_000) as _,
            },
        };
        timerfd_settime(
            &self.fd,
            TimerfdTimerFlags::ABSTIME,
            &Itimerspec {
                it_interval: zero,
                it_value: at,
            },
        )?;
        Ok(())
    }

    /// It has gone off: the next [`Timers::arm`] must set it anew.
    pub(super) fn went_off(&mut self) {
        self.set = 0;
    }
}
