"""Checkpoints and the final parameters of PyTorch."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import Any, Callable, Iterator, Optional

from . import exits, progress, report, resume
from .connection import hook
from .torch_loop import end_epoch, watch
from .torch_state import State, models, quiet, settle, stop_evaluating
from .wire import member

PHASES = ("checkpoint-begin",)


@quiet
def _before_save(file: Any) -> Optional[str]:
    path = resume.path_of(file)
    if path is None or progress.local.checkpoint is not None:
        return None
    settle()
    stop_evaluating()
    step, epoch = progress.at()
    body = member("step", step) + member("epoch", epoch) + member("path", path)
    hook.reach("checkpoint-begin", body, "checkpoint-begin", step, epoch)
    return path


@quiet
def _after_save(path: Optional[str]) -> None:
    # Whether this is its final name shows later: `settle` says so if training goes on and no rename came.
    State.saved = path


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    """Our hooks are not part of what is written down."""
    handles, State.handles = State.handles, []
    for handle in handles:
        handle.remove()
    try:
        yield
    finally:
        if handles:
            for model in models():
                watch(model)


def save(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **keywords: Any) -> Any:
        path = _before_save(f)
        with _unwatched():
            result = original(obj, f, *args, **keywords)
        _after_save(path)
        return result

    return save


def script(original: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.jit.script` compiles a module's hooks, so ours have to be away."""

    @functools.wraps(original)
    def script(*args: Any, **keywords: Any) -> Any:
        # It looks for the caller's names this many frames up.
        keywords["_frames_up"] = keywords.get("_frames_up", 0) + 1
        with _unwatched():
            return original(*args, **keywords)

    return script


def load(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load(f: Any, *args: Any, **keywords: Any) -> Any:
        result = original(f, *args, **keywords)
        _after_load(f)
        return result

    return load


@quiet
def _after_load(file: Any) -> None:
    # What is loaded later, such as the best model for a last test, is no resumption.
    found = None if State.began or "loaded" in progress.told else resume.recognise(file)
    if found is None:
        return
    step, epoch, ended, path = found
    progress.step, progress.epoch, progress.ended = step, epoch, ended
    hook.event("checkpoint-loaded", member("step", step) + member("epoch", epoch) + member("path", path))


@quiet
def at_exit() -> None:
    """The last epoch, and the parameters if training ended well with exactly one model."""
    end_epoch()
    settle()
    stop_evaluating()
    if exits.code() in (0, None):
        _final_parameters()


def _final_parameters() -> None:
    alive = models()
    if "final" in progress.told or not progress.step or len(State.models) != 1 or not alive:
        return
    if os.environ.get("RANK", "0") != "0":
        return
    report.final_parameters(plain(alive[0]).state_dict())


def plain(model: Any) -> Any:
    """The model without its data-parallel wrapper, so that names are the script's own."""
    wrapped = type(model).__name__ in ("DistributedDataParallel", "DataParallel")
    return model.module if wrapped else model


def leave(original: Callable[..., Any]) -> Callable[..., Any]:
    """`destroy_process_group`: the last moment at which a model in GPU memory is sure to be there."""

    @functools.wraps(original)
    def destroy_process_group(*args: Any, **keywords: Any) -> Any:
        if sys.exc_info()[0] is None:
            _before_leaving()
        return original(*args, **keywords)

    return destroy_process_group


@quiet
def _before_leaving() -> None:
    on_cpu = all(parameter.device.type == "cpu" for model in models() for parameter in model.parameters())
    if not on_cpu:
        _final_parameters()
