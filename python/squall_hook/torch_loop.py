"""The training loop of PyTorch: waiting for data, forward, backward, optimizer steps, evaluation, epochs."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections import deque
from math import isfinite
from typing import Any, Callable, Optional

from . import progress, report, requests, wire
from .connection import hook
from .torch_state import Phase, State, begin, end, is_training, models, place, quiet, quiet_end, remember, settle
from .wire import member

PHASES = ("data-wait", "forward", "backward", "optimizer-step", "step-end", "epoch-end", "evaluation")
# More samples in a step than this are not listed: the list would cost more than it tells.
SAMPLES_MAX = 1024

# -- steps -----------------------------------------------------------------------------------------------------------


@quiet
def before_step(optimizer: Any, *_: Any) -> None:
    # The first optimizer that steps is the one whose steps are counted, as long as it lives.
    if State.counted() is None:
        State.counted = weakref.ref(optimizer)
    if optimizer is State.counted():
        settle()
        try:
            State.rate = optimizer.param_groups[0]["lr"]
        except (AttributeError, LookupError, TypeError):
            State.rate = None
        State.step_phase = begin("optimizer-step", *place())


@quiet
def after_step(optimizer: Any, *_: Any) -> None:
    if optimizer is not State.counted():
        return
    stop_looking()
    end(State.step_phase)
    step, epoch = place()
    samples, State.samples = State.samples, []
    State.steps_of_loader += 1
    State.began = True
    if "step" in progress.told:
        return
    if samples and "samples" not in progress.told:
        for part in State.listed or wire.listed("ids", samples, report.ROOM):
            hook.event("sample-ids", f',"epoch":{epoch},"step":{step}{part}', True)
    progress.step = progress.counted = step
    body = f',"step":{step},"epoch":{epoch}{_number("loss", State.loss)}{_number("local_loss", State.loss)}{_number("lr", State.rate)}'
    hook.reach("step-end", body, "step-end", step, epoch)


def _number(name: str, value: Any) -> str:
    if type(value) is float and isfinite(value):
        return f',"{name}":{value!r}'
    if value is None or hasattr(value, "device") and value.device.type != "cpu":
        # On another device the value would have to be waited for.
        return ""
    return member(name, value)


# -- forward ---------------------------------------------------------------------------------------------------------


class Watch:
    """A hook of one module. A copy of it, by pickle or `copy`, does nothing and needs nothing of ours."""

    def __init__(self, act: Callable[..., Any]) -> None:
        self._act = act

    def __call__(self, *args: Any) -> None:
        self._act(*args)

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")


def _counts(module: Any) -> bool:
    return State.forward is None and module.training and State.torch.is_grad_enabled()


def stop_looking() -> None:
    handle, State.look = State.look, None
    if handle is not None:
        handle.remove()


@quiet
def look(module: Any, args: Any) -> None:
    """Called before any module, until the first step is over: which is the outermost that is being trained?"""
    if not _counts(module) or type(module).__name__ == "OptimizedModule" or State.torch.compiler.is_compiling():
        return
    if State.models and progress.step:
        # The script counts its steps itself.
        stop_looking()
    parameter = next(module.parameters(), None)
    if parameter is None or any(module is known for known in models()):
        return
    remember(module, parameter)
    watch(module)
    # For this pass the module's own hooks before it are listed already; those after it are not.
    _before_forward(module, args)


def watch(module: Any) -> None:
    State.handles.append(module.register_forward_pre_hook(Watch(_before_forward)))
    State.handles.append(module.register_forward_hook(Watch(_after_forward), always_call=True))


@quiet
def _before_forward(module: Any, args: Any) -> None:
    if _counts(module):
        settle()
        State.forward = module
        State.forward_phase = begin("forward", *place())


@quiet
def _after_forward(module: Any, args: Any, result: Any) -> None:
    if State.forward is module:
        State.forward = None
        end(State.forward_phase)


# -- backward --------------------------------------------------------------------------------------------------------


@quiet
def _before_backward(args: Any, keywords: Any) -> Optional[Phase]:
    of = args[0] if args else keywords.get("tensors")
    State.loss = None
    try:
        # On another device the value would have to be waited for.
        if of.is_cpu:
            State.loss = float(of.item())
    except (AttributeError, RuntimeError, TypeError, ValueError):
        # More than one value: no loss.
        pass
    return begin("backward", *place())


def backward(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def backward(*args: Any, **keywords: Any) -> Any:
        if State.backward or hook.silent:
            return original(*args, **keywords)
        State.backward = True
        try:
            at = _before_backward(args, keywords)
            result = original(*args, **keywords)
            quiet_end(at)
            return result
        finally:
            State.backward = False

    return backward


# -- data and epochs -------------------------------------------------------------------------------------------------


@quiet
def _before_next(iterator: Any) -> Optional[Phase]:
    settle()
    if not is_training():
        return None
    try:
        known = iterator.__dict__
        batches = known.get("_squall_batches")
        if batches is None:
            batches = known["_squall_batches"] = len(iterator)
        if iterator._num_yielded >= batches:
            # There is nothing left to wait for.
            return None
    except (AttributeError, TypeError):
        pass
    return begin("data-wait", *place())


@quiet
def _after_next(iterator: Any, at: Optional[Phase]) -> None:
    end(at)
    given = iterator.__dict__.get("_squall_indices")
    indices = given.popleft() if given else None
    if not is_training():
        return
    if State.loader() is not iterator:
        State.loader, State.steps_of_loader = weakref.ref(iterator), 0
    if State.samples is not None and type(indices) is list and len(State.samples) + len(indices) <= SAMPLES_MAX:
        # Written down now, while they are in the processor's cache; further batches of the same step are rare.
        State.listed = None if State.samples else wire.listed("ids", indices, report.ROOM)
        State.samples += indices
    else:
        State.samples = None


@quiet
def _exhausted(iterator: Any, at: Optional[Phase]) -> None:
    end(at)
    iterator.__dict__.pop("_squall_indices", None)
    if State.loader() is iterator:
        State.loader = lambda: None
        end_epoch()


def end_epoch() -> None:
    """The epoch in progress is over, if a step was made in it and the script does not say so itself."""
    made, State.steps_of_loader = State.steps_of_loader, 0
    step, epoch = progress.step, progress.epoch
    if not made or epoch is None or epoch == progress.ended or "epoch" in progress.told:
        return
    progress.ended = epoch
    hook.reach("epoch-end", member("step", step) + member("epoch", epoch), "epoch-end", step, epoch)
    requests.epoch_is_over(step, epoch)


def next_batch(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        at = _before_next(self)
        try:
            data = original(self)
        except StopIteration:
            _exhausted(self, at)
            raise
        _after_next(self, at)
        return data

    return __next__


def next_index(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def next_index(self: Any) -> Any:
        index = original(self)
        if not hook.silent and not State.off:
            self.__dict__.setdefault("_squall_indices", deque()).append(index)
        return index

    return next_index


@quiet
def _new_epoch(number: Any) -> None:
    if type(number) is not int or number < 0 or "epoch" in progress.told or number + 1 == progress.epoch:
        return
    settle()
    # Where the loop left the loader before its end, this is the first sign of it.
    end_epoch()
    progress.epoch, progress.ended = number + 1, number


def set_epoch(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def set_epoch(self: Any, epoch: int) -> None:
        _new_epoch(epoch)
        return original(self, epoch)

    return set_epoch


# -- evaluation ------------------------------------------------------------------------------------------------------


@quiet
def _now_evaluating(module: Any) -> None:
    ours = any(module is model or module is getattr(model, "module", None) for model in models())
    if State.evaluating is None and module.training and ours:
        settle()
        State.evaluating = weakref.ref(module), begin("evaluation", progress.step, progress.epoch)


def evaluation(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def eval(self: Any) -> Any:
        _now_evaluating(self)
        return original(self)

    return eval
