"""This process's side of the hook protocol: events, holds, requests.

What it keeps: nothing here raises into the trainer, and nothing blocks it, except an armed hold or a request, for at
most `HOLD_S`. Once the agent is gone, or was never there, the hook is silent for the rest of the process. A forked
child never uses its parent's connection: it opens its own when it first has something to say.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Set, Tuple, TypeVar

from . import identity, link, wire

HOLD_S = 5.0
CONNECT_S = 0.5
WELCOME_S = 0.5
# What the agent says is looked for at most this often while phases pass: a look costs as much as the phase's line.
REST_NS = 10_000_000
# A waiter looks this often whether another thread read its answer, or closed the link.
LOOK_S = 0.05
PHASES_MAX = 64
QUEUE_MAX = 16
# Waking the agent costs ten times as much as a line, so lines that may wait go out together when the last sending was so recent.
QUEUE_NS = 20_000_000

FRESH, LIVE, SILENT = 0, 1, 2
T = TypeVar("T")


class Answer(NamedTuple):
    """`outcome` is landed, release, refused, expired, closed or silent."""

    outcome: str
    because: str = ""


class Hook:
    """The one connection of a process; `hook` below is it."""

    def __init__(self) -> None:
        self._state = FRESH
        self.silent = False  # for good; an attribute, because each wrapper around the training asks
        self._supervisor = False
        self._rank: Optional[int] = None
        self.phases: List[str] = []
        # Called with the phase in the thread that is about to be held.
        self.before_hold: Optional[Callable[[str], None]] = None
        self._warned: Set[str] = set()
        self._fired: Deque[str] = deque(maxlen=1024)
        self._link: Optional[link.Link] = None
        self._reset()

    def _reset(self) -> None:
        # Re-entrant, because a signal handler of the script may save a checkpoint while we are inside.
        self._lock = threading.RLock()
        self._inside = False
        self._arms: List[wire.Arm] = []
        self._waiting: Set[str] = set()
        self._answers: Dict[str, Answer] = {}
        self._seq = 0
        self._queue: List[bytes] = []
        # Phases that were passed and are not yet written as lines: time, kind, phase, step, epoch.
        self._passed: List[Tuple[int, str, str, Optional[int], Optional[int]]] = []
        self._flushed_ns = self._looked_ns = 0
        self._dropped = 0
        # Counted apart, because whoever is interrupted may be just about to change the other counter.
        self._missed = self._missed_told = self._lost_told = self._requests = 0
        self._welcomed = False

    # -- what the rest of the package calls ---------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether an agent listens, as far as is known."""
        return self._state == LIVE

    @property
    def said(self) -> int:
        """A number that changes whenever something is said."""
        return self._seq + self._dropped + len(self._queue) + len(self._passed)

    def start(self, supervisor: bool = False) -> None:
        """Connects now instead of with the first event."""
        self._supervisor = supervisor
        self._guarded(lambda: True, False)

    def offer(self, *phases: str) -> None:
        """Adds hold points to what this process can offer. When `hello` is out already, a new connection says it."""
        new = [p for p in dict.fromkeys(phases) if p not in self.phases][: PHASES_MAX - len(self.phases)]
        if new:
            self.phases += new
            self._again()

    def identify(self) -> None:
        """Says `hello` anew, with the environment as it is now."""
        self._again()

    def event(self, kind: str, body: str = "", soon: bool = False) -> bool:
        """Sends an event if there is room; otherwise it is dropped and counted. `soon`: it may wait for the next one."""
        if self._state == SILENT:
            return False
        return self._guarded(self._send_event, False, kind, body, soon)

    def passed(self, kind: str, phase: str, step: Optional[int], epoch: Optional[int], hold: bool = False) -> None:
        """The begin or end of a phase: noted without the lock, and written with the next event. `hold`: its hold point."""
        if self._state != LIVE:
            return
        now = time.monotonic_ns()
        self._passed.append((now, kind, phase, step, epoch))
        if now - self._flushed_ns >= QUEUE_NS or len(self._passed) >= QUEUE_MAX:
            self._flushed_ns = now
            self.flush()
        if hold and self._may_hold(now, phase, step):
            self.hold_point(phase, step, epoch)

    def _may_hold(self, now: int, phase: str, step: Optional[int]) -> bool:
        if self._arms and any(a.phase == phase and (a.step is None or a.step == step) for a in self._arms):
            return True
        if now - self._looked_ns < REST_NS or self._link is None:
            return False
        self._looked_ns = now
        try:
            return bool(self._link.look(0))
        except Exception:  # Another thread is looking, or has closed it.
            return True

    def reach(
        self,
        kind: str,
        body: str,
        phase: str,
        step: Optional[int] = None,
        epoch: Optional[int] = None,
        soon: bool = False,
    ) -> None:
        """An event and its hold point, under one lock. A hold sends what waits."""
        if self._state == SILENT:
            return
        arm = self._guarded(self._send_and_reach, None, kind, body, phase, step, epoch, soon)
        if arm is not None:
            self._hold(arm, step, epoch)

    def hold_point(self, phase: str, step: Optional[int] = None, epoch: Optional[int] = None) -> None:
        """Reads what the agent said, and blocks here if it armed this place."""
        if self._state == SILENT:
            return
        arm = self._guarded(self._reach, None, phase, step, epoch)
        if arm is not None:
            self._hold(arm, step, epoch)

    def _hold(self, arm: wire.Arm, step: Optional[int], epoch: Optional[int]) -> None:
        if self.before_hold is not None:
            self.before_hold(arm.phase)
        body = {"id": arm.id, "step": step, "epoch": epoch, "phase": arm.phase}
        self._ask(arm.id, wire.line("hold", body))

    def request(self, body: Dict[str, Any]) -> Answer:
        """Asks the agent for something, and blocks until it answers."""
        if not self._guarded(lambda: True, False):
            return Answer("silent")
        with self._lock:
            self._requests += 1
            ident = f"r{self._requests}"
        line = wire.line("request", {"id": ident, **body})
        return self._ask(ident, line) if len(line) <= wire.LINE_MAX else Answer("silent")

    def flush(self) -> None:
        """Sends what waits for the next event."""
        if self._state == LIVE and (self._queue or self._passed):
            self._guarded(self._flush, False)

    def close(self) -> None:
        """The end of the process: nothing is sent any more."""
        self.flush()
        self._silence()

    def warn_once(self, key: str, text: str) -> None:
        """One line to standard error, at most once a process for each key."""
        if key in self._warned:
            return
        self._warned.add(key)
        plain = "".join(c if c.isprintable() else " " for c in text[:500])
        try:
            sys.stderr.write(f"squall-hook: {plain}\n")
        except Exception:
            pass

    # -- the one way in -------------------------------------------------------------------------------------------

    def _guarded(self, act: Callable[..., T], otherwise: T, *args: Any) -> T:
        """Runs `act` with the lock, connected; `otherwise` where that cannot be. Never raises an Exception."""
        if self._state == SILENT:
            return otherwise
        try:
            with self._lock:
                if self._inside:
                    # A signal handler that interrupted us in this very thread.
                    self._missed += act in (self._send_event, self._send_and_reach)
                    return otherwise
                self._inside = True
                try:
                    if self._state == FRESH:
                        self._open()
                    return act(*args) if self._state == LIVE else otherwise
                finally:
                    self._inside = False
        except Exception:
            self._last_words()
            return otherwise

    def _last_words(self) -> None:
        try:
            with self._lock:
                # An agent that refuses us says why before it closes.
                self._read()
        except Exception:
            pass
        self._silence()

    def _silence(self) -> None:
        self._state, self.silent = SILENT, True
        old, self._link = self._link, None
        self._arms = []
        if old is not None:
            old.close()

    # -- connecting ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        path, run = os.environ.get("SQUALL_HOOK_SOCKET"), os.environ.get("SQUALL_RUN")
        new = link.connect(path, CONNECT_S) if path and run else None
        if new is None:
            return self._silence()
        me = identity.current(self._supervisor)
        hello = {"v": wire.VERSION, **me._asdict(), "phases": self.phases}
        self._rank = me.rank
        if self._link is not None:
            self._flush()
        old, self._link, self._seq, self._state = self._link, new, 0, LIVE
        if old is not None:
            old.close()
        self._welcomed = False
        new.send(wire.line("hello", hello))
        # Holds of the very first hold points come with the welcome; a mute agent costs this much, once.
        until = time.monotonic() + WELCOME_S
        while self._state == LIVE and not self._welcomed:
            left = until - time.monotonic()
            if left <= 0:
                break
            link.wait(new.fileno(), select.POLLIN, left)
            self._read()

    def _again(self) -> None:
        if self._state == LIVE:
            self._guarded(self._open, None)

    def after_fork(self) -> None:
        """In the child: forget the parent's connection, keep its silence."""
        old, self._link = self._link, None
        if old is not None:
            old.close()
        self._reset()
        self._supervisor = False
        if self._state == LIVE:
            self._state = FRESH

    # -- sending -----------------------------------------------------------------------------------------------------

    def _write(self, now: int, kind: str, body: str) -> bool:
        lost = 0
        if not self._queue:
            missed = self._missed
            self._dropped += missed - self._missed_told
            self._missed_told = missed
            self._lost_told = lost = self._dropped
        data = wire.event_line(self._seq + len(self._queue) + 1, now, kind, body, lost)
        if len(data) > wire.LINE_MAX:
            self._dropped += 1
            return False
        self._queue.append(data)
        return True

    def _write_passed(self) -> None:
        # Whoever adds to the list meanwhile does so at its end. The first line of a sending says what was lost.
        passed = self._passed[:]
        for now, kind, phase, step, epoch in passed:
            if self._queue:
                self._queue.append(wire.phase_line(self._seq + len(self._queue) + 1, now, kind, phase, step, epoch))
            else:
                self._write(now, kind, wire.place(phase, step, epoch))
        del self._passed[: len(passed)]

    def _send_event(self, kind: str, body: str, soon: bool = False) -> bool:
        if self._passed:
            self._write_passed()
        now = time.monotonic_ns()
        if not self._write(now, kind, body):
            return False
        if soon and len(self._queue) < QUEUE_MAX and now - self._flushed_ns < QUEUE_NS:
            return True
        self._flushed_ns = now
        return self._flush()

    def _send_after(self, line: bytes) -> bool:
        self._flush()
        return self._link is not None and self._link.send(line)

    def _flush(self) -> bool:
        assert self._link is not None
        if self._passed:
            self._write_passed()
        lines, self._queue = self._queue, []
        if not lines:
            return True
        if self._link.send(b"".join(lines)):
            self._seq += len(lines)
            self._dropped -= self._lost_told
            return True
        self._dropped += len(lines)
        return False

    def _send_and_reach(
        self, kind: str, body: str, phase: str, step: Optional[int], epoch: Optional[int], soon: bool
    ) -> Optional[wire.Arm]:
        self._send_event(kind, body, soon)
        return self._reach(phase, step, epoch) if self._state == LIVE else None

    def _ask(self, ident: str, line: bytes) -> Answer:
        """Sends `line` and waits for the answer to `ident`; other threads go on meanwhile."""
        until = time.monotonic() + HOLD_S
        sent = False
        self._waiting.add(ident)
        try:
            while True:
                at = self._link
                if at is None:
                    return Answer("closed")
                if not sent:
                    sent = self._guarded(self._send_after, False, line)
                self._guarded(self._read, None)
                answer = self._answers.pop(ident, None)
                if answer is not None:
                    return answer
                left = until - time.monotonic()
                if left <= 0:
                    break
                if self._state == LIVE:
                    link.wait(at.fileno(), select.POLLIN if sent else select.POLLIN | select.POLLOUT, min(left, LOOK_S))
        finally:
            self._waiting.discard(ident)
            self._answers.pop(ident, None)
        self.event("hold-expired", wire.member("id", ident))
        return Answer("expired")

    # -- reading -----------------------------------------------------------------------------------------------------

    def _reach(self, phase: str, step: Optional[int], epoch: Optional[int]) -> Optional[wire.Arm]:
        self._read()
        for arm in self._arms:
            if (
                arm.phase == phase
                and (arm.rank is None or arm.rank == self._rank)
                and (arm.step is None or arm.step == step)
                and (arm.epoch is None or arm.epoch == epoch)
            ):
                self._arms = [other for other in self._arms if other.id != arm.id]
                self._fired.append(arm.id)
                return arm
        return None

    def _read(self) -> None:
        at = self._link
        if at is None or not at.has_input():
            return
        for raw in at.read():
            message = wire.parse(raw)
            if message is not None:
                self._take(*message)
        if at.at_end and self._link is at:
            self._silence()

    def _take(self, kind: str, body: Dict[str, Any]) -> None:
        ident = body.get("id")
        if kind == "welcome":
            self._welcomed = True
            if body.get("v") != wire.VERSION:
                self._refused(f"the agent speaks version {body.get('v')!r}, this hook speaks {wire.VERSION}")
            self._arm(body.get("arm"))
        elif kind == "arm":
            self._arm(body.get("holds"))
        elif kind in ("landed", "release") and type(ident) is str:
            if ident in self._waiting:
                self._answers.setdefault(ident, Answer(kind))
            elif kind == "release":
                self._arms = [arm for arm in self._arms if arm.id != ident]
        elif kind == "refused":
            because = str(body.get("because", "no reason given"))[:500]
            if ident is None:
                self._refused(because)
            elif type(ident) is str and ident in self._waiting:
                self._answers.setdefault(ident, Answer(kind, because))

    def _arm(self, entries: Any) -> None:
        if self._state == LIVE:
            self._arms = [arm for arm in wire.arms(entries) if arm.id not in self._fired]

    def _refused(self, because: str) -> None:
        self.warn_once("refused", f"refused, this process is not observed: {because}")
        self._silence()


hook = Hook()
os.register_at_fork(after_in_child=hook.after_fork)
