"""First calls everything within a mode of torch, then as usual, and prints what came out, a line for each mode.

``python modes_runs.py none,vmap [compiled]``: every mode has a process of its own; the same is printed for all.
"""

import hashlib
import multiprocessing
import os
import sys
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import torch
from bad_inputs import bits
from optree import tree_leaves, tree_map
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from worlds import FEATURES, mlp, model_world

import funcbio
from funcbio import BioConverter
from funcbio.engine import _compiled as fused

CHAIN = ("crystallize", "volume_dependent_lr", "fuzzy_learning_rates")
METHODS = [*CHAIN, "scale_grad", "rejuvenate_weights", "enforce_dales_principle", "update_fuzzy_learning_rates"]
FULL = {"apply_dales_principle": True, "record_activity": True, "fuzzy_lr_dynamic": True, "fuzzy_lr_update_freq": 1}
KEY = funcbio.key(3)


class Looking(TorchDispatchMode):
    """Sees every operation and changes none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Doubling(TorchFunctionMode):
    """Makes every tensor that states no type one of double precision."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.ones, torch.zeros, torch.full, torch.empty, torch.arange):
            kwargs.setdefault("dtype", torch.float64)
            kwargs.setdefault("device", "meta")
        return func(*args, **kwargs)


@contextmanager
def doubles():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def within(context, call):
    with context:
        call()


def functionalized(call):
    torch.func.functionalize(lambda x: (call(), x + 1)[1])(torch.ones(2))


def mapped(call):
    torch.vmap(lambda x: (call(), x + 1)[1])(torch.ones(2))


def differentiated(call):
    torch.func.grad(lambda x: (call(), x.sum())[1])(torch.ones(2))


def traced(call):
    make_fx(lambda x: (call(), x + 1)[1])(torch.ones(2))


def forked(call):
    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    process.join()
    call()


MODES = {
    "none": lambda call: None,
    "inference_mode": lambda call: within(torch.inference_mode(), call),
    "no_grad": lambda call: within(torch.no_grad(), call),
    "functionalize": functionalized,
    "vmap": mapped,
    "grad": differentiated,
    "make_fx": traced,
    "fake tensors": lambda call: within(FakeTensorMode(allow_non_fake_inputs=True), call),
    "dispatch mode": lambda call: within(Looking(), call),
    "function mode": lambda call: within(Doubling(), call),
    "default device": lambda call: within(torch.device("meta"), call),
    "default type": lambda call: within(doubles(), call),
    "autocast": lambda call: within(torch.autocast("cpu", torch.bfloat16), call),
    "inference mode within vmap": lambda call: mapped(partial(within, torch.inference_mode(), call)),
    "fork": forked,
}


def model(compiled):
    """A converted model with gradients."""
    torch.manual_seed(0)
    made = BioConverter(compile=compiled, fuzzy_lr_distribution="activity", **FULL)(mlp())
    made(torch.ones(3, 5)).square().sum().backward()
    return made


def methods(compiled):
    """What is left of a model after every method."""
    made = model(compiled)
    for name in METHODS:
        getattr(made, name)()
    made.bio_step(*METHODS)
    return dict(made.state_dict()), [parameter.grad for parameter in made.parameters()]


def functions(compiled):
    """What every feature returns, and the slopes of the result."""
    found = []
    for name, (feature, hyper) in FEATURES.items():
        args = tree_map(lambda leaf: leaf.requires_grad_() if leaf.is_floating_point() else leaf, model_world("mlp"))
        numbers = {name: torch.tensor(value, requires_grad=True) for name, value in hyper.items()}
        call = funcbio.chain(partial(feature, **hyper), compile=True) if compiled else partial(feature, **numbers)
        with torch.no_grad() if compiled else nullcontext():
            result = call(*args, key=KEY)
        total = sum(leaf.double().sum() for leaf in tree_leaves(result) if leaf.is_floating_point())
        if not compiled:
            total.backward()
        slopes = [leaf.grad for leaf in (*tree_leaves(args), *numbers.values()) if leaf.grad is not None]
        found += [tree_map(torch.Tensor.detach, result), slopes]
    draws = [funcbio.normal(KEY, (300,)), funcbio.gamma(KEY, 0.3, (9,)), *funcbio.split(KEY)]
    return found, draws


def everything(compiled, few=False):
    """Calls all of it; whatever cannot run in a mode is passed over."""
    names = ["volume_dependent_lr", "crystallize"]
    args = model_world("mlp")
    for name in names if few else FEATURES:
        feature, hyper = FEATURES[name]
        feature = funcbio.chain(partial(feature, **hyper), compile=True) if compiled else partial(feature, **hyper)
        with suppress(Exception):
            feature(*args, key=KEY)
    with suppress(Exception):
        made = model(compiled)
    for name in names if few else METHODS:
        with suppress(Exception):
            getattr(made, name)()
    with suppress(Exception):
        made.bio_step(*(names if few else METHODS))


def fresh(mode, compiled):
    """Runs a mode and then everything as usual, in a process that has called nothing yet; returns a digest."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read) as pipe:
            found = pipe.read()
        os.waitpid(child, 0)
        return found
    try:
        with suppress(Exception):
            MODES[mode](partial(everything, compiled, few=mode == "make_fx"))  # There every operation takes 20 ms.
        content = repr(bits([functions(compiled), methods(compiled)]))
        found = f"{hashlib.sha256(content.encode()).hexdigest()} {fused._broken}"
    except Exception as error:
        found = repr(error)
    os.write(write, found.encode())
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    compiled = "compiled" in sys.argv
    for mode in sys.argv[1].split(","):
        print(mode, fresh(mode, compiled), sep=": ", flush=True)
