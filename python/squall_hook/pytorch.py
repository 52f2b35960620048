"""PyTorch's steps, phases, epochs and checkpoints, seen without changing the script and without importing torch.

`install` is called right after the script's own `import torch`. It uses torch's official hooks where there are some
(optimizer steps, forward passes) and wraps single functions where there are none (`backward`, the loader's `__next__`,
`set_epoch`, `eval`, `save`, `load`). Each wrapper does, returns and raises what the original does. What the script says itself
by `squall_hook.step`, `phase`, `epoch_end`, `checkpoint` or `final_parameters` is not said a second time from here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import weakref
from collections import deque
from typing import Any, Callable, List, Optional

from . import exits, patches, progress, report, requests, resume, tensors, wire
from .connection import hook
from .wire import member

PHASES = ("data-wait", "forward", "backward", "optimizer-step", "step-end", "epoch-end", "evaluation", "checkpoint-begin")
# More samples in a step than this are not listed: the list would cost more than it tells.
SAMPLES_MAX = 1024


class _State:
    """What is known of this process's training."""

    torch: Any = None
    off = False
    models: List[Any] = []
    counted: Callable[[], Any] = lambda: None
    forward: Any = None
    backward = False
    loss: Optional[float] = None
    evaluating: Any = None
    loader: Callable[[], Any] = lambda: None
    steps_of_loader = 0
    samples: Optional[List[int]] = []
    saved: Optional[str] = None
    handles: List[Any] = []
    look: Any = None
    forward_body = ""
    watched: List[Any] = []


def _quiet(act: Callable[..., Any]) -> Callable[..., Any]:
    """`act` without its errors, and only where somebody listens."""

    @functools.wraps(act)
    def call(*args: Any) -> Any:
        if hook.silent or _State.off:
            return None
        try:
            return act(*args)
        except Exception:
            return None

    return call


# -- saying ----------------------------------------------------------------------------------------------------------


def _place() -> Any:
    """The step and epoch in progress."""
    if progress.epoch is None or progress.epoch == progress.ended:
        progress.epoch = (progress.ended or 0) + 1
    return (progress.step or 0) + 1, progress.epoch


def _begin(phase: str, step: Optional[int], epoch: Optional[int]) -> str:
    if "phase" in progress.told:
        return ""
    body = member("phase", phase) + member("step", step) + member("epoch", epoch)
    hook.reach("phase-begin", body, phase, step, epoch)
    return body


def _end(body: Optional[str]) -> None:
    if body:
        hook.event("phase-end", body)


def _settle() -> None:
    """What could not be said before it was clear that training goes on."""
    if _State.saved is not None:
        path, _State.saved = _State.saved, None
        if os.path.exists(path):
            patches.renamed(path)
    at = _State.evaluating
    if at is not None and at[0]().training:
        _stop_evaluating()


def _stop_evaluating() -> None:
    at, _State.evaluating = _State.evaluating, None
    if at is not None:
        _end(at[1])


# -- steps -----------------------------------------------------------------------------------------------------------


@_quiet
def _before_step(optimizer: Any, *_: Any) -> None:
    # The first optimizer that steps is the one whose steps are counted, as long as it lives.
    if _State.counted() is None:
        _State.counted = weakref.ref(optimizer)
    if optimizer is _State.counted():
        _settle()
        _State.watched.append(_begin("optimizer-step", *_place()))


@_quiet
def _after_step(optimizer: Any, *_: Any) -> None:
    if optimizer is not _State.counted():
        return
    _stop_looking()
    while _State.watched:
        _end(_State.watched.pop())
    step, epoch = _place()
    samples, _State.samples = _State.samples, []
    _State.steps_of_loader += 1
    if "step" in progress.told:
        return
    if samples and "samples" not in progress.told:
        for part in wire.slices(samples, report.ROOM):
            hook.event("sample-ids", member("epoch", epoch) + member("step", step) + member("ids", part))
    progress.step = progress.counted = step
    body = member("step", step) + member("epoch", epoch) + member("loss", _State.loss)
    hook.reach("step-end", body, "step-end", step, epoch)


# -- forward ---------------------------------------------------------------------------------------------------------


class _Watch:
    """A hook of one module. A copy of it, by pickle or `copy`, does nothing and needs nothing of ours."""

    def __init__(self, act: Callable[..., Any]) -> None:
        self._act = act

    def __call__(self, *args: Any) -> None:
        self._act(*args)

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")


@_quiet
def _look(module: Any, args: Any) -> None:
    """Before any module is called, until the first step is over: who is the outermost that is being trained?"""
    if _State.forward is not None or not module.training or not _State.torch.is_grad_enabled():
        return
    if type(module).__name__ == "OptimizedModule" or _State.torch.compiler.is_compiling():
        return
    if any(module is known for known in _State.models) or next(module.parameters(), None) is None:
        return
    _State.models.append(module)
    _watch(module)
    # For this pass the module's own hooks before it are listed already, those after it are not.
    _before_forward(module, args)


def _watch(module: Any) -> None:
    _State.handles.append(module.register_forward_pre_hook(_Watch(_before_forward)))
    _State.handles.append(module.register_forward_hook(_Watch(_after_forward), always_call=True))


def _stop_looking() -> None:
    look, _State.look = _State.look, None
    if look is not None:
        look.remove()


@_quiet
def _before_forward(module: Any, args: Any) -> None:
    if _State.forward is not None or not module.training or not _State.torch.is_grad_enabled():
        return
    _settle()
    _State.forward = module
    _State.forward_body = _begin("forward", *_place())


@_quiet
def _after_forward(module: Any, args: Any, result: Any) -> None:
    if _State.forward is module:
        _State.forward = None
        _end(_State.forward_body)


# -- backward --------------------------------------------------------------------------------------------------------


@_quiet
def _before_backward(args: Any, keywords: Any) -> str:
    tensors_given = args[0] if args else keywords.get("tensors")
    if hasattr(tensors_given, "numel") and tensors_given.numel() == 1 and tensors_given.device.type == "cpu":
        # Elsewhere the value would have to be waited for.
        _State.loss = float(tensors_given.item())
    return _begin("backward", *_place())


def _backward(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def backward(*args: Any, **keywords: Any) -> Any:
        if _State.backward or hook.silent:
            return original(*args, **keywords)
        _State.backward = True
        try:
            body = _before_backward(args, keywords)
            result = original(*args, **keywords)
            _quiet_end(body)
            return result
        finally:
            _State.backward = False

    return backward


_quiet_end = _quiet(_end)


# -- data and epochs -------------------------------------------------------------------------------------------------


def _is_training() -> bool:
    return all(model.training for model in _State.models)


@_quiet
def _before_next(iterator: Any) -> Optional[str]:
    _settle()
    if not _is_training():
        return None
    try:
        if iterator._num_yielded >= len(iterator):
            # There is nothing left to wait for.
            return None
    except TypeError:
        pass
    return _begin("data-wait", *_place())


@_quiet
def _after_next(iterator: Any, body: Optional[str]) -> None:
    _end(body)
    given = iterator.__dict__.get("_squall_indices")
    indices = given.popleft() if given else None
    if not _is_training():
        return
    if _State.loader() is not iterator:
        _State.loader, _State.steps_of_loader = weakref.ref(iterator), 0
    if _State.samples is not None and type(indices) is list and len(_State.samples) + len(indices) <= SAMPLES_MAX:
        _State.samples += indices
    else:
        _State.samples = None


@_quiet
def _exhausted(iterator: Any, body: Optional[str]) -> None:
    _end(body)
    iterator.__dict__.pop("_squall_indices", None)
    if _State.loader() is iterator and _State.steps_of_loader:
        _State.loader = lambda: None
        _end_epoch()


def _end_epoch() -> None:
    """The epoch in progress is over, unless it is known to be."""
    step, epoch = progress.step, progress.epoch
    _State.steps_of_loader = 0
    if epoch is None or epoch == progress.ended or "epoch" in progress.told:
        return
    progress.ended = epoch
    hook.reach("epoch-end", member("step", step) + member("epoch", epoch), "epoch-end", step, epoch)
    requests.epoch_is_over(step, epoch)


def _next(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        body = _before_next(self)
        try:
            data = original(self)
        except StopIteration:
            _exhausted(self, body)
            raise
        _after_next(self, body)
        return data

    return __next__


def _next_index(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def next_index(self: Any) -> Any:
        index = original(self)
        if not hook.silent and not _State.off:
            self.__dict__.setdefault("_squall_indices", deque()).append(index)
        return index

    return next_index


@_quiet
def _new_epoch(number: Any) -> None:
    if type(number) is not int or "epoch" in progress.told or number + 1 == progress.epoch:
        return
    _settle()
    if _State.steps_of_loader:
        # The loop left the loader before its end.
        _end_epoch()
    progress.epoch = number + 1


def _set_epoch(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def set_epoch(self: Any, epoch: int) -> None:
        _new_epoch(epoch)
        return original(self, epoch)

    return set_epoch


# -- evaluation ------------------------------------------------------------------------------------------------------


@_quiet
def _now_evaluating(module: Any) -> None:
    if _State.evaluating is None and module.training and any(_is_inside(module, model) for model in _State.models):
        _settle()
        epoch = progress.ended if progress.ended is not None else progress.epoch
        _State.evaluating = weakref.ref(module), _begin("evaluation", progress.step, epoch)


def _is_inside(module: Any, model: Any) -> bool:
    return module is model or module is getattr(model, "module", None)


def _eval(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def eval(self: Any) -> Any:
        _now_evaluating(self)
        return original(self)

    return eval


# -- checkpoints -----------------------------------------------------------------------------------------------------


@_quiet
def _before_save(file: Any) -> Optional[str]:
    path = resume.path_of(file)
    if path is None or progress.local.checkpoint is not None:
        return None
    _settle()
    _stop_evaluating()
    step, epoch = progress.at()
    body = member("step", step) + member("epoch", epoch) + member("path", path)
    hook.reach("checkpoint-begin", body, "checkpoint-begin", step, epoch)
    return path


@_quiet
def _after_save(path: Optional[str]) -> None:
    # Whether this is its final name shows later: `settle` says so if no rename came before training went on.
    _State.saved = path


@contextlib.contextmanager
def _unwatched() -> Any:
    """Our hooks are not part of what is written down."""
    handles, _State.handles = _State.handles, []
    for handle in handles:
        handle.remove()
    try:
        yield
    finally:
        if handles:
            for model in _State.models:
                _watch(model)


def _save(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **keywords: Any) -> Any:
        path = _before_save(f)
        with _unwatched():
            result = original(obj, f, *args, **keywords)
        _after_save(path)
        return result

    return save


def _load(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load(f: Any, *args: Any, **keywords: Any) -> Any:
        result = original(f, *args, **keywords)
        _after_load(f)
        return result

    return load


@_quiet
def _after_load(file: Any) -> None:
    found = resume.recognise(file)
    if found is None or "loaded" in progress.told:
        return
    step, epoch, ended, path = found
    if _State.steps_of_loader == 0 and (progress.step, progress.epoch) != (step, epoch):
        progress.step, progress.epoch, progress.ended = step, epoch, ended
        hook.event("checkpoint-loaded", member("step", step) + member("epoch", epoch) + member("path", path))


# -- the end ---------------------------------------------------------------------------------------------------------


@_quiet
def _final() -> None:
    """The parameters, if training ended well and there is exactly one model."""
    if _State.steps_of_loader:
        _end_epoch()
    _settle()
    _stop_evaluating()
    if "final" in progress.told or len(_State.models) != 1 or os.environ.get("RANK", "0") != "0":
        return
    if exits.code() not in (0, None) or not progress.step:
        return
    report.final_parameters(_plain(_State.models[0]).state_dict())


def _plain(model: Any) -> Any:
    """The model without its data-parallel wrapper, so that names are the script's own."""
    wrapped = type(model).__name__ in ("DistributedDataParallel", "DataParallel")
    return model.module if wrapped else model


# -- putting it in place ---------------------------------------------------------------------------------------------


def _wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replaces one function; what this version of torch does not have stays unseen."""
    original = getattr(owner, name, None)
    if original is not None and not hasattr(original, "_squall"):
        wrapped = wrapper(original)
        wrapped._squall = True  # type: ignore[attr-defined]
        setattr(owner, name, wrapped)


def install(torch: Any) -> None:
    """Called with the freshly imported torch; offers the phases that this version shows."""
    if hook.silent or _State.torch is not None:
        return
    import atexit

    _State.torch = torch
    part = sys.modules.__getitem__
    optimizer = part("torch.optim.optimizer")
    optimizer.register_optimizer_step_pre_hook(_before_step)
    optimizer.register_optimizer_step_post_hook(_after_step)
    _State.look = part("torch.nn.modules.module").register_module_forward_pre_hook(_look)
    _wrap(torch.nn.Module, "eval", _eval)
    _wrap(torch.autograd, "backward", _backward)
    loader = part("torch.utils.data.dataloader")._BaseDataLoaderIter
    _wrap(loader, "__next__", _next)
    _wrap(loader, "_next_index", _next_index)
    _wrap(part("torch.utils.data.distributed").DistributedSampler, "set_epoch", _set_epoch)
    for owner in (torch, torch.serialization):
        _wrap(owner, "save", _save)
        _wrap(owner, "load", _load)
    hook.offer(*PHASES)
    atexit.register(_final)
    os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    _State.off = True
