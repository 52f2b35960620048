"""Where a process stands when nothing happens any more: the Python stacks of all its threads, without a signal.

A thread looks ten times a second whether the process said anything; after `HANG_S` of silence in the middle of training it sends
the stacks, once for each silence. It needs the interpreter's lock: a wait in gloo, NCCL or a lock gives it away, a loop in C that
keeps it is not seen. A process that is stopped cannot look; so a process that is held, because a fault is about to be
aimed at it, sends where it stands before.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from typing import Any

from . import progress, wire
from .connection import hook
from .torch_state import State
from .wire import member

HANG_S = 5.0
FRAMES_MAX = 24
ROOM = wire.LINE_MAX - 1024


def text(mine: int) -> str:
    """The stacks, innermost call first; the main thread's first, this thread's own not at all."""
    main = threading.main_thread().ident
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = [(ident, frame) for ident, frame in sys._current_frames().items() if ident != mine]
    parts = []
    for ident, frame in sorted(frames, key=lambda pair: pair[0] != main):
        parts.append(f"thread {names.get(ident, ident)}:")
        calls = [call for call in traceback.extract_stack(frame) if "squall_hook" not in call.filename]
        for call in calls[::-1][:FRAMES_MAX]:
            parts.append(f"  {call.name} ({call.filename}:{call.lineno}) {call.line or ''}".rstrip())
    return "\n".join(parts)


def tell(because: str, mine: int) -> None:
    """Sends the event `stack`."""
    shown, cut = wire.shortened(text(mine), ROOM)
    step, epoch = progress.at()
    body = member("step", step) + member("epoch", epoch) + member("because", because) + member("line", shown)
    hook.event("stack", body + (member("cut", True) if cut else ""))


def held(phase: str) -> None:
    """This very thread is about to be held."""
    try:
        tell(f"held in {phase}", 0)
    except Exception:
        pass


def _limit() -> float:
    try:
        return max(0.1, float(os.environ.get("SQUALL_HOOK_HANG_S", HANG_S)))
    except ValueError:
        return HANG_S


def _watch() -> None:
    limit, said, since, told = _limit(), -1, 0.0, False
    # Also what waits in the queue is not to wait for long.
    pause = min(0.1, limit / 2)
    while not hook.silent:
        time.sleep(pause)
        now = time.monotonic()
        hook.flush()
        if hook.said != said:
            said, since, told = hook.said, now, False
        elif State.began and not told and now - since >= limit:
            told = True
            try:
                tell(f"nothing happened for {now - since:.0f} s", threading.get_ident())
            except Exception:
                pass
            said = hook.said


def install() -> Any:
    """Begins to watch this process."""
    hook.before_hold = held
    thread = threading.Thread(target=_watch, name="squall-hook", daemon=True)
    thread.start()
    return thread
