"""Runs a function right after a module was imported, without importing it ourselves.

A finder at the front of `sys.meta_path` waits for the module's name, lets the other finders find it, and asks its loader,
on that one instance, to call us when the module is complete. Then the finder and every trace of it are gone.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict

_waiting: Dict[str, Callable[[Any], None]] = {}


def after(name: str, act: Callable[[Any], None]) -> None:
    """Calls `act(module)` once the top-level module `name` is imported; at once if it is. Errors of `act` are dropped."""
    module = sys.modules.get(name)
    if module is not None:
        _call(act, module)
        return
    _waiting[name] = act
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _call(act: Callable[[Any], None], module: Any) -> None:
    try:
        act(module)
    except Exception:
        pass


class _Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _waiting:
            return None
        spec = None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                break
        loader = getattr(spec, "loader", None)
        if loader is not None and hasattr(loader, "exec_module"):
            try:
                self._watch(name, loader)
            except Exception:
                pass
        return spec

    def _watch(self, name: str, loader: Any) -> None:
        original = loader.exec_module

        def exec_module(module: Any) -> None:
            # A failed import may be tried again, so the wait is over only after a good one.
            try:
                del loader.exec_module
            except AttributeError:
                pass
            original(module)
            act = _waiting.pop(name, None)
            if not _waiting and self in sys.meta_path:
                sys.meta_path.remove(self)
            if act is not None:
                _call(act, module)

        loader.exec_module = exec_module
