"""Asking, from inside a script, that this process be ended: the oldest chaos experiment of training code.

The hook never ends a process by itself. It asks the agent, which does it through its journal, under the experiment's
lease and blast radius, or declines. Without an agent nothing happens, and one warning says so.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from . import progress
from .connection import hook

FAULTS = ("process-terminate", "process-kill")
_every: Dict[str, Any] = {}


def terminate(
    fault: str = "process-terminate",
    step: Optional[int] = None,
    epoch: Optional[int] = None,
    grace_ms: Optional[int] = None,
) -> str:
    """Asks the agent to end this process here, and waits for at most 5 s.

    Returns, if the process lives on: `landed` (the signal came and was survived), `release` (the agent declined, its
    blast radius is spent), `refused`, `expired`, `closed`, or `silent` (no agent).
    """
    try:
        if fault not in FAULTS:
            hook.warn_once("fault", f"{fault!r} cannot be requested; there are {' and '.join(FAULTS)}")
            return "refused"
        step, epoch = progress.at(step, epoch)
        body = {"fault": fault, "step": step, "epoch": epoch, "grace_ms": grace_ms}
        answer = hook.request({key: value for key, value in body.items() if value is not None})
        if answer.outcome == "silent":
            hook.warn_once("no-agent", f"no agent, so the requested {fault} does not happen")
        elif answer.outcome == "refused":
            hook.warn_once("request", f"the requested {fault} was refused: {answer.because}")
        return answer.outcome
    except Exception:
        return "silent"


def every_epochs(n: int, fault: str = "process-terminate", grace_ms: Optional[int] = None) -> None:
    """From now on `epoch_end` makes that request at each epoch that `n` divides. `n` 0 ends it."""
    _every.clear()
    if type(n) is int and n > 0:
        _every.update(n=n, fault=fault, grace_ms=grace_ms)


def epoch_is_over(step: Optional[int], epoch: Optional[int]) -> None:
    if _every and epoch is not None and epoch % _every["n"] == 0:
        terminate(_every["fault"], step, epoch, _every["grace_ms"])
