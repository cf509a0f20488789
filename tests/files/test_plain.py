"""What ``save_checkpoint`` accepts, ``load_checkpoint`` gives back; what it would not give back is refused by path."""

import collections
import dataclasses
import enum
import fractions
import math
import pathlib
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import funcbio
from funcbio import BioConfig, BioState, Distribution, load_checkpoint, save_checkpoint

Pair = collections.namedtuple("Pair", "one two")


class Colour(enum.Enum):
    RED = 1


class Size(enum.IntEnum):
    SMALL = 1


class Tagged(torch.Tensor):
    pass


@dataclasses.dataclass
class Point:
    x: float = 0.0


def same(one, other):
    """Whether a value came back: equal, of the same type but for numbers and strings of subclasses."""
    if isinstance(one, torch.Tensor):
        return same_tensor(one, other)
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return type(one) is type(other) and all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    if isinstance(one, list | tuple) and not isinstance(one, str):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)  # Or none is a number.


def same_tensor(one, other):
    if type(one) is not type(other) or one.dtype != other.dtype:
        return False
    if one.layout != other.layout or one.requires_grad != other.requires_grad or one.is_quantized != other.is_quantized:
        return False
    if one.shape != other.shape:
        return False
    if one.layout != torch.strided:
        return one.to_dense().equal(other.to_dense())
    return one.equal(other) or bool(one.isnan().any())


def refused(path, **parts):
    """The message with which saving is refused; checks that nothing was written."""
    with pytest.raises(ValueError, match="to be saved; found") as error:
        save_checkpoint(path, **parts)
    assert not path.exists()
    assert not list(path.parent.iterdir())
    return str(error.value)


KEPT = {
    "none": None,
    "true": True,
    "large": 2**1999,
    "negative": -(2**1999),
    "infinite": -math.inf,
    "not a number": math.nan,
    "complex": 1 - 2j,
    "text": "ü\ud800\0",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "set": {1, "a", (2, 3)},
    "tuple": (1, (2, ()), []),
    "keys": {1: 1, None: 2, (1, "a"): 3, 1.5: 4, b"b": 5, "a.b/c": 6, "": 7},
    "ordered": collections.OrderedDict(b=1, a=2),
    "counter": collections.Counter("abca"),
    "size": torch.Size([1, 2]),
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
    "layout": torch.sparse_coo,
    "numpy float": np.float64(0.1),
    "numpy float32": np.float32(0.1),
    "numpy integer": np.int8(3),
    "numpy truth": np.bool_(True),
    "numpy complex": np.complex64(1j),
    "numpy text": np.str_("a"),
    "numpy key": {np.int64(3): np.float32(0.5)},
    "text of an enumeration": Distribution.GAMMA,
    "number of an enumeration": [Size.SMALL, {Size.SMALL: 1}],
}

TENSORS = {
    "no dimensions": torch.tensor(3.0),
    "no elements": torch.ones(0, 3),
    "parameter": nn.Parameter(torch.ones(2)),
    "frozen parameter": nn.Parameter(torch.ones(2), requires_grad=False),
    "with a gradient": torch.ones(2, requires_grad=True),
    "within a graph": torch.ones(2, requires_grad=True) * 2,
    "every third": torch.arange(9.0)[::3],
    "transposed": torch.arange(6.0).view(2, 3).t(),
    "expanded": torch.ones(1).expand(3),
    "channels last": torch.ones(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "conjugate": torch.ones(2, dtype=torch.cfloat).conj() * 1j,
    "conjugate view": torch.tensor([1 + 2j]).conj(),
    "negative view": torch.tensor([1 + 2j]).conj().imag,
    "sparse": torch.eye(3).to_sparse(),
    "eight bits": torch.ones(2).to(torch.float8_e5m2).view(torch.uint8),
    "unsigned": torch.ones(2, dtype=torch.uint16),
    "not numbers": torch.tensor([math.nan, -0.0]),
}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Torch calls these young.
    TENSORS["compressed"] = torch.eye(3).to_sparse_csr()
    TENSORS["quantised"] = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    NESTED = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    JAGGED = torch.nested.nested_tensor([torch.ones(1)], layout=torch.jagged)

REFUSED = {
    "array": (np.ones(2), r"found numpy\.ndarray: torch\.as_tensor makes a tensor of it"),
    "long double": (np.longdouble(1), "found numpy"),
    "date": (np.datetime64("2020-01-01"), "found numpy.datetime64"),
    "path": (pathlib.Path("a"), "found pathlib.*: str makes a string of it"),
    "enumeration": (Colour.RED, "found test_plain.Colour"),
    "dataclass": (Point(), "found test_plain.Point: dataclasses.asdict makes a dictionary of it"),
    "named tuple": (Pair(1, 2), "found test_plain.Pair: _asdict makes a dictionary of it"),
    "model": ([nn.Linear(1, 1)], "found torch.*Linear: make it a part of its own"),
    "a class": (nn.Linear, "found builtins.type"),
    "frozen set": (frozenset([1]), "found builtins.frozenset"),
    "default dictionary": (collections.defaultdict(list), "found collections.defaultdict"),
    "range": (range(3), "found builtins.range"),
    "ellipsis": (..., "found builtins.ellipsis"),
    "function": (len, "found builtins.builtin_function_or_method"),
    "fraction": (fractions.Fraction(1, 2), "found fractions.Fraction"),
    "namespace": (SimpleNamespace(a=1), "found types.SimpleNamespace"),
    "generator": (torch.Generator(), "found torch._C.Generator"),
    "integer": (2**2000, "of at most 2000 bits, to be saved; found one of 2001"),
    "meta": (
        [torch.ones(2, device="meta"), 1],
        "should be a plain tensor, with values.*; found one on the device meta",
    ),
    "subclass": ([torch.ones(2).as_subclass(Tagged), 1], "found a Tagged"),
    "no bytes": (b"", "bytes of which there are some"),
    "nested": ([NESTED, 1], "found a nested one"),
    "tensor as a key": ({torch.ones(1): 1}, "a key of part should be a number, .*; found a tensor"),
    "tensor in a set": ({torch.ones(1)}, "a key of part should be a number, .*; found a tensor"),
    "jagged": ([JAGGED, 1], "found a NestedTensor"),
    "bits": ([torch.empty(2, dtype=torch.uint4), 1], "should be a tensor of whole bytes.*; found one of torch.uint4"),
    "key": ({Colour.RED: 1}, "a key of part should be"),
    "key within": ({(1, Colour.RED): 1}, "a key of part should be"),
}


@pytest.mark.parametrize("name", KEPT)
def test_plain_values_come_back(tmp_path, name):
    for part in (KEPT[name], [KEPT[name]], {"a": (KEPT[name], 1)}):
        save_checkpoint(tmp_path / "run.pt", part=part)
        found = load_checkpoint(tmp_path / "run.pt")["part"]
        assert same(part, found)
        assert "numpy" not in str(type(found))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # Torch's own, of quantised tensors.
@pytest.mark.parametrize("name", TENSORS)
def test_tensors_come_back(tmp_path, name):
    save_checkpoint(tmp_path / "run.pt", alone=TENSORS[name], beside=[TENSORS[name], 1], named={"a": TENSORS[name]})
    found = load_checkpoint(tmp_path / "run.pt")
    assert same(TENSORS[name], found["beside"][0])
    detached = TENSORS[name].detach()  # What is a tree of tensors is saved without gradients.
    assert same(detached, found["alone"])
    assert same(detached, found["named"]["a"])


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused_by_its_path(tmp_path, name):
    part, says = REFUSED[name]
    with pytest.raises(ValueError, match=says):
        save_checkpoint(tmp_path / "run.pt", part=part)
    for around, path in (([1, {"a": part}], "part[1]['a']"), ({"x": (0, [part])}, "part['x'][1][0]")):
        assert path in refused(tmp_path / "run.pt", part=around)


def test_tensors_without_values_are_refused_wherever_they_are(tmp_path):
    with FakeTensorMode():
        fake = torch.ones(2)
    assert "found a FakeTensor" in refused(tmp_path / "run.pt", part=fake)
    assert "params['a'] should be a plain tensor" in refused(
        tmp_path / "run.pt", params={"a": fake, "b": torch.ones(1)}
    )

    def inside(x):
        assert "found one within a transform" in refused(tmp_path / "run.pt", part=x)
        return x

    torch.vmap(inside)(torch.ones(2))
    with torch.device("meta"):
        model = nn.Linear(1, 1)
    assert "model['weight'] should be a plain tensor" in refused(tmp_path / "run.pt", model=model)


def test_containers_in_themselves_and_deep_ones_are_refused(tmp_path):
    loop, deep = [1], [1]
    loop.append({"back": loop})
    assert "part[1]['back'] should be" in refused(tmp_path / "run.pt", part=loop)
    ring = {"a": torch.ones(1)}
    ring["b"] = ring
    assert "found a container in itself" in refused(tmp_path / "run.pt", part=ring)
    for _ in range(98):
        deep = [deep]
    save_checkpoint(tmp_path / "deep.pt", part=deep)
    assert load_checkpoint(tmp_path / "deep.pt")["part"] == deep
    (tmp_path / "deep.pt").unlink()
    for more in (10, 100_000):
        for _ in range(more):
            deep = [deep]
        assert "found more than 100 levels" in refused(tmp_path / "run.pt", part=deep)


def test_one_tensor_in_two_places_stays_one(tmp_path):
    weight = torch.ones(3)
    save_checkpoint(tmp_path / "run.pt", part=[weight, weight, weight[1:], 1])
    one, two, window, _ = load_checkpoint(tmp_path / "run.pt")["part"]
    one[1] = 5.0
    assert two[1] == 5.0
    assert window[0] == 5.0


class Odd:
    """An object whose state is whatever it was given."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


@pytest.mark.parametrize("state", [None, 3, [1, {"a": 2}], {}, {"a": [np.float64(0.5), Size.SMALL]}, "text", (1,)])
def test_odd_states_come_back(tmp_path, state):
    save_checkpoint(tmp_path / "run.pt", odd=Odd(state))
    other = Odd("another")
    load_checkpoint(tmp_path / "run.pt", odd=other)
    assert same(state, other.state)


@pytest.mark.parametrize("state", [SimpleNamespace(), {"a": Colour.RED}, [np.ones(1)], Pair(1, 2)])
def test_odd_states_are_refused(tmp_path, state):
    assert refused(tmp_path / "run.pt", odd=Odd(state)).startswith("odd")


def test_hooks_of_a_state_may_add_numbers_of_numpy_and_its_notes_stay(tmp_path):
    def note(module, state, prefix, local):
        local["seen"] = np.float64(0.5)
        state[f"{prefix}extra"] = np.int64(3)

    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    model.register_state_dict_post_hook(note)
    save_checkpoint(tmp_path / "run.pt", model=model)
    state = load_checkpoint(tmp_path / "run.pt")["model"]
    assert (state["extra"], type(state["extra"])) == (3, int)
    assert state._metadata[""] == {"version": 1, "seen": 0.5}
    assert type(state._metadata[""]["seen"]) is float
    assert state._metadata["1"] == {"version": 2}
    model.register_state_dict_post_hook(lambda module, state, prefix, local: local.update(path=pathlib.Path("a")))
    (tmp_path / "run.pt").unlink()
    assert "vars(model)['_metadata']['']['path'] should be" in refused(tmp_path / "run.pt", model=model)


def test_numbers_of_numpy_in_optimizers_and_schedulers_come_back(tmp_path):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=np.float64(0.1), betas=(np.float64(0.5), 0.9))
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    scheduler.step(np.float32(0.5))
    save_checkpoint(tmp_path / "run.pt", optimizer=optimizer, scheduler=scheduler)
    again = torch.optim.Adam(model.parameters())
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(again)
    load_checkpoint(tmp_path / "run.pt", optimizer=again, scheduler=plateau)
    assert again.param_groups[0]["betas"] == (0.5, 0.9)
    assert plateau.best == 0.5


@pytest.mark.parametrize(
    "config", [BioConfig(), BioConfig(fuzzy_lr_distribution="gamma", weight_splitting_Gamma=2, base_lr=np.float64(0.5))]
)
def test_a_configuration_comes_back(tmp_path, config):
    save_checkpoint(tmp_path / "run.pt", config=config)
    assert load_checkpoint(tmp_path / "run.pt")["config"] == config


def test_what_of_a_configuration_cannot_come_back_is_refused(tmp_path):
    config = BioConfig(weight_splitting_activation_function=torch.relu)
    assert "config['weight_splitting_activation_function']" in refused(tmp_path / "run.pt", config=config)
    assert "part[0] should be" in refused(tmp_path / "run.pt", part=[BioConfig()])
    torch.save({"config": {"configuration": {"base_lr": 7}}}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="base_lr should be"):
        load_checkpoint(tmp_path / "run.pt")


def test_names_of_parts_may_be_any(tmp_path):
    parts = {"": 1, "a.b": 2, "a/b": 3, "ü": 4, "../x": 5, "data.pkl": 6, "with space\n": 7}
    save_checkpoint(tmp_path / "run.pt", **parts)
    assert load_checkpoint(tmp_path / "run.pt") == parts


def test_trees_with_none_or_without_leaves_come_back_in_the_structure_given(tmp_path):
    tree = {"w": torch.ones(2), "b": None, "deep": [None, (torch.zeros(1),)]}
    save_checkpoint(tmp_path / "run.pt", tree=tree, state=BioState(rate=()), one={"": torch.ones(1)})
    found = load_checkpoint(tmp_path / "run.pt")
    assert list(found["tree"]) == ["b", "deep.0", "deep.1.0", "w"]
    assert found["tree"]["b"] is None
    assert found["one"] == {"": torch.ones(1)}
    like = {"w": torch.zeros(2), "b": None, "deep": [None, (torch.ones(1),)]}
    found = load_checkpoint(tmp_path / "run.pt", tree=like, state=BioState(rate=()))
    assert same(found["tree"], {"w": torch.ones(2), "b": None, "deep": [None, (torch.zeros(1),)]})
    assert found["state"] == BioState(rate=())
    for other in ({**like, "b": torch.ones(1)}, {**like, "w": None}, {"w": torch.zeros(2)}):
        with pytest.raises(ValueError, match="tree should have the leaves and shapes of the file's"):
            load_checkpoint(tmp_path / "run.pt", tree=other)


def test_trees_of_an_earlier_version_left_out_none(tmp_path):
    torch.save({"tree": {"tree of tensors": {"w": torch.ones(2)}}}, tmp_path / "run.pt")
    found = load_checkpoint(tmp_path / "run.pt", tree={"w": torch.zeros(2), "b": None})["tree"]
    assert found["b"] is None
    assert found["w"].equal(torch.ones(2))


def test_trees_in_which_two_leaves_have_one_path_are_refused(tmp_path):
    tensor = torch.ones(1)
    for tree in ({"a.b": tensor, "a": {"b": tensor}}, {1: tensor, "1": tensor}, {"a": [tensor], "a.0": tensor}):
        assert "found two of" in refused(tmp_path / "run.pt", tree=tree)
    for mark in ("tree of tensors", "configuration"):
        assert "should not have the key" in refused(tmp_path / "run.pt", part={mark: {"a": 1}})


VALUES = KEPT | TENSORS | {name: part for name, (part, _) in REFUSED.items()}
LEAVES = st.sampled_from([*VALUES]).map(lambda name: VALUES[name])
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
KEYS = NUMBERS | st.sampled_from([Size.SMALL, np.int64(3), Colour.RED, "tree of tensors", (1, "a")])
PARTS = st.recursive(
    LEAVES | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3).map(collections.OrderedDict)
    ),
    max_leaves=8,
)


def is_tree(part):
    """Whether a part is a tree of tensors, which comes back by path."""
    leaves = funcbio.checkpoint._leaves(part)
    tensors = [leaf for _, leaf in leaves if leaf is not None]
    return bool(tensors) and all(isinstance(leaf, torch.Tensor) for leaf in tensors)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@settings(max_examples=150)
@given(part=PARTS)
def test_whatever_is_accepted_comes_back(tmp_path_factory, part):
    path = tmp_path_factory.mktemp("one") / "run.pt"
    try:
        save_checkpoint(path, part=part)
    except ValueError:
        refused(path, part=part)
        return
    found = load_checkpoint(path)["part"]
    if not is_tree(part):
        assert same(part, found)
        return
    found = load_checkpoint(path, part=part)["part"]
    pairs = zip(funcbio.checkpoint._leaves(part), funcbio.checkpoint._leaves(found), strict=True)
    assert all(name == other and (a is b or same(a.detach(), b)) for (name, a), (other, b) in pairs)
