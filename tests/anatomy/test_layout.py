"""Dale's signs lie along the inputs of a layer, whoever made it, or the layer is refused before anything changes."""

import pytest
import torch
from bad_inputs import everything
from torch import nn

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, attach

DALE = {"apply_dales_principle": True}


class Transposed(nn.Module):
    """A linear layer that stores its weight as (in, out)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / 5)

    def forward(self, x):
        return x @ self.weight


class Plain(nn.Module):
    """A linear layer of a user's own that stores its weight as (out, in)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / 5)

    def forward(self, x):
        return x @ self.weight.T


class Convolution(nn.Module):
    """A convolution whose kernel is stored as (k, k, in, out)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, inputs, outputs) / 5)

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight.permute(3, 2, 0, 1))


class Conv1D(nn.Module):
    """The layer of GPT-2, under its name, as Transformers has it."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf) / 5), nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


class Adapted(nn.Linear):
    """A subclass of torch's layer with a parameter of its own, whose layout the class does not tell."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.down = nn.Parameter(torch.randn(inputs, 2))

    def forward(self, x):
        return super().forward(x) + (x @ self.down).sum(-1, keepdim=True)


def around(layer):
    """The layer between two of torch's; the last is the read-out."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 30), layer, nn.Linear(20, 2))


def one_signed(weight, dim):
    """Whether all weights of each unit along a dimension have one sign."""
    signs = torch.sign(weight.detach()).movedim(dim, 0).flatten(1)
    return bool((signs.abs().sum(1) == signs.sum(1).abs()).all())


def axes(bio, dims):
    return [dim for dim in range(dims) if bio.sign.shape[dim] > 1]


# Layers that torch, or Transformers, has made: layer, name of the weight, dimension of the inputs.
KNOWN = {
    "Linear": (lambda: nn.Linear(30, 20), "weight", 1),
    "square Linear": (lambda: nn.Linear(20, 20), "weight", 1),
    "Conv2d": (lambda: nn.Conv2d(30, 20, 3), "weight", 1),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(30, 20, 3), "weight", 0),
    "Embedding": (lambda: nn.Embedding(30, 20), "weight", 0),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(30, 20), "weight", 0),
    "GRU": (lambda: nn.GRU(30, 20, 2, bidirectional=True), "weight_hh_l1_reverse", 1),
    "LSTM": (lambda: nn.LSTM(30, 20, proj_size=5), "weight_hr_l0", 1),
    "RNNCell": (lambda: nn.RNNCell(30, 20), "weight_ih", 1),
    "attention": (lambda: nn.MultiheadAttention(20, 2), "in_proj_weight", 1),
    "attention of other sizes": (lambda: nn.MultiheadAttention(20, 2, kdim=6, vdim=7), "v_proj_weight", 1),
    "Conv1D": (lambda: Conv1D(20, 30), "weight", 0),
    "square Conv1D": (lambda: Conv1D(20, 20), "weight", 0),
}
UNKNOWN = {
    "transposed": (lambda: Transposed(30, 20), "weight", 0),
    "square transposed": (lambda: Transposed(20, 20), "weight", 0),
    "plain": (lambda: Plain(30, 20), "weight", 1),
    "convolution": (lambda: Convolution(30, 20), "weight", 2),
    "bilinear": (lambda: nn.Bilinear(30, 6, 20), "weight", 2),
    "a parameter of a subclass": (lambda: Adapted(30, 20), "down", 0),
    "a list of parameters": (lambda: nn.ParameterList([torch.randn(30, 20)]), "0", 0),
}


def beside(make, name):
    """The layer beside a read-out, and a choice of just the two."""
    torch.manual_seed(0)
    return nn.ModuleDict({"layer": make(), "out": nn.Linear(4, 2)}), [f"layer.{name}*", "out.weight"]


@pytest.mark.parametrize("kind", KNOWN)
def test_signs_of_known_layers_lie_along_their_inputs(kind):
    make, name, dim = KNOWN[kind]
    model, choice = beside(make, name)
    BioConverter(synapses=choice, **DALE)(model)
    held = model["layer"].bio_mod
    bio = held if isinstance(held, BioModule) else held[name]
    assert axes(bio, bio.weight.ndim) == [dim]
    assert one_signed(bio.weight, dim)
    assert not one_signed(bio.weight, 1 - dim)


@pytest.mark.parametrize("kind", UNKNOWN)
def test_signs_of_other_layers_are_refused_before_anything_changes(kind):
    make, name, _ = UNKNOWN[kind]
    model, choice = beside(make, name)
    before = everything(model)
    optimizer = torch.optim.SGD(model.parameters())
    data = torch.ones(8, 4), torch.ones(8, 2)
    doors = {
        "converter": lambda: BioConverter(synapses=choice, **DALE)(model),
        "attach": lambda: attach(
            optimizer, model, ["volume_dependent_lr"], converter=BioConverter(synapses=choice, **DALE)
        ),
        "bind": lambda: funcbio.bind(model, BioConfig(**DALE), choice).init(
            dict(model.named_parameters()), key=funcbio.key(0)
        ),
        "init": lambda: funcbio.init(
            dict(model.named_parameters()),
            key=funcbio.key(0),
            config=BioConfig(**DALE),
            synapses=funcbio.synapses(model, choice),
        ),
        "sweep": lambda: funcbio.sweep(
            lambda: beside(make, name)[0],
            nn.functional.mse_loss,
            data,
            steps=1,
            batch_size=4,
            seeds=1,
            synapses=choice,
            config=BioConfig(**DALE),
        ),
    }
    for door, call in doors.items():
        with pytest.raises(ValueError, match=rf"which dimension of layer\.{name} belongs to the inputs; found"):
            pytest.fail(f"{door} gave {call()}")
    assert everything(model) == before


@pytest.mark.parametrize("kind", UNKNOWN)
@pytest.mark.parametrize("by", ["name", "pattern", "predicate", "from the end"])
def test_the_user_s_word_puts_them_where_they_belong(kind, by):
    make, name, dim = UNKNOWN[kind]
    model, _ = beside(make, name)
    rule = {"pattern": f"layer.{name}*", "predicate": lambda n, m: n == f"layer.{name}"}.get(by, f"layer.{name}")
    weight = model.get_parameter(f"layer.{name}")
    choice = {"out.weight": None, rule: dim - weight.ndim if by == "from the end" else dim}
    BioConverter(synapses=choice, **DALE)(model)
    held = model["layer"].bio_mod
    bio = held if isinstance(held, BioModule) else held[name]
    assert axes(bio, weight.ndim) == [dim]
    assert one_signed(weight, dim)
    with torch.no_grad():
        weight.mul_(torch.where(torch.rand(weight.shape) < 0.5, -1.0, 1.0))
    model.enforce_dales_principle()
    assert one_signed(weight, dim)
    replaced = model.rejuvenate_weights()[f"layer.{name}"]
    assert replaced.any()
    assert one_signed(weight, dim)
    state = funcbio.bind(model, BioConfig(**DALE), choice).init(dict(model.named_parameters()), key=bio.key)
    assert state.sign[f"layer.{name}"].shape == bio.sign.shape


def test_every_door_takes_the_mapping():
    choice = {"*weight": None, "1.weight": 0}
    model = around(Transposed(30, 20))
    described = funcbio.synapses(model, choice)
    assert [(s.pre, s.post, s.layout_known) for s in described.values()] == [(1, 0, True), (0, 1, True), (1, 0, True)]
    output, activity = funcbio.observe(model, choice)(dict(model.named_parameters()), torch.randn(5, 4))
    assert output.shape == (5, 2)
    assert activity["1.weight"].ndim == 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    attach(optimizer, model, ["enforce_dales_principle"], converter=BioConverter(synapses=choice, **DALE))
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        assert one_signed(model[1].weight, 0)
    x = torch.randn(16, 4)
    found = funcbio.sweep(
        lambda: around(Transposed(30, 20)),
        nn.functional.mse_loss,
        (x, x[:, :2]),
        steps=2,
        batch_size=8,
        seeds=2,
        lr=0.5,
        synapses=choice,
        config=BioConfig(**DALE),
        mechanisms=["enforce_dales_principle"],
    )
    assert all(one_signed(weight, 0) for weight in found.params["1.weight"])
    assert all(one_signed(weight, 1) for weight in found.params["0.weight"])


def test_gpt_2_of_transformers_is_known():
    layers = pytest.importorskip("transformers.pytorch_utils")
    model = around(layers.Conv1D(20, 30))
    BioConverter(synapses="*weight", **DALE)(model)
    assert one_signed(model[1].weight, 0)
    assert not one_signed(model[1].weight, 1)


@pytest.mark.filterwarnings("ignore:weight_splitting_Gamma=2 should find a layer:funcbio.IdleWarning")
@pytest.mark.parametrize("kind", UNKNOWN)
def test_nothing_else_minds(kind):
    make, name, _ = UNKNOWN[kind]
    model, choice = beside(make, name)
    BioConverter(synapses=choice, record_activity=True, weight_splitting_Gamma=2)(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.bio_step("crystallize", "fuzzy_learning_rates", "volume_dependent_lr")
    assert model.rejuvenate_weights()[f"layer.{name}"].any()


def test_layers_that_have_no_signs_need_no_word():
    readout = nn.Sequential(nn.Linear(4, 30), Transposed(30, 20))
    BioConverter(synapses="*weight", **DALE)(readout)
    assert readout[1].bio_mod.sign.ndim == 0
    frozen = around(Transposed(30, 20).requires_grad_(False))
    BioConverter(synapses="*weight", **DALE)(frozen)
    assert frozen[1].bio_mod.sign.ndim == 0
    BioConverter(**DALE)(around(Transposed(30, 20)))  # It is not chosen.


def test_summed_weights_need_the_dimension_too():
    model = around(Transposed(30, 20))
    params = dict(model.named_parameters())
    with pytest.raises(ValueError, match=r"gamma should be told which dimension of 1\.weight belongs to the inputs"):
        funcbio.split_weights(params, 2, synapses=funcbio.synapses(model, "*weight"))
    split = funcbio.split_weights(params, 2, synapses=funcbio.synapses(model, {"*weight": None, "1.weight": 0}))
    assert torch.equal(split["1.weight"][:, 0], split["1.weight"][:, 1])


def test_a_module_made_by_hand_is_refused_before_anything_changes():
    layer = nn.Bilinear(3, 4, 5)
    before = layer.weight.clone()
    (synapse,) = funcbio.synapses(layer, "weight").values()
    with pytest.raises(ValueError, match="which dimension of weight belongs to the inputs"):
        BioModule(layer, BioConfig(**DALE), synapse=synapse)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"0.weight": 0}, r"should give 1 for 0\.weight, the inputs of a Linear; found 0"),
        ({"1.weight": 2}, r"should give a dimension of 1\.weight, of shape \(30, 20\); found 2"),
        ({"1.weight": True}, "an integer or None; found '1.weight': True"),
        ({"1.weight": "input first"}, "an integer or None; found"),
        ({1: 0}, "patterns or predicates"),
        (
            {"*weight": 0, "1.weight": 1},
            r"should say one dimension for 0\.weight|should give 1|one dimension for 1\.weight",
        ),
        ({"nothing": 0}, "found no match for 'nothing'"),
        ({}, "a parameter that synapses chooses"),
    ],
)
def test_what_cannot_be_said_is_refused(choice, message):
    model = around(Transposed(30, 20))
    before = everything(model)
    for call in (lambda: funcbio.synapses(model, choice), lambda: BioConverter(synapses=choice)(model)):
        with pytest.raises(ValueError, match=message):
            call()
    assert everything(model) == before


def test_a_subclass_of_a_torch_layer_may_lay_its_weight_out_otherwise():
    class Turned(nn.Linear):
        def __init__(self, inputs, outputs):
            super().__init__(inputs, outputs, bias=False)
            self.weight = nn.Parameter(self.weight.detach().T.clone())

        def forward(self, x):
            return x @ self.weight

    model = around(Turned(30, 20))
    BioConverter(synapses={"*weight": None, "1.weight": 0}, **DALE)(model)
    assert one_signed(model[1].weight, 0)
    model(torch.randn(3, 4))


def test_of_a_tie_the_first_layer_tells():
    class Tied(nn.Module):
        def __init__(self, first, second):
            super().__init__()
            self.first, self.second, self.out = first, second, nn.Linear(2, 2)
            self.second.weight = self.first.weight

    tied = Tied(nn.Embedding(7, 4), nn.Linear(4, 7))
    for choice in ("*weight", {"*weight": None}, {"first.weight": 0, "second.weight": 1, "out.weight": None}):
        assert funcbio.synapses(tied, choice)["first.weight"].pre == 0
    own = Tied(Transposed(5, 4), Transposed(5, 4))
    for choice in ({"*weight": None, "second.weight": 0}, {"*weight": None, "first.weight": 0}):
        found = funcbio.synapses(own, choice)["first.weight"]
        assert (found.pre, found.layout_known) == (0, True)


def test_columns_of_signs_are_those_of_the_products():
    """A unit whose signs are positive only raises what follows."""
    for layer, choice in ((Transposed(30, 20), {"*weight": None, "1.weight": 0}), (nn.Linear(30, 20), "*weight")):
        model = around(layer)
        BioConverter(synapses=choice, **DALE)(model)
        effect = torch.func.jacrev(layer)(torch.randn(30))  # (out, in)
        assert one_signed(effect, 1)
