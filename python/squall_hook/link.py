"""One connected Unix stream socket that never blocks, cut into lines.

Not thread-safe: its owner locks. A peer that is gone, or that sends a line longer than the protocol allows,
ends the link and nothing else.
"""

from __future__ import annotations

import select
import socket
import time
from typing import List, Optional

from .wire import LINE_MAX

# What one look reads at most, so that an agent that floods us cannot keep the trainer reading.
READ_MAX = 65536


class LinkClosed(Exception):
    """The other end is gone."""


def connect(path: str, within_s: float) -> Optional["Link"]:
    """A link to the socket at `path`, or None. A full backlog is tried again until `within_s` is over."""
    until = time.monotonic() + within_s
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(path)
            return Link(sock)
        except BlockingIOError:
            sock.close()
            if time.monotonic() >= until:
                return None
            time.sleep(0.02)
        except (OSError, ValueError):
            sock.close()
            return None
        except BaseException:
            sock.close()
            raise


def wait(descriptor: int, events: int, seconds: float) -> None:
    """Sleeps until `descriptor` is ready or `seconds` are over. Uses a poll object of its own: several threads may wait."""
    poll = select.poll()
    poll.register(descriptor, events)
    try:
        poll.poll(max(0.0, seconds) * 1000)
    except OSError:
        pass


class Link:
    """See the module."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unsent = b""
        self._input = b""
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        # What `has_input` asks, without the call in between; raises where another thread is looking.
        self.look = self._poll.poll
        self.at_end = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, line: bytes) -> bool:
        """Whether the whole line was taken over (it may still wait behind us for room). Raises LinkClosed."""
        if self._unsent and not self._flush():
            return False
        sent = self._send(line)
        if sent == 0:
            return False
        self._unsent = line[sent:]
        return True

    def _flush(self) -> bool:
        self._unsent = self._unsent[self._send(self._unsent) :]
        return not self._unsent

    def _send(self, data: bytes) -> int:
        try:
            return self._sock.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            raise LinkClosed from None

    def has_input(self) -> bool:
        return bool(self._poll.poll(0))

    def read(self) -> List[bytes]:
        """The lines that are there, at most about `READ_MAX` bytes of them; `at_end` tells that no more will come."""
        taken = 0
        lines: List[bytes] = []
        while taken < READ_MAX and not self.at_end:
            try:
                data = self._sock.recv(16384)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.at_end = True
                break
            taken += len(data)
            parts = (self._input + data).split(b"\n")
            self._input = parts.pop()
            lines += [part for part in parts if len(part) < LINE_MAX]
            if len(self._input) >= LINE_MAX or any(len(part) >= LINE_MAX for part in parts):
                self.at_end = True
        return lines

    def close(self) -> None:
        try:
            self._sock.close()
        except OSError:
            pass
