"""Things that compute otherwise look otherwise; the same looks the same wherever, whenever and however it is made."""

import argparse
import collections
import contextlib
import copy
import dataclasses
import doctest
import enum
import functools
import importlib.util
import json
import linecache
import logging
import math
import operator
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
import types
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funcbio import BioConfig, BioConverter, Distribution, Mechanism, crystallize
from funcbio.identity import _code, _describe, _tensor
from funcbio.identity._compare import compare
from funcbio.identity._describe import describe
from funcbio.identity._library import is_library
from funcbio.identity._tensor import describe_tensor


def seen(thing):
    return json.loads(json.dumps(describe({"it": thing})))


def compared(one, other):
    return compare(seen(one), seen(other))


def made(text, name="it", file="<cell 1>", **around):
    """What a program defines under a name."""
    space = {"torch": torch, "F": F, "nn": nn, "functools": functools, "math": math, "__name__": "__main__", **around}
    exec(compile(textwrap.dedent(text), file, "exec"), space)
    return space[name]


FUNCTIONS = {
    "constant": ("it = lambda o: o * 2", "it = lambda o: o * 3"),
    "type of a constant": ("it = lambda o: o * 1", "it = lambda o: o * 1.0"),
    "sign of zero": ("it = lambda o: o * 0.0", "it = lambda o: o * -0.0"),
    "true and one": ("it = lambda o: o == True", "it = lambda o: o == 1"),
    "operator": ("it = lambda o: o + 2", "it = lambda o: o - 2"),
    "function called": ("it = lambda o: torch.tanh(o)", "it = lambda o: torch.relu(o)"),
    "option": ("it = lambda o, t: F.cross_entropy(o, t)", "it = lambda o, t: F.cross_entropy(o, t, weight=t)"),
    "default": ("def it(o, k=1): return o * k", "def it(o, k=2): return o * k"),
    "keyword default": ("def it(o, *, k=1): return o * k", "def it(o, *, k=2): return o * k"),
    "name of an argument": ("def it(o, *, k=1): return o * k", "def it(o, *, j=1): return o * j"),
    "order of arguments": ("def it(a, b): return a - b", "def it(b, a): return a - b"),
    "global": ("k = 1\ndef it(o): return o * k", "k = 2\ndef it(o): return o * k"),
    "global list": ("k = [1, [2]]\ndef it(o): return o * k[0]", "k = [1, [3]]\ndef it(o): return o * k[0]"),
    "global tensor": ("k = torch.ones(2)\nit = lambda o: o * k", "k = torch.zeros(2)\nit = lambda o: o * k"),
    "global function": (
        "def f(o): return o\ndef it(o): return f(o)",
        "def f(o): return -o\ndef it(o): return f(o)",
    ),
    "function behind a function": (
        "k = 1\ndef g(o): return o * k\ndef f(o): return g(o)\ndef it(o): return f(o)",
        "k = 2\ndef g(o): return o * k\ndef f(o): return g(o)\ndef it(o): return f(o)",
    ),
    "inner function": (
        "def it(o):\n  def f(x): return x\n  return f(o)",
        "def it(o):\n  def f(x): return -x\n  return f(o)",
    ),
    "global of an inner function": (
        "k = 1\ndef it(o): return [x * k for x in o]",
        "k = 2\ndef it(o): return [x * k for x in o]",
    ),
    "closure": (
        "def f(k): return lambda o: o * k\nit = f(1)",
        "def f(k): return lambda o: o * k\nit = f(2)",
    ),
    "closure within a closure": (
        "def f(k):\n  def g(j): return lambda o: o * k * j\n  return g(1)\nit = f(1)",
        "def f(k):\n  def g(j): return lambda o: o * k * j\n  return g(1)\nit = f(2)",
    ),
    "attribute of a closure": (
        "class A: pass\ndef f(a): return lambda o: o * a.k\na = A(); a.k = 1\nit = f(a)",
        "class A: pass\ndef f(a): return lambda o: o * a.k\na = A(); a.k = 2\nit = f(a)",
    ),
    "partial": ("it = functools.partial(F.softmax, dim=0)", "it = functools.partial(F.softmax, dim=1)"),
    "partial of own": (
        "def f(k, o): return o * k\nit = functools.partial(f, 1)",
        "def f(k, o): return o * k\nit = functools.partial(f, 2)",
    ),
    "partial within a partial": (
        "it = functools.partial(functools.partial(F.softmax, dim=0), dtype=None)",
        "it = functools.partial(functools.partial(F.softmax, dim=1), dtype=None)",
    ),
    "decorated": (
        "@torch.no_grad()\ndef it(o): return o",
        "@torch.no_grad()\ndef it(o): return -o",
    ),
    "decorator": (
        "@torch.no_grad()\ndef it(o): return o",
        "@torch.enable_grad()\ndef it(o): return o",
    ),
    "own decorator": (
        "def d(k):\n  def w(f): return functools.wraps(f)(lambda o: f(o) * k)\n  return w\n@d(1)\ndef it(o): return o",
        "def d(k):\n  def w(f): return functools.wraps(f)(lambda o: f(o) * k)\n  return w\n@d(2)\ndef it(o): return o",
    ),
    "cached": ("@functools.lru_cache\ndef it(o): return o", "@functools.lru_cache\ndef it(o): return -o"),
    "mapped": ("it = torch.vmap(lambda o: o * 2)", "it = torch.vmap(lambda o: o * 3)"),
    "way of mapping": ("it = torch.vmap(torch.neg, in_dims=0)", "it = torch.vmap(torch.neg, in_dims=1)"),
    "transform": ("it = torch.func.grad(torch.sum)", "it = torch.func.jacrev(torch.sum)"),
    "compiled": ("it = torch.compile(lambda o: o * 2)", "it = torch.compile(lambda o: o * 3)"),
    "method": (
        "class A:\n  k = 1\n  def f(self, o): return o * self.k\nit = A().f",
        "class A:\n  k = 2\n  def f(self, o): return o * self.k\nit = A().f",
    ),
    "state behind a method": (
        "class A:\n  def __init__(self, k): self.k = k\n  def f(self, o): return o * self.k\nit = A(1).f",
        "class A:\n  def __init__(self, k): self.k = k\n  def f(self, o): return o * self.k\nit = A(2).f",
    ),
    "class method": (
        "class A:\n  @classmethod\n  def f(cls, o): return o\nit = A.f",
        "class A:\n  @classmethod\n  def f(cls, o): return -o\nit = A.f",
    ),
    "static method": (
        "class A:\n  @staticmethod\n  def f(o): return o\nit = A.f",
        "class A:\n  @staticmethod\n  def f(o): return -o\nit = A.f",
    ),
    "property": (
        "class A:\n  k = property(lambda self: 1)\n  def __call__(self, o): return o * self.k\nit = A()",
        "class A:\n  k = property(lambda self: 2)\n  def __call__(self, o): return o * self.k\nit = A()",
    ),
    "callable object": (
        "class A:\n  def __init__(self, k): self.k = k\n  def __call__(self, o): return o * self.k\nit = A(1)",
        "class A:\n  def __init__(self, k): self.k = k\n  def __call__(self, o): return o * self.k\nit = A(2)",
    ),
    "slots": (
        "class A:\n  __slots__ = 'k',\n  def __init__(self, k): self.k = k\nit = A(1)",
        "class A:\n  __slots__ = 'k',\n  def __init__(self, k): self.k = k\nit = A(2)",
    ),
    "call of an object": (
        "class A:\n  def __call__(self, o): return o\nit = A()",
        "class A:\n  def __call__(self, o): return -o\nit = A()",
    ),
    "base class": (
        "class B:\n  def f(self, o): return o\nclass A(B):\n  def __call__(self, o): return self.f(o)\nit = A()",
        "class B:\n  def f(self, o): return -o\nclass A(B):\n  def __call__(self, o): return self.f(o)\nit = A()",
    ),
    "attribute of a function": ("def it(o): return o\nit.k = 1", "def it(o): return o\nit.k = 2"),
    "autograd function": (
        "class A(torch.autograd.Function):\n  @staticmethod\n  def forward(c, o): return o\nit = lambda o: A.apply(o)",
        "class A(torch.autograd.Function):\n  @staticmethod\n  def forward(c, o): return -o\nit = lambda o: A.apply(o)",
    ),
    "generator of numbers": (
        "g = torch.Generator().manual_seed(1)\nit = lambda o: torch.rand(2, generator=g)",
        "g = torch.Generator().manual_seed(2)\nit = lambda o: torch.rand(2, generator=g)",
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_differ_in_one_thing_look_otherwise(name):
    one, other = FUNCTIONS[name]
    found = compared(made(one), made(other))
    assert found.different, found
    assert not found.unseen


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_function_made_again_elsewhere_looks_the_same(name, which):
    text = FUNCTIONS[name][which]
    before = seen(made(text))
    moved = "# A comment.\n\n\n'A docstring.'\nunused = 3\n" + text
    for again in (made(text), made(moved, file="/elsewhere/other.py", __name__="other")):
        assert compare(before, seen(again)) == (None, [], [], [])


ALIKE = {
    "docstring": ("def it(o): return o", "def it(o):\n  'Returns it.'\n  return o"),
    "docstring within": (
        "def it(o):\n  def f(): return o\n  return f()",
        "def it(o):\n  def f():\n    'Inside.'\n    return o\n  return f()",
    ),
    "comment": ("def it(o):\n  return o", "def it(o):\n  # As it is.\n\n  return o"),
    "local name": ("def it(o):\n  x = o\n  return x", "def it(o):\n  y = o\n  return y"),
    "name": ("def it(o): return o", "def other(o): return o\nit = other"),
    "annotation": ("def it(o): return o", "def it(o: int) -> int: return o"),
    "spelling": ("it = lambda o: o * (1 + 1)", "it = (lambda o:\n   o * 2)"),
    "unused global": ("k = 1\ndef it(o): return o", "k = 2\ndef it(o): return o"),
    "unused attribute": (
        "class A: pass\na = A(); a.k = 1; a.folder = 'x'\ndef it(o): return o * a.k",
        "class A: pass\na = A(); a.k = 1; a.folder = 'y'\ndef it(o): return o * a.k",
    ),
    "order of a set": ("k = {'a', 'b', 'c'}\nit = lambda o: o in k", "k = {'c', 'b', 'a'}\nit = lambda o: o in k"),
    "order of a dictionary": ("k = {'a': 1, 'b': 2}\nit = lambda o: k", "k = {'b': 2, 'a': 1}\nit = lambda o: k"),
    "device": ("k = torch.device('cpu')\nit = lambda o: o.to(k)", "k = torch.device('meta')\nit = lambda o: o.to(k)"),
    "file": ("__file__ = 'a'\nit = lambda o: __file__", "__file__ = 'b'\nit = lambda o: __file__"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_changes_nothing_that_is_computed_looks_the_same(name):
    one, other = ALIKE[name]
    assert compared(made(one), made(other)) == (None, [], [], [])


def test_what_was_called_looks_as_before():
    function = made("def it(o):\n  return [x * 2 for x in range(o)]")
    before = seen(function)
    for _ in range(3000):  # The interpreter writes into what it runs often.
        function(2)
    tracer, trace = sys.gettrace(), []
    sys.settrace(lambda frame, *_: trace.append(frame) or (lambda *_: None))
    function(2)
    sys.settrace(tracer)
    assert trace
    assert seen(function) == before


class Net(nn.Module):
    def __init__(self, act=torch.tanh, scale=1.0):
        super().__init__()
        self.layer, self.act, self.scale = nn.Linear(2, 2), act, scale

    def forward(self, x):
        return self.scale * self.act(self.layer(x))


def filled(model, value=0.1):
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def changed(model, change):
    change(model)
    return model


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: float = 0.0
    names: list = dataclasses.field(default_factory=list)


Pair = collections.namedtuple("Pair", "one two")

OBJECTS = {
    "loss": (lambda: nn.CrossEntropyLoss(), lambda: nn.CrossEntropyLoss(label_smoothing=0.1)),
    "weights of a loss": (
        lambda: nn.CrossEntropyLoss(weight=torch.ones(2)),
        lambda: nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])),
    ),
    "activation": (lambda: filled(Net()), lambda: filled(Net(torch.relu))),
    "attribute": (lambda: filled(Net()), lambda: filled(Net(scale=2.0))),
    "start": (lambda: filled(Net()), lambda: filled(Net(), 0.2)),
    "dropout": (lambda: nn.Dropout(0.1), lambda: nn.Dropout(0.2)),
    "buffer": (
        lambda: changed(nn.Identity(), lambda m: m.register_buffer("c", torch.tensor(1.0))),
        lambda: changed(nn.Identity(), lambda m: m.register_buffer("c", torch.tensor(2.0))),
    ),
    "type": (lambda: filled(nn.Linear(1, 1)), lambda: filled(nn.Linear(1, 1, dtype=torch.float64))),
    "frozen": (lambda: filled(nn.Linear(1, 1)), lambda: filled(nn.Linear(1, 1)).requires_grad_(False)),
    "mode": (lambda: nn.Dropout(), lambda: nn.Dropout().eval()),
    "tie": (
        lambda: filled(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))),
        lambda: changed(
            filled(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))), lambda m: setattr(m[1], "weight", m[0].weight)
        ),
    ),
    "hook": (
        lambda: nn.Identity(),
        lambda: changed(nn.Identity(), lambda m: m.register_forward_hook(lambda *_: None)),
    ),
    "function of a hook": (
        lambda: changed(nn.Identity(), lambda m: m.register_forward_hook(lambda m, i, o: o)),
        lambda: changed(nn.Identity(), lambda m: m.register_forward_hook(lambda m, i, o: -o)),
    ),
    "normalised weights": (
        lambda: nn.utils.parametrizations.weight_norm(filled(nn.Linear(2, 1)), dim=0),
        lambda: nn.utils.parametrizations.weight_norm(filled(nn.Linear(2, 1)), dim=1),
    ),
    "converted": (
        lambda: (torch.manual_seed(0), BioConverter(base_lr=0.1)(filled(nn.Sequential(nn.Linear(2, 2)))))[1],
        lambda: (torch.manual_seed(0), BioConverter(base_lr=0.2)(filled(nn.Sequential(nn.Linear(2, 2)))))[1],
    ),
    "compiled module": (lambda: torch.compile(filled(Net())), lambda: torch.compile(filled(Net(torch.relu)))),
    "recurrent": (lambda: filled(nn.LSTM(1, 1)), lambda: filled(nn.LSTM(1, 1, bidirectional=True))),
    "configuration": (lambda: BioConfig(), lambda: BioConfig(base_lr=0.2)),
    "function of a configuration": (
        lambda: BioConfig(weight_splitting_activation_function=torch.relu),
        lambda: BioConfig(weight_splitting_activation_function=torch.tanh),
    ),
    "own function of a configuration": (
        lambda: BioConfig(weight_splitting_activation_function=lambda x: x * 2),
        lambda: BioConfig(weight_splitting_activation_function=lambda x: x * 3),
    ),
    "mechanism": (lambda: Mechanism("crystallize"), lambda: Mechanism("crystallize", every=2)),
    "fields of a mechanism": (
        lambda: Mechanism(crystallize, hyper={"k": "base_lr"}),
        lambda: Mechanism(crystallize, hyper={"k": "stability_factor"}),
    ),
    "tensor": (lambda: torch.ones(3), lambda: torch.tensor([1.0, 1.0, 1.1])),
    "shape of a tensor": (lambda: torch.ones(2, 3), lambda: torch.ones(3, 2)),
    "type of a tensor": (lambda: torch.ones(3), lambda: torch.ones(3, dtype=torch.int64)),
    "sparse": (lambda: torch.eye(2).to_sparse(), lambda: (2 * torch.eye(2)).to_sparse()),
    "not a number": (lambda: torch.tensor([math.nan, 1.0]), lambda: torch.tensor([math.nan, 2.0])),
    "array": (lambda: np.ones(3), lambda: np.array([1.0, 2.0, 1.0])),
    "array of text": (lambda: np.array(["a"]), lambda: np.array(["b"])),
    "array of objects": (lambda: np.array([None, "a"]), lambda: np.array([None, "b"])),
    "number of numpy": (lambda: np.float32(0.1), lambda: np.float64(0.1)),
    "enumeration": (lambda: Colour.RED, lambda: Colour.BLUE),
    "text enumeration": (lambda: Distribution.GAMMA, lambda: Distribution.BETA),
    "dataclass": (lambda: Point(1.0), lambda: Point(2.0)),
    "named tuple": (lambda: Pair(1, F.relu), lambda: Pair(2, F.relu)),
    "ordered": (lambda: collections.deque([1, 2]), lambda: collections.deque([2, 1])),
    "default dictionary": (lambda: collections.defaultdict(list), lambda: collections.defaultdict(dict)),
    "namespace": (lambda: types.SimpleNamespace(k=1), lambda: types.SimpleNamespace(k=2)),
    "arguments": (lambda: argparse.Namespace(k=[1]), lambda: argparse.Namespace(k=[2])),
    "getter": (lambda: operator.itemgetter(0), lambda: operator.itemgetter(1)),
    "pattern": (lambda: re.compile("a"), lambda: re.compile("b")),
    "path": (lambda: pathlib.PurePosixPath("a"), lambda: pathlib.PurePosixPath("b")),
    "builtin": (lambda: math.sin, lambda: math.cos),
    "function of torch": (lambda: torch.sin, lambda: torch.cos),
    "method of a tensor": (lambda: torch.ones(1).mul, lambda: torch.zeros(1).mul),
    "unbound": (lambda: torch.Tensor.add, lambda: torch.Tensor.sub),
    "function of numpy": (lambda: np.sin, lambda: np.cos),
    "class": (lambda: torch.optim.SGD, lambda: torch.optim.Adam),
    "stream of numpy": (lambda: np.random.default_rng(0).normal, lambda: np.random.default_rng(1).normal),
    "long text": (lambda: "a" * 999, lambda: "a" * 998 + "b"),
    "long list": (lambda: list(range(999)), lambda: [*range(998), 0]),
    "key": (lambda: {1: F.relu}, lambda: {"1": F.relu}),
    "keys alike": (lambda: {F.relu: 1, Net: 2}, lambda: {F.relu: 2, Net: 1}),
    "kind of list": (lambda: [1, F.relu], lambda: (1, F.relu, None)),
    "nested": (lambda: {"a": [{"b": (1, F.relu)}]}, lambda: {"a": [{"b": (2, F.relu)}]}),
    "twice": (lambda: [F.relu, F.relu], lambda: [F.relu, F.gelu]),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_that_differ_in_one_thing_look_otherwise(name):
    one, other = OBJECTS[name]
    found = compared(one(), other())
    assert found.different, found
    assert not found.unseen


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_made_again_looks_the_same(name):
    for make in OBJECTS[name]:
        assert compared(make(), make()) == (None, [], [], [])


def test_scripted_functions_and_modules_look_as_they_compute():
    def scripted(function):
        with pytest.warns() if torch.__version__ >= "2.14" else contextlib.nullcontext():
            return torch.jit.script(function)

    one, other = scripted(scaled_by_two), scripted(scaled_by_three)
    assert compared(one, other).different
    assert compared(one, scripted(scaled_by_two)) == (None, [], [], [])
    models = [scripted(filled(nn.Sequential(nn.Linear(2, 2), act()))) for act in (nn.ReLU, nn.Tanh, nn.ReLU)]
    assert compared(models[0], models[1]).different
    assert compared(models[0], models[2]) == (None, [], [], [])


def scaled_by_two(x):
    return x * 2


def scaled_by_three(x):
    return x * 3


# What cannot be seen


class Hidden:
    """Refuses to be looked at in every way."""

    def __reduce_ex__(self, protocol):
        raise RuntimeError

    def __getattr__(self, name):
        raise RuntimeError


UNSEEN = {
    "lock": (threading.Lock, "_thread.lock"),
    "generator": (lambda: (x for x in ()), "generator"),
    "hidden": (Hidden, "Hidden"),
    "tensor without values": (lambda: torch.ones(2, device="meta"), "torch.Tensor"),
    "within an object": (lambda: types.SimpleNamespace(a=[threading.Lock()]), "_thread.lock"),
    "within a closure": (lambda: (lambda lock: lambda o: lock)(threading.Lock()), "_thread.lock"),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_cannot_be_seen_is_named(name):
    make, called = UNSEEN[name]
    found = compared(make(), make())
    assert found.different is None
    assert len(found.unseen) == 1
    assert found.unseen[0].endswith(f"({called})")


def test_a_function_of_an_own_library_in_c_is_named():
    function = types.BuiltinFunctionType.__call__  # Of a type in C; any such, of a module that is not installed.
    assert compared(function, function).unseen == []
    own = _describe._functions.builtin(math.sin, lambda module: False)
    assert own.shown == {"unseen": "math.sin"}


def test_what_cannot_be_seen_differs_from_what_can():
    assert compared(threading.Lock(), 1).different
    assert compared(threading.Lock(), (x for x in ())).different


# Rounding


def test_rounding_of_another_machine_is_told_from_other_values():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for dtype, step in ((torch.float32, 3e-7), (torch.float64, 1e-15), (torch.bfloat16, 8e-3)):
        wanted = values.to(dtype)
        near, far = wanted * (1 + step), wanted * (1 + 1000 * step)
        assert not near.equal(wanted)
        assert compared(wanted, near) == (None, [], ["it"], [])
        assert compared(wanted, far).different
        assert compared(wanted, wanted.flip(0)).different
        assert compared(wanted, values.abs().to(dtype)).different
    assert compared(torch.arange(9), torch.arange(9) + 1).different
    single = values.clone()
    single[500] += 0.5
    assert compared(values, single).different


# Wherever it runs


PROGRAM = """
import json, sys
sys.path[:0] = [{tests!r}, {folder!r}]
import torch, test_describe as tests
torch.set_num_threads(int(sys.argv[1]))
found = {{name: [tests.seen(tests.made(text)) for text in texts] for name, texts in tests.FUNCTIONS.items()}}
found |= {{name: [tests.seen(make()) for make in makes] for name, makes in tests.OBJECTS.items()}}
print(json.dumps(found))
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.complex64])
def test_a_tensor_looks_the_same_without_numpy(dtype, monkeypatch):
    values = [torch.arange(12).reshape(3, 4).to(dtype).T, torch.zeros(0, 3, dtype=dtype)]
    before = [describe_tensor(value) for value in values]
    monkeypatch.setattr(_tensor, "find_spec", lambda name: None)
    assert [describe_tensor(value) for value in values] == before


def test_another_process_sees_the_same(tmp_path):
    here = pathlib.Path(__file__).parent
    program = PROGRAM.format(tests=f"{here.parent}", folder=f"{here}")
    environment = {**os.environ, "PYTHONHASHSEED": "123", "ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, "-W", "ignore", "-c", program, "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    here = {name: [seen(made(text)) for text in texts] for name, texts in FUNCTIONS.items()}
    here |= {name: [seen(make()) for make in makes] for name, makes in OBJECTS.items()}
    assert there.keys() == here.keys()
    for name, tables in here.items():
        for one, other in zip(tables, there[name], strict=True):
            assert compare(one, other)[:2] == (None, []), name


def test_another_python_compares_source(tmp_path, monkeypatch):
    path = tmp_path / "net.py"
    text = "def f(o):\n    return o * {}\n\n\ng, h = lambda o: o + {}, lambda o: o\n"

    def table(python, *numbers):
        monkeypatch.setattr(_code, "PYTHON", python)
        path.write_text(text.format(*numbers))
        linecache.clearcache()
        spec = importlib.util.spec_from_file_location("net", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return json.loads(json.dumps(describe({"f": module.f, "g": module.g})))

    before = table("3.11.1", 2, 1)
    assert compare(before, table("3.11.1", 2, 1)) == (None, [], [], [])
    # Of two functions in one line, nobody can tell which is meant.
    found = compare(before, table("3.12.0", 2, 1))
    assert (found.different, len(found.unseen)) == (None, 1)
    assert found.unseen[0].startswith("g.code (code ")
    assert compare(before, table("3.12.0", 3, 1)).different[0] == "f.code"
    assert compare(before, table("3.11.1", 2, 2)).different[0] == "g.code"


def test_bytecode_decides_where_the_file_has_changed_since(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("def f(o):\n    return o * 2\n")
    function = made(path.read_text(), "f", file=f"{path}")
    path.write_text("def f(o):\n    return o * 3\n")
    linecache.clearcache()
    assert compared(function, made(path.read_text(), "f", file=f"{path}")).different


def test_modules_are_libraries_if_they_are_installed(tmp_path, monkeypatch):
    assert all(map(is_library, ("torch.nn", "numpy", "json", "builtins", "funcbio", "pytest", "_thread")))
    assert not any(map(is_library, ("__main__", __name__, "nowhere", None)))
    (tmp_path / "helpers.py").write_text("K = 1\ndef scale(o): return o * K\n")
    monkeypatch.syspath_prepend(tmp_path)
    helpers = importlib.import_module("helpers")
    assert not is_library("helpers")
    text = "import helpers\ndef it(o): return helpers.scale(o)"
    before = seen(made(text))
    helpers.K = 2
    assert compare(before, seen(made(text))).different[0] == "it:helpers.scale:K"
    del sys.modules["helpers"]


def test_references_that_are_weak_or_in_circles_end():
    loop = types.SimpleNamespace()
    loop.itself, loop.all = loop, [loop]
    loop.all.append(loop.all)
    assert compared(loop, copy.deepcopy(loop)) == (None, [], [], [])
    target = Point(1.0)
    one = weakref.ref(target)
    assert seen(one)["it.target.x"] == "1.0"
    assert seen(logging.getLogger("a"))["it.arguments"] == "('a')"


def test_a_table_names_paths():
    table = seen(functools.partial(F.cross_entropy, label_smoothing=0.5))
    assert table == {"it.func": "torch.nn.functional.cross_entropy", "it.keywords": "{'label_smoothing': 0.5}"}
    assert doctest.testmod(_describe, extraglobs={"torch": torch}) == (0, 2)


def test_names_outside_are_found_as_they_are_spelled():
    function = made("def it(o):\n  f = lambda x: math.pi * x.real\n  return f(o) + torch.nn.functional.relu(o).sum()")
    assert _code.outer_names(function.__code__) == [("math", "pi"), ("torch", "nn", "functional", "relu")]


def test_a_compiled_module_is_the_same_before_and_after_lightning_is_imported():
    """That replaces ``torch.compile`` by a function that leaves its arguments on the module."""
    program = (
        "import json, torch; from funcbio.identity._describe import describe\n"
        "def look():\n"
        "    net = torch.nn.Linear(1, 1, bias=False)\n"
        "    torch.nn.init.ones_(net.weight)\n"
        "    return json.dumps(describe({'it': torch.compile(net)}), sort_keys=True)\n"
        "before = look()\n"
        "import lightning\n"
        "assert look() == before\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
