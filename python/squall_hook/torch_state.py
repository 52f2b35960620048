"""What is known of this process's PyTorch training, and how it is told to the agent."""

from __future__ import annotations

import functools
import os
import weakref
from typing import Any, Callable, List, Optional, Tuple

from . import patches, progress
from .connection import hook

# A phase's name with the step and epoch it is in.
Phase = Tuple[str, Optional[int], Optional[int]]


class State:
    """One training process has one."""

    torch: Any = None
    # A forked child is not the trainer.
    off = False
    # The outermost modules in training, as functions that return the module, or None when it is gone.
    models: List[Callable[[], Any]] = []
    handles: List[Any] = []
    look: Any = None
    # The optimizer whose steps are counted.
    counted: Callable[[], Any] = lambda: None
    # Whether a step was made in this process.
    began = False
    step_phase: Optional[Phase] = None
    forward: Any = None
    forward_phase: Optional[Phase] = None
    backward = False
    loss: Optional[float] = None
    # The learning rate of the first group of parameters, as the script left it: a number, or a tensor.
    rate: Any = None
    evaluating: Optional[Tuple[Callable[[], Any], Optional[Phase]]] = None
    # The iterator that last gave a batch to training, and the steps made since its first.
    loader: Callable[[], Any] = lambda: None
    steps_of_loader = 0
    # Samples since the last step; None when they cannot be named.
    samples: Optional[List[int]] = []
    # The same as text, where they came in one batch.
    listed: Optional[List[str]] = None
    # A file that was saved and may yet be renamed.
    saved: Optional[str] = None


def quiet(act: Callable[..., Any]) -> Callable[..., Any]:
    """`act` without its errors, and only where somebody listens."""

    @functools.wraps(act)
    def call(*args: Any) -> Any:
        if hook.silent or State.off:
            return None
        try:
            return act(*args)
        except Exception:
            return None

    return call


def models() -> List[Any]:
    """Those that still are."""
    return [model for model in [ref() for ref in State.models] if model is not None]


def remember(model: Any, parameter: Any) -> None:
    """A model in main memory is kept for its digest at the end; elsewhere memory is too dear, so there it may go."""
    on_cpu = parameter.device.type == "cpu" and os.environ.get("RANK", "0") == "0"
    State.models.append((lambda: model) if on_cpu else weakref.ref(model))


def is_training() -> bool:
    return all(model.training for model in models())


def place() -> Tuple[int, int]:
    """The step and epoch in progress."""
    epoch = progress.epoch
    if epoch is None or epoch == progress.ended:
        progress.epoch = epoch = (progress.ended or 0) + 1
    return (progress.step or 0) + 1, epoch


def begin(phase: str, step: Optional[int], epoch: Optional[int]) -> Optional[Phase]:
    """A phase begins: event and hold point. Returns what `end` wants."""
    if "phase" in progress.told:
        return None
    hook.passed("phase-begin", phase, step, epoch, True)
    return phase, step, epoch


def end(at: Optional[Phase]) -> None:
    if at is not None:
        hook.passed("phase-end", *at)


quiet_end = quiet(end)


def settle() -> None:
    """Training goes on: what could not be said before that was clear."""
    if State.saved is not None:
        path, State.saved = State.saved, None
        if os.path.exists(path):
            patches.visible(path)
    if State.evaluating is not None:
        model = State.evaluating[0]()
        if model is None or model.training:
            stop_evaluating()


def stop_evaluating() -> None:
    at, State.evaluating = State.evaluating, None
    if at is not None:
        end(at[1])


def wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replaces one function; what this version of torch does not have stays unseen."""
    original = getattr(owner, name, None)
    if original is not None and not hasattr(original, "_squall"):
        wrapped = wrapper(original)
        wrapped._squall = True
        setattr(owner, name, wrapped)
