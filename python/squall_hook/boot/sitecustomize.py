"""Loads squall_hook into a Python process whose PYTHONPATH begins with this folder, without changing its script.

It never raises, does nothing unless SQUALL_HOOK_SOCKET and SQUALL_RUN are set, leaves helper processes alone, and then
runs the sitecustomize that it hides, whose errors stay that one's own.
"""

import os
import sys

_HELPER_MODULES = ("pip", "venv", "ensurepip", "virtualenv", "compileall", "py_compile", "site", "sysconfig", "tensorboard")
_HELPER_SCRIPTS = ("pip", "virtualenv", "conda", "tensorboard", "wandb")
_HELPER_CODE = ("resource_tracker", "semaphore_tracker", "forkserver")
_SUPERVISOR_MODULES = ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch", "deepspeed.launcher")
_SUPERVISOR_SCRIPTS = ("torchrun", "accelerate", "deepspeed", "horovodrun")


def _arguments():
    found = getattr(sys, "orig_argv", None)
    if found:
        return list(found)
    with open("/proc/self/cmdline", "rb") as file:
        return [os.fsdecode(part) for part in file.read().split(b"\0")[:-1]]


def _program(arguments):
    """What the interpreter runs: ("c", code), ("m", module), ("script", path) or ("", "")."""
    rest = iter(arguments[1:])
    for argument in rest:
        if argument == "-" or not argument.startswith("-"):
            return "script", argument
        if argument == "--check-hash-based-pycs":
            next(rest, "")
        elif not argument.startswith("--"):
            for place, letter in enumerate(argument[1:], 2):
                if letter in "cmWX":
                    value = argument[place:] or next(rest, "")
                    if letter in "cm":
                        return letter, value
                    break
    return "", ""


def _role():
    """"helper", "supervisor", or "" for any other process."""
    kind, what = _program(_arguments())
    if kind == "c":
        return "helper" if any(word in what for word in _HELPER_CODE) else ""
    if kind == "m":
        if what.partition(".")[0] in _HELPER_MODULES or what.startswith("torch._inductor"):
            return "helper"
        return "supervisor" if what.startswith(_SUPERVISOR_MODULES) else ""
    name = os.path.basename(what)
    if name.rstrip("0123456789.") in _HELPER_SCRIPTS or "_inductor/compile_worker" in what:
        return "helper"
    return "supervisor" if name in _SUPERVISOR_SCRIPTS else ""


def _start():
    role = _role()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if role == "helper":
        # A worker it forks may still say `import squall_hook`.
        sys.path.append(root)
        return
    sys.path.insert(0, root)
    try:
        import squall_hook
    finally:
        sys.path.remove(root)
    squall_hook.install(role == "supervisor")


def _chain():
    """Runs the next sitecustomize on sys.path, under its own name. Only later entries count, so two of us never loop."""
    import _frozen_importlib
    import _frozen_importlib_external

    here = os.path.dirname(__file__)
    if here not in sys.path:
        return
    later = sys.path[sys.path.index(here) + 1 :]
    spec = _frozen_importlib_external.PathFinder.find_spec("sitecustomize", later)
    if spec is None or spec.loader is None:
        return
    module = _frozen_importlib.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if os.environ.get("SQUALL_HOOK_SOCKET") and os.environ.get("SQUALL_RUN"):
    try:
        _start()
    except Exception:
        pass

_chain()
