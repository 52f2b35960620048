"""What a script may call to say where it is. Without an agent all of it does next to nothing; none of it raises.

Steps and epochs count from 1. At `step` and `epoch_end` they are completed units. Where one is left out, the last one
the script named is taken.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Dict, Iterable, Mapping, Optional, Type, Union

from . import patches, progress, requests, tensors, wire
from .connection import hook
from .digest import Entry, parameter_digest
from .wire import member

# What is left of a line for a list or a text, after the other fields.
ROOM = wire.LINE_MAX - 512


def offer(*phases: str) -> None:
    """Names the hold points this script will reach, best before its first step; other phases are offered on first use."""
    try:
        hook.offer(*[phase for phase in phases if isinstance(phase, str) and 0 < len(phase) <= 64])
    except Exception:
        pass


def identify() -> None:
    """To be called after RANK and its like were set from inside the script: says `hello` anew with them."""
    hook.identify()


def connected() -> bool:
    """Whether an agent listens to this process."""
    return hook.live


def _reach(kind: str, phase: str, body: str, step: Optional[int], epoch: Optional[int]) -> None:
    if phase not in hook.phases:
        hook.offer(phase)
    hook.reach(kind, body, phase, step, epoch)


def step(
    step: Optional[int] = None, epoch: Optional[int] = None, loss: Any = None, samples: Optional[int] = None
) -> None:
    """A step is complete; without its number it is the one after the last. Hold point `step-end`."""
    try:
        first = "step" not in progress.told
        progress.told.add("step")
        if step is None:
            step = (progress.step or 0) + 1
        seen = first and progress.counted == step
        progress.note(step, epoch)
        if hook.silent or seen:
            return
        epoch = progress.epoch
        body = member("step", step) + member("epoch", epoch) + member("loss", loss) + member("samples", samples)
        _reach("step-end", "step-end", body, step, epoch)
    except Exception:
        pass


def epoch_end(epoch: Optional[int] = None, step: Optional[int] = None, loss: Any = None) -> None:
    """An epoch is complete; to be called before its checkpoint begins. Hold point `epoch-end`."""
    try:
        first = "epoch" not in progress.told
        progress.told.add("epoch")
        if epoch is None:
            epoch = (progress.ended if progress.ended is not None else progress.epoch or 0) + 1
        seen = first and progress.ended == epoch
        progress.note(step, epoch)
        progress.ended = epoch
        step = progress.step
        if seen:
            return
        _reach("epoch-end", "epoch-end", member("step", step) + member("epoch", epoch) + member("loss", loss), step, epoch)
        requests.epoch_is_over(step, epoch)
    except Exception:
        pass


class phase:
    """`with squall_hook.phase("forward", step=641, epoch=11):` — begin, the hold point, the work, end."""

    __slots__ = ("_name", "_step", "_epoch", "_body")

    def __init__(self, name: str, step: Optional[int] = None, epoch: Optional[int] = None) -> None:
        self._name, self._step, self._epoch, self._body = name, step, epoch, ""

    def __enter__(self) -> "phase":
        try:
            progress.told.add("phase")
            progress.note(self._step, self._epoch)
            if not hook.silent:
                self._step, self._epoch = progress.at(self._step, self._epoch)
                self._body = member("phase", self._name) + member("step", self._step) + member("epoch", self._epoch)
                _reach("phase-begin", self._name, self._body, self._step, self._epoch)
        except Exception:
            pass
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._body:
            hook.event("phase-end", self._body)


class checkpoint:
    """`with squall_hook.checkpoint(path, step=…, epoch=…) as mark:` around the saving of a checkpoint.

    Begins with `checkpoint-begin` and its hold point. A rename inside is seen by itself when the hook was installed;
    a script that makes its checkpoint visible in another way calls `mark.written()` and `mark.renamed()`.
    """

    def __init__(self, path: Any = None, step: Optional[int] = None, epoch: Optional[int] = None) -> None:
        self._path = None if path is None else str(path)
        self._step, self._epoch = step, epoch
        self._outer: Any = None

    def __enter__(self) -> "checkpoint":
        try:
            hook.offer("checkpoint-begin")
            self._outer = progress.local.checkpoint
            progress.local.checkpoint = at = progress.at(self._step, self._epoch)
            body = member("step", at[0]) + member("epoch", at[1]) + member("path", self._path)
            _reach("checkpoint-begin", "checkpoint-begin", body, *at)
        except Exception:
            pass
        return self

    def written(self, path: Any = None) -> None:
        """The data is complete in `path`, and not yet visible as the checkpoint."""
        try:
            hook.offer("checkpoint-written")
            patches.written(str(path) if path is not None else self._path or "", self._path)
        except Exception:
            pass

    def renamed(self, path: Any = None) -> None:
        """The checkpoint is visible."""
        try:
            hook.offer("checkpoint-renamed")
            patches.renamed(str(path) if path is not None else self._path or "")
        except Exception:
            pass

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        progress.local.checkpoint = self._outer


def checkpoint_loaded(step: int, epoch: Optional[int] = None, path: Any = None) -> None:
    """Training goes on from a state in which `step` steps are complete; 0 is from scratch."""
    try:
        progress.told.add("loaded")
        progress.note(step, epoch)
        where = None if path is None else str(path)
        hook.event("checkpoint-loaded", member("step", step) + member("epoch", epoch) + member("path", where))
    except Exception:
        pass


def sample_ids(ids: Iterable[int], step: Optional[int] = None, epoch: Optional[int] = None) -> None:
    """The samples this rank consumed in a step. A list longer than a line goes out as several events of that step."""
    try:
        progress.told.add("samples")
        if hook.silent:
            return
        step, epoch = progress.at(step, epoch)
        for part in wire.slices(list(ids), ROOM):
            hook.event("sample-ids", member("epoch", epoch) + member("step", step) + member("ids", part))
    except Exception:
        pass


def final_parameters(
    parameters: Union[str, Mapping[str, Any], Iterable[Entry]], step: Optional[int] = None
) -> Optional[str]:
    """Reports the digest of the model's parameters and returns it.

    `parameters` is that digest; or a mapping from name to a tensor, an array or (dtype, shape, bytes), such as a
    `state_dict`; or (name, dtype, shape, bytes) entries.
    """
    try:
        if isinstance(parameters, str):
            digest = parameters.lower()
            if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
                raise ValueError("not a SHA-256 in hex")
        elif isinstance(parameters, Mapping):
            digest = parameter_digest(tensors.entries(parameters))
        else:
            digest = parameter_digest(parameters)
        progress.told.add("final")
        hook.event("final-parameters", member("digest", digest) + member("step", progress.at(step)[0]))
        return digest
    except Exception as error:
        hook.warn_once("final-parameters", f"the final parameters are not reported: {error}")
        return None


def log(line: str) -> None:
    """One line of the script's own log; what does not fit is cut."""
    try:
        if hook.silent:
            return
        text, cut = wire.shortened(str(line).rstrip("\n"), ROOM)
        hook.event("log", member("line", text) + (member("cut", True) if cut else ""))
    except Exception:
        pass


def recovery(stage: str, because: Optional[str] = None) -> None:
    """Said by a supervisor: `detected`, `torn-down`, `rescheduled` (the job has its machines again) or `started`."""
    try:
        text = None if because is None else wire.shortened(str(because), 1024)[0]
        hook.event("recovery", member("stage", stage) + member("because", text))
    except Exception:
        pass
