"""As much of torch as the hook touches, for machines without it: the same names in the same modules, the same order of calls."""

import json
import sys
import types
from types import SimpleNamespace


def _module(name, **members):
    module = types.ModuleType("torch." + name)
    module.__dict__.update(members)
    sys.modules["torch." + name] = module
    owner, _, last = name.rpartition(".")
    setattr(sys.modules["torch." + owner] if owner else sys.modules["torch"], last, module)
    return module


_pre, _post, _modules = [], [], []
_grad = [True]


class _Handle:
    def __init__(self, where, hook):
        self.where, self.hook = where, hook
        where.append(hook)

    def remove(self):
        self.where.remove(self.hook)


class Tensor:
    device = SimpleNamespace(type="cpu")
    is_cpu = True

    def __init__(self, value):
        self.value = value

    def numel(self):
        return 1

    def item(self):
        return self.value

    def backward(self):
        autograd.backward(self)


class no_grad:
    def __enter__(self):
        _grad[0] = False

    def __exit__(self, *_):
        _grad[0] = True


def is_grad_enabled():
    return _grad[0]


class Module:
    def __init__(self):
        self.training, self._before, self._after, self.weight = True, [], [], Tensor(1.0)

    def parameters(self):
        return iter([self.weight])

    def state_dict(self):
        return {"weight": ("F32", [1], b"\0\0\x80\x3f")}

    def register_forward_pre_hook(self, hook):
        return _Handle(self._before, hook)

    def register_forward_hook(self, hook, always_call=False):
        return _Handle(self._after, hook)

    def __call__(self, x):
        for hook in (*_modules, *self._before):
            hook(self, (x,))
        result = self.forward(x)
        for hook in list(self._after):
            hook(self, (x,), result)
        return result

    def train(self, mode=True):
        self.training = mode
        return self

    def eval(self):
        return self.train(False)


class Linear(Module):
    def __init__(self, *_):
        super().__init__()
        self.inner = None

    def forward(self, x):
        return self.inner(x) if self.inner else Tensor(0.5)


class SGD:
    def __init__(self, *_, lr=0.1, **__):
        self.param_groups = [{"lr": lr}]
        self.steps = 0

    def zero_grad(self):
        pass

    def step(self):
        for hook in list(_pre):
            hook(self, (), {})
        self.steps += 1
        for hook in list(_post):
            hook(self, (), {})


class _BaseDataLoaderIter:
    def __init__(self, loader):
        self._loader, self._num_yielded = loader, 0
        self._sampler_iter = iter(loader.batches)

    def __iter__(self):
        return self

    def __len__(self):
        return len(self._loader.batches)

    def _next_index(self):
        return next(self._sampler_iter)

    def __next__(self):
        index = self._next_index()
        self._num_yielded += 1
        return index


class DataLoader:
    def __init__(self, data, batch_size, sampler=None):
        self.batches = [list(data[at : at + batch_size]) for at in range(0, len(data), batch_size)]

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return _BaseDataLoaderIter(self)


class DistributedSampler:
    def __init__(self, *_, **__):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch


def save(obj, f):
    with open(f, "w") as file:
        json.dump(obj if isinstance(obj, (int, str)) else "model", file)


def load(f):
    with open(f) as file:
        return json.load(file)


def _register_pre(hook):
    return _Handle(_pre, hook)


def _register_post(hook):
    return _Handle(_post, hook)


compiler = SimpleNamespace(is_compiling=lambda: False)
autograd = _module("autograd", backward=lambda tensors, **_: None)
nn = _module("nn", Module=Module, Linear=Linear)
_module("nn.modules")
_module("nn.modules.module", register_module_forward_pre_hook=lambda hook: _Handle(_modules, hook))
optim = _module("optim", SGD=SGD)
_module("optim.optimizer", register_optimizer_step_pre_hook=_register_pre, register_optimizer_step_post_hook=_register_post)
del optim.optimizer
_module("utils")
_module("utils.data", DataLoader=DataLoader, DistributedSampler=DistributedSampler)
_module("utils.data.dataloader", _BaseDataLoaderIter=_BaseDataLoaderIter)
_module("utils.data.distributed", DistributedSampler=DistributedSampler)
serialization = _module("serialization", save=save, load=load)
jit = _module("jit", script=lambda module, _frames_up=0: module)
distributed = _module("distributed", is_available=lambda: False)
