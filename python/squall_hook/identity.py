"""Who this process is: its rank, how often the job was restarted, its role.

The topmost process of a rank is `rank`. A data-loader worker, or any other child, inherits RANK from it; so the
first process of a rank that loads the hook writes `RANK:PID` into `SQUALL_HOOK_RANK_PID`, which its children inherit
too. Whoever finds its own rank there with somebody else's pid is a `script` and has no rank.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Optional

RANK_PID = "SQUALL_HOOK_RANK_PID"


class Identity(NamedTuple):
    pid: int
    rank: Optional[int]
    local_rank: Optional[int]
    world: Optional[int]
    restart: int
    role: str


def _number(*names: str) -> Optional[int]:
    for name in names:
        text = os.environ.get(name, "")
        if text.isascii() and text.isdigit() and len(text) < 10:
            return int(text)
    return None


def current(supervisor: bool = False) -> Identity:
    """The identity now; records this process as its rank's topmost if nobody did."""
    pid = os.getpid()
    restart = _number("TORCHELASTIC_RESTART_COUNT", "RESTART", "SQUALL_RESTART") or 0
    rank = _number("RANK")
    if supervisor:
        return Identity(pid, None, None, None, restart, "supervisor")
    if rank is None:
        return Identity(pid, None, None, None, restart, "script")
    owner, _, owner_pid = os.environ.get(RANK_PID, "").partition(":")
    if owner == str(rank) and owner_pid != str(pid):
        return Identity(pid, None, None, None, restart, "script")
    os.environ[RANK_PID] = f"{rank}:{pid}"
    return Identity(pid, rank, _number("LOCAL_RANK"), _number("WORLD_SIZE"), restart, "rank")
