"""The last step and epoch that the script named; what events take when they are not told theirs.

A checkpoint block may name its own, for the thread it runs in.
"""

from __future__ import annotations

import threading
from typing import Optional, Set, Tuple


class _Local(threading.local):
    checkpoint: Optional[Tuple[Optional[int], Optional[int]]] = None


step: Optional[int] = None
epoch: Optional[int] = None
# The last epoch that was reported as complete.
ended: Optional[int] = None
# The last step that was reported without the script's help.
counted: Optional[int] = None
# What the script says by itself: "step", "epoch", "phase", "samples", "loaded", "final".
told: Set[str] = set()
local = _Local()


def at(own_step: Optional[int] = None, own_epoch: Optional[int] = None) -> Tuple[Optional[int], Optional[int]]:
    """The given step and epoch, completed by what is known."""
    named = local.checkpoint or (None, None)
    return (
        own_step if own_step is not None else named[0] if named[0] is not None else step,
        own_epoch if own_epoch is not None else named[1] if named[1] is not None else epoch,
    )


def note(new_step: Optional[int], new_epoch: Optional[int]) -> None:
    global step, epoch
    if new_step is not None:
        step = new_step
    if new_epoch is not None:
        epoch = new_epoch
