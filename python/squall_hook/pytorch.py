"""PyTorch's steps, phases, epochs and checkpoints, seen without changing the script and without importing torch.

`install` is called right after the script's own `import torch`. It uses torch's official hooks where there are some
(optimizer steps, forward passes) and wraps single functions where there are none (`backward`, the loader's `__next__`,
`set_epoch`, `eval`, `save`, `load`). Each wrapper does, returns and raises what the original does. What the script says itself
by `squall_hook.step`, `phase`, `epoch_end`, `checkpoint` or `final_parameters` is not said a second time from here.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

from . import stacks, torch_files, torch_loop
from .connection import hook
from .torch_state import State, wrap


def install(torch: Any) -> None:
    """Called with the freshly imported torch. Offers the phases; `all-reduce` is not among them, so it is refused by name."""
    if hook.silent or State.torch is not None:
        return
    State.torch = torch
    part = sys.modules.__getitem__
    optimizer = part("torch.optim.optimizer")
    optimizer.register_optimizer_step_pre_hook(torch_loop.before_step)
    optimizer.register_optimizer_step_post_hook(torch_loop.after_step)
    State.look = part("torch.nn.modules.module").register_module_forward_pre_hook(torch_loop.look)
    wrap(torch.nn.Module, "eval", torch_loop.evaluation)
    wrap(torch.autograd, "backward", torch_loop.backward)
    loader = part("torch.utils.data.dataloader")._BaseDataLoaderIter
    wrap(loader, "__next__", torch_loop.next_batch)
    wrap(loader, "_next_index", torch_loop.next_index)
    wrap(part("torch.utils.data.distributed").DistributedSampler, "set_epoch", torch_loop.set_epoch)
    for owner in (torch, torch.serialization):
        wrap(owner, "save", torch_files.save)
        wrap(owner, "load", torch_files.load)
    wrap(torch.jit, "script", torch_files.script)
    if torch.distributed.is_available():
        wrap(torch.distributed, "destroy_process_group", torch_files.leave)
    hook.offer(*torch_loop.PHASES, *torch_files.PHASES)
    stacks.install()
    atexit.register(torch_files.at_exit)
    os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    State.off = True
