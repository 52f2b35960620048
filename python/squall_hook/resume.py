"""Which step a loaded checkpoint is of, without asking the script.

A script that goes on from a checkpoint does not say from which step; without that, its first step after a restart would be
counted as step 1. So the file that became visible is noted with the step and epoch of that moment, in the run's own
folder, and recognised when it is loaded again, by device, inode, size and time of change. What is not recognised
(a copy, a file of an earlier run) is not guessed.
"""

from __future__ import annotations

import json
import os
from typing import Any, List, Optional, Tuple

from . import progress

FILE = "checkpoints-seen.jsonl"
# The ledger is read from its end; older entries than these are of files long gone.
READ_MAX = 1 << 20


def _ledger() -> Optional[str]:
    folder = os.environ.get("SQUALL_HOOK_STATE")
    return os.path.join(folder, FILE) if folder else None


def _mark(status: os.stat_result) -> List[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def note(path: str) -> None:
    """The file at `path` is now a checkpoint of where training is."""
    try:
        ledger = _ledger()
        step, epoch = progress.at()
        if ledger is None or step is None:
            return
        entry = {"file": _mark(os.stat(path)), "step": step, "epoch": epoch, "ended": progress.ended}
        line = (json.dumps(entry) + "\n").encode()
        at = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(at, line)
        finally:
            os.close(at)
    except Exception:
        pass


def recognise(file: Any) -> Optional[Tuple[int, Optional[int], Optional[int], str]]:
    """Step, epoch, last ended epoch and path of the checkpoint that `file`, a path or an open file, holds."""
    try:
        ledger = _ledger()
        path = path_of(file)
        if ledger is None or path is None:
            return None
        mark = _mark(os.stat(path))
        with open(ledger, "rb") as lines:
            lines.seek(max(0, os.fstat(lines.fileno()).st_size - READ_MAX))
            for line in reversed(lines.read().splitlines()):
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if entry["file"] == mark:
                    return entry["step"], entry["epoch"], entry["ended"], path
    except Exception:
        pass
    return None


def path_of(file: Any) -> Optional[str]:
    """The path of what `torch.save` and `torch.load` take; None for a buffer in memory."""
    if isinstance(file, (str, os.PathLike)):
        return os.path.abspath(os.fspath(file))
    name = getattr(file, "name", None)
    return os.path.abspath(name) if isinstance(name, str) and os.path.exists(name) else None
