"""Sees checkpoints of plain scripts: `os.replace` and `os.rename` of a file.

A checkpoint that is written to a temporary file and renamed is complete before the rename and visible after it; these
two places become `checkpoint-written` (with its hold point) and `checkpoint-renamed`. Renames that are not the script's
(byte code, log rotation, caches, packages) are left alone. Opening files is not patched. The call itself, its result
and its exceptions are always the original's.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import Any, Callable, Optional, Tuple

from . import progress, resume
from .connection import hook
from .wire import member

PHASES = ("checkpoint-written", "checkpoint-renamed")
_FOREIGN_CALLERS = frozenset(
    "logging importlib py_compile compileall pip setuptools matplotlib huggingface_hub triton filelock wandb".split()
)
_FOREIGN_FOLDERS = frozenset(["__pycache__", ".cache", ".git", ".triton", "site-packages", "dist-packages"])
_FOREIGN_ENDS = (".pyc", ".pyo", ".log", ".lock", ".py")


def is_checkpoint(source: str, target: str, caller: str) -> bool:
    """Whether the rename of a file, made by the module `caller`, may be a checkpoint becoming visible."""
    if caller.partition(".")[0] in _FOREIGN_CALLERS or caller.startswith("torch._inductor"):
        return False
    for path in (source, target):
        *folders, name = path.split("/")
        if not _FOREIGN_FOLDERS.isdisjoint(folders) or any(f.startswith("torchinductor_") for f in folders):
            return False
        if name.endswith(_FOREIGN_ENDS) or ".log." in name:
            return False
    return True


def _paths(args: Tuple[Any, ...], keywords: Any, depth: int) -> Optional[Tuple[str, str]]:
    """Source and target of a rename that counts; never raises."""
    try:
        if hook.silent or keywords.get("src_dir_fd") is not None or keywords.get("dst_dir_fd") is not None:
            return None
        source = os.path.abspath(os.fsdecode(args[0] if args else keywords["src"]))
        target = os.path.abspath(os.fsdecode(args[1] if len(args) > 1 else keywords["dst"]))
        caller = sys._getframe(depth).f_globals.get("__name__")
        if not is_checkpoint(source, target, caller if type(caller) is str else ""):
            return None
        return (source, target) if stat.S_ISREG(os.lstat(source).st_mode) else None
    except Exception:
        return None


def written(source: str, target: Optional[str]) -> None:
    """The data is in `source`, the rename to `target` has not happened."""
    step, epoch = progress.at()
    body = member("step", step) + member("epoch", epoch) + member("path", source) + member("to", target)
    hook.event("checkpoint-written", body)
    hook.hold_point("checkpoint-written", step, epoch)


def renamed(target: str) -> None:
    """The checkpoint is visible under its name."""
    step, epoch = progress.at()
    hook.event("checkpoint-renamed", member("step", step) + member("epoch", epoch) + member("path", target))
    hook.hold_point("checkpoint-renamed", step, epoch)


def visible(path: str) -> None:
    """A file that was saved under its final name counts as renamed."""
    resume.note(path)
    renamed(path)


class Rename:
    """Stands for `os.rename` or `os.replace`.

    An object, not a function: pathlib up to Python 3.10 keeps these as class attributes, and a function would
    be bound to the instance there.
    """

    def __init__(self, original: Callable[..., None], name: str) -> None:
        self.__wrapped__ = original
        self.__name__ = self.__qualname__ = name
        self.__doc__ = original.__doc__
        self.__module__ = "os"

    def __call__(self, *args: Any, **keywords: Any) -> None:
        paths = _paths(args, keywords, 2)
        if paths is None:
            return self.__wrapped__(*args, **keywords)
        written(*paths)
        result = self.__wrapped__(*args, **keywords)
        visible(paths[1])
        return result

    def __reduce__(self) -> str:
        return self.__name__

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


def install() -> None:
    """Patches both, once."""
    pathlib = sys.modules.get("pathlib")
    accessor = getattr(pathlib, "_NormalAccessor", None)
    for name in ("rename", "replace"):
        original = getattr(os, name)
        if isinstance(original, Rename):
            continue
        patched = Rename(original, name)
        for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if original in supported:
                supported.add(patched)
        setattr(os, name, patched)
        if accessor is not None and getattr(accessor, name, None) is original:
            setattr(accessor, name, patched)
