"""Tensors that share memory in every way: every door gives the right result, or refuses before anything changes."""

import copy
import itertools
import random

import pytest
import torch
from bad_inputs import everything
from torch import nn

import funcbio
from funcbio import BioConverter, BioModule, attach
from funcbio.tensors._overlap import find_overlap, overlaps_itself, part_of

# The functions, compared with a list of all bytes

DTYPES = [torch.float32, torch.float16, torch.uint8, torch.int64]


def addresses(tensor):
    """First byte of every element."""
    indices = itertools.product(*map(range, tensor.shape))
    steps = [step * tensor.element_size() for step in tensor.stride()]
    return [tensor.data_ptr() + sum(i * s for i, s in zip(index, steps, strict=True)) for index in indices]


def occupied(tensor):
    return {start + byte for start in addresses(tensor) for byte in range(tensor.element_size())}


def drawn(memory, draw):
    """A view of the memory with any sizes and strides."""
    view = memory.view(draw.choice(DTYPES))
    shape = [draw.choice([0, 1, 2, 3, 4, 4]) for _ in range(draw.randint(0, 3))]
    strides = [draw.randint(0, 9) for _ in shape]
    return view.as_strided(shape, strides, draw.randint(0, 20))


def test_shared_bytes_are_found_and_no_others():
    draw, memory, found = random.Random(0), torch.zeros(1200, dtype=torch.uint8), [0, 0]
    for _ in range(3000):
        first, second = drawn(memory, draw), drawn(memory, draw)
        own = len(set(addresses(first))) < first.numel()
        assert overlaps_itself(first) == own, (first.shape, first.stride())
        shared = bool(occupied(first) & occupied(second))
        parts = [part_of(tensor, name, written=name == "a") for name, tensor in (("a", first), ("b", second))]
        overlap = find_overlap(part for part in parts if part is not None)
        assert (overlap is not None) == shared, (first.shape, first.stride(), second.shape, second.stride())
        found = [found[0] + own, found[1] + shared]
    assert min(found) > 300


def test_what_is_only_read_may_be_shared_and_large_columns_are_told_apart_at_once():
    memory = torch.zeros(4096, 12288)
    columns = [part_of(memory[:, at : at + 4096], at, written=True) for at in range(0, 12288, 4096)]
    assert find_overlap(columns) is None
    assert find_overlap([*columns, part_of(memory[5, 4000:4097], "row", written=False)]) is not None
    assert find_overlap([part_of(memory, name, written=False) for name in "ab"]) is None


def test_tensors_without_memory_are_passed_over():
    for tensor in (torch.ones(2, device="meta"), torch.ones(0), torch.ones(2, 2).to_sparse()):
        assert part_of(tensor, "a", written=True) is None
    torch.vmap(lambda x: x if part_of(x, "a", written=True) is None else 1 / 0)(torch.ones(2, 2))


# Converted models


def model(**config):
    torch.manual_seed(0)
    config = {"fuzzy_lr_distribution": "weight_adaptive", "record_activity": True, "fuzzy_lr_dynamic": True, **config}
    net = BioConverter(apply_dales_principle=True, **config)(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))))
    net(torch.randn(5, 4)).square().sum().backward()
    return net


def state(net):
    """Everything that methods may change, layer by layer."""
    return [
        {"weight": layer.weight, "grad": layer.weight.grad, **dict(layer.bio_mod.named_buffers())} for layer in net[:2]
    ]


def assign(layer, name, tensor):
    if name == "weight":
        layer.weight.data = tensor
    elif name == "grad":
        layer.weight.grad = tensor
    else:
        setattr(layer.bio_mod, name, tensor)


def shared(name, other):
    """The tensor of the first layer also serves the second, or the same layer, as something else."""

    def alias(net):
        assign(net[1], name, state(net)[0][other].detach())

    return alias


def in_one_layer(name, other):
    def alias(net):
        assign(net[0], name, state(net)[0][other].detach())

    return alias


def windows(name, strides=(1, 1)):
    def alias(net):
        memory = torch.arange(1.0, 40.0) / 40
        for number, layer in enumerate(net[:2]):
            assign(layer, name, memory.clone().as_strided((4, 4), strides, number))

    return alias


def slices(name, of):
    """Both layers' tensors lie in one buffer."""

    def alias(net):
        first, second = of(torch.arange(1.0, 65.0) / 64)
        assign(net[0], name, first)
        assign(net[1], name, second)

    return alias


OVERLAPPING = {
    **{f"one {name}": shared(name, name) for name in ("weight", "grad", "fuzzy_learning_rate_parameters")},
    **{f"one {name}": shared(name, name) for name in ("key", "updates", "activation_count", "sign")},
    "a gradient that is the weight": in_one_layer("grad", "weight"),
    "a gradient that is the other's weight": shared("grad", "weight"),
    "rates that are the gradient": in_one_layer("fuzzy_learning_rate_parameters", "grad"),
    "rates that are the weight": in_one_layer("fuzzy_learning_rate_parameters", "weight"),
    **{f"windows for {name}": windows(name) for name in ("weight", "grad", "fuzzy_learning_rate_parameters")},
    "expanded gradients": windows("grad", (0, 1)),
    "expanded rates": windows("fuzzy_learning_rate_parameters", (0, 1)),
    "overlapping slices of weights": slices("weight", lambda m: (m[:16].view(4, 4), m[12:28].view(4, 4))),
    "overlapping slices of gradients": slices("grad", lambda m: (m[:16].view(4, 4), m[15:31].view(4, 4))),
    "crossing rows and columns": slices("grad", lambda m: (m.view(8, 8)[:4, :4], m.view(8, 8)[3:7, 2:6])),
}
APART = {
    "nothing": lambda net: None,
    "slices of one buffer for weights": slices("weight", lambda m: (m[:16].view(4, 4), m[16:32].view(4, 4))),
    "slices of one buffer for gradients": slices("grad", lambda m: (m[16:32].view(4, 4), m[:16].view(4, 4))),
    "columns of one buffer": slices("grad", lambda m: (m.view(8, 8)[:4, :4], m.view(8, 8)[:4, 4:])),
    "every other number": slices("weight", lambda m: (m[:32:2].view(4, 4), m[1:32:2].view(4, 4))),
}
METHODS = [name for name in BioModule.exposed_functions if name != "l1_reg"]
ALONE = ["rejuvenate_weights", "fuzzy_learning_rates", "crystallize"]
DOORS = {
    **{name: lambda net, name=name: getattr(net, name)() for name in METHODS},
    **{f"bio_mod {name}": lambda net, name=name: [getattr(layer.bio_mod, name)() for layer in net] for name in ALONE},
    "bio_step": lambda net: net.bio_step(),
    "bio_step long": lambda net: net.bio_step("crystallize", "fuzzy_learning_rates", "rejuvenate_weights"),
}


def snapshot(net):
    return [{name: tensor.detach().clone() for name, tensor in layer.items()} for layer in state(net)]


def unaliased(net):
    """The same numbers, each tensor with memory of its own."""
    other = copy.deepcopy(net)
    other[2].weight.grad = net[2].weight.grad.clone()
    for layer, tensors in zip(other, snapshot(net), strict=False):
        for name, tensor in tensors.items():
            assign(layer, name, tensor.clone(memory_format=torch.contiguous_format))
    return other


def same(first, second):
    return all(torch.equal(one[name], two[name]) for one, two in zip(first, second, strict=True) for name in one)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("alias", [*OVERLAPPING, *APART])
def test_every_method_is_right_or_refuses_before_anything_changes(alias, door):
    net = model()
    {**OVERLAPPING, **APART}[alias](net)
    expected = unaliased(net)
    DOORS[door](expected)
    before = everything(net)
    alone = "bio_mod" in door  # One layer after the other, each on its own.
    try:
        DOORS[door](net)
    except RuntimeError as error:
        message = str(error)
    else:
        assert same(state(net), state(expected)) or alone
        return
    assert alias in OVERLAPPING
    assert "should have memory" in message
    assert alone or everything(net) == before


REFUSED = [
    ("one weight", "rejuvenate_weights"),
    ("one grad", "fuzzy_learning_rates"),
    ("one grad", "bio_step"),
    ("windows for grad", "volume_dependent_lr"),
    ("one fuzzy_learning_rate_parameters", "crystallize"),
    ("a gradient that is the weight", "fuzzy_learning_rates"),
    ("a gradient that is the weight", "bio_mod rejuvenate_weights"),
    ("one activation_count", "scale_grad"),
    ("one updates", "update_fuzzy_learning_rates"),
]
RIGHT = [
    ("one grad", "crystallize"),
    ("one sign", "enforce_dales_principle"),
    ("one weight", "fuzzy_learning_rates"),
    ("expanded rates", "fuzzy_learning_rates"),
    ("one fuzzy_learning_rate_parameters", "fuzzy_learning_rates"),
]


@pytest.mark.parametrize(("alias", "door"), REFUSED)
def test_what_would_be_wrong_is_refused(alias, door):
    net = model()
    OVERLAPPING[alias](net)
    with pytest.raises(RuntimeError, match=r"should have memory (of its own|for every element); found"):
        DOORS[door](net)


@pytest.mark.parametrize(("alias", "door"), RIGHT)
def test_what_is_only_read_may_be_shared(alias, door):
    net = model()
    OVERLAPPING[alias](net)
    expected = unaliased(net)
    for one in (net, expected):
        DOORS[door](one)
    assert same(state(net), state(expected))


# Optimizers


PLACES = {
    "update": ["fuzzy_learning_rates", "volume_dependent_lr"],
    "after": ["rejuvenate_weights"],
    "gradient": [funcbio.Mechanism("fuzzy_learning_rates", where="gradient"), "crystallize"],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("alias", ["one weight", "one grad", "overlapping slices of weights", "windows for weight"])
def test_attached_mechanisms_refuse_before_the_step(alias, place):
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    attach(optimizer, net, PLACES[place])
    OVERLAPPING[alias](net)
    before = everything(net)
    written = {"gradient": ("grad", "windows"), "update": ("weight",), "after": ("weight",)}[place]
    if not any(name in alias for name in written):
        optimizer.step()  # What is written is apart.
        return
    with pytest.raises(RuntimeError, match="should have memory"):
        optimizer.step()
    assert everything(net) == before


# Conversion


def tied_by_data(net):
    net[1].weight.data = net[0].weight.data


def overlapping(net):
    memory = torch.randn(28)
    net[0].weight.data, net[1].weight.data = memory[:16].view(4, 4), memory[12:].view(4, 4)


def window(net):
    net[0].weight = nn.Parameter(torch.arange(7.0).as_strided((4, 4), (1, 1)))


@pytest.mark.parametrize("alias", [tied_by_data, overlapping, window])
@pytest.mark.parametrize("dale", [False, True])
def test_conversion_refuses_weights_that_overlap(alias, dale):
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    alias(net)
    before = everything(net)
    for convert in (
        BioConverter(apply_dales_principle=dale),
        lambda net: attach(torch.optim.SGD(net.parameters()), net, ["volume_dependent_lr"]),
    ):
        with pytest.raises(ValueError, match=r"0\.weight .*should .*found"):
            convert(net)
    if alias is not window:  # Pure functions write nothing: an expanded weight is fine there, two that are one are not.
        with pytest.raises(ValueError, match=r"0\.weight and 1\.weight should be one parameter"):
            funcbio.bind(net)
    assert everything(net) == before


def test_weights_in_one_buffer_convert_and_train():
    flat = torch.randn(32)
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[0].weight.data, net[1].weight.data = flat[:16].view(4, 4), flat[16:].view(4, 4)
    BioConverter()(net)
    net(torch.ones(1, 4)).sum().backward()
    net.bio_step("crystallize", "fuzzy_learning_rates")
    assert len(net.rejuvenate_weights()) == 2


def test_part_of_a_model_may_be_tied_to_what_holds_no_synapses():
    net = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "hidden": nn.Linear(4, 4), "head": nn.Linear(4, 5)})
    net["head"].weight.data = net["embedding"].weight.data
    BioConverter()(net)
    net.rejuvenate_weights()
    assert torch.equal(net["head"].weight, net["embedding"].weight)
