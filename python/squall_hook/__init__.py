"""squall-hook: tells Squall what a training process does, and lets it wait at an exact place.

Standard library only. No socket, no agent, a full buffer, a closed connection: the hook falls silent; it never
fails, ends or slows down the training by itself.
"""

from .digest import parameter_digest
from .report import (
    checkpoint,
    checkpoint_loaded,
    connected,
    epoch_end,
    final_parameters,
    identify,
    log,
    offer,
    phase,
    recovery,
    sample_ids,
    step,
)
from .requests import every_epochs, terminate

__version__ = "0.1.0"

__all__ = [
    "checkpoint",
    "checkpoint_loaded",
    "connected",
    "epoch_end",
    "every_epochs",
    "final_parameters",
    "identify",
    "install",
    "log",
    "offer",
    "parameter_digest",
    "phase",
    "recovery",
    "sample_ids",
    "step",
    "terminate",
]


def install(supervisor: bool = False) -> None:
    """Observes this process without its help: renames of checkpoints, its exit. Connects at once. The boot file calls it."""
    from . import exits, imports, patches
    from .connection import hook

    if supervisor:
        hook.offer(exits.PHASE)
    else:
        hook.offer(*patches.PHASES, exits.PHASE)
    hook.start(supervisor)
    if hook.live:
        if not supervisor:
            patches.install()
            imports.after("torch", _torch)
        exits.install()


def _torch(module: object) -> None:
    from .connection import hook

    try:
        from . import pytorch

        pytorch.install(module)
    except Exception as error:
        hook.warn_once("torch", f"PyTorch's steps and phases are not observed: {error!r}")
