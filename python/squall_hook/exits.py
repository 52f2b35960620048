"""The end of the process: an `exit` event with its code, and the `exit` hold point, after all other exit handlers.

The interpreter does not tell its exit code to anybody inside. It is known after `sys.exit`, `exit()`, an unhandled
exception, and when a script file ran to its end: the interpreter then takes `__file__` out of `__main__`, and leaves it
there when SystemExit ended the script. Otherwise (a plain `raise SystemExit(n)`, `python -c`) the code is null. The status
that the parent collects is the truth. `os._exit`, `exec` and signals are not seen.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any, Optional

from . import progress
from .connection import hook
from .wire import member, shortened

PHASE = "exit"
_NONE = object()


class _State:
    pid: Optional[int] = None
    asked: Any = _NONE
    after_error = False


class Exit:
    """Stands for `sys.exit`; remembers the code and does what the original does."""

    def __init__(self, original: Any) -> None:
        self.__wrapped__ = original
        self.__name__ = self.__qualname__ = "exit"
        self.__doc__ = original.__doc__
        self.__module__ = "sys"

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        remember(args[0] if args else None)
        return self.__wrapped__(*args, **keywords)

    def __reduce__(self) -> str:
        return "exit"

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


def remember(code: Any) -> None:
    """`code` was asked for; it counts if this is the main thread."""
    try:
        import threading

        if threading.current_thread() is threading.main_thread():
            _State.asked = code
            _State.after_error = getattr(sys, "last_type", None) is not None
    except Exception:
        pass


def code_of(asked: Any) -> int:
    """What the interpreter makes of an argument of `sys.exit`."""
    if asked is None:
        return 0
    return asked & 0xFF if isinstance(asked, int) else 1


def code() -> Optional[int]:
    """The exit code as far as it can be known."""
    error = getattr(sys, "last_type", None)
    main = sys.modules.get("__main__")
    is_file = getattr(main, "__spec__", None) is None and isinstance(
        getattr(getattr(main, "__loader__", None), "path", None), str
    )
    ended = is_file and not hasattr(main, "__file__")
    if _State.asked is not _NONE and not (ended if error is None else not _State.after_error):
        return code_of(_State.asked)
    if error is not None:
        return 130 if issubclass(error, KeyboardInterrupt) else 1
    return 0 if ended else None


def _error() -> Optional[str]:
    """The exception that ends the process, in one line."""
    error = getattr(sys, "last_value", None)
    if error is None:
        return None
    return shortened(f"{type(error).__name__}: {error}".splitlines()[0], 512)[0]


def _at_exit() -> None:
    try:
        # A forked child that leaves through here says nothing unless it spoke before.
        if hook.silent or not (hook.live or _State.pid == os.getpid()):
            return
        value = code()
        step, epoch = progress.at()
        hook.event("exit", (',"code":null' if value is None else member("code", value)) + member("because", _error()))
        hook.hold_point(PHASE, step, epoch)
        hook.close()
    except Exception:
        pass


def install() -> None:
    """Registers first, so that it runs after what the script registers."""
    if _State.pid is not None:
        return
    _State.pid = os.getpid()
    atexit.register(_at_exit)
    sys.exit = Exit(sys.exit)  # type: ignore[assignment]
    quitter = getattr(sys.modules.get("_sitebuiltins"), "Quitter", None)
    if quitter is not None:
        original = quitter.__call__

        def call(self: Any, code: Any = None) -> Any:
            remember(code)
            return original(self, code)

        quitter.__call__ = call
