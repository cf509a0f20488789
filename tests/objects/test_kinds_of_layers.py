"""Every kind of layer, any choice of synapses, and weights that can be none."""

import contextlib
import copy

import pytest
import torch
from citizens import (
    EVERYTHING,
    OPTIMIZERS,
    Mlp,
    Recurrent,
    ResNet,
    Transformer,
    batch,
    bio_mods,
    citizen,
    equal,
    gradients,
    mechanisms,
    pickled,
    snapshot,
    train,
)
from torch import nn
from torch.nn.utils import prune

import funcbio
from funcbio import BioConverter, IdleWarning

CONVOLUTIONS = {
    "Conv1d": (nn.Conv1d(4, 6, 3), (2, 4, 7)),
    "Conv2d": (nn.Conv2d(4, 6, 3), (2, 4, 7, 7)),
    "Conv3d": (nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 3), (2, 4, 7)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3), (2, 4, 7, 7)),
    "ConvTranspose3d": (nn.ConvTranspose3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 7, 7)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4), (2, 4, 7, 7)),
    "grouped transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 7, 7)),
    "depthwise transposed": (nn.ConvTranspose1d(4, 8, 3, groups=4), (2, 4, 7)),
    "without batch": (nn.Conv2d(4, 6, 3), (4, 7, 7)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_every_convolution_splits_counts_and_keeps_dales_principle(kind):
    layer, shape = CONVOLUTIONS[kind]
    plain = copy.deepcopy(layer)
    model = BioConverter(**EVERYTHING)(copy.deepcopy(layer))
    plain.load_state_dict(model.state_dict(), strict=False)
    x = torch.randn(shape)
    units = 1 if len(shape) == plain.weight.ndim else 0
    whole = plain(x).unflatten(units, (-1, 2)).sum(units + 1).repeat_interleave(2, units)
    torch.testing.assert_close(model(x), whole)
    others = [d for d in range(len(shape)) if d != units]
    assert torch.equal(model.bio_mod.activation_count, (plain(x).abs() > 0.01).sum(others))
    model(x).square().sum().backward()
    for step in range(3):
        mechanisms(model, step)
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.enforce_dales_principle()
    # What one input channel sends out has one sign.
    silent = torch.zeros(shape[units] if units else shape[0])
    for channel in range(len(silent)):
        one = torch.zeros(shape).index_fill_(units, torch.tensor([channel]), 1.0)
        with torch.no_grad():
            plain.load_state_dict(model.state_dict(), strict=False)
            sent = plain(one) - plain(torch.zeros(shape))
        assert (sent >= -1e-6).all() or (sent <= 1e-6).all()


RECURRENT = [f"{layer}.weight_{part}_l0" for layer in ("gru", "lstm") for part in ("ih", "hh")]


@pytest.mark.parametrize(
    ("name", "choice", "expected"),
    [
        ("recurrent", ["gru.weight_*", "lstm.weight_*", "head.weight"], [*RECURRENT, "head.weight"]),
        ("recurrent", lambda name, module: isinstance(module, nn.RNNBase), RECURRENT),
        ("transformer", "*.in_proj_weight", [f"encoder.layers.{i}.self_attn.in_proj_weight" for i in (0, 1)]),
        ("transformer", ["embed.weight", "head.weight"], ["embed.weight", "head.weight"]),
        (
            "resnet",
            lambda name, module: module.kernel_size == (3, 3) if hasattr(module, "kernel_size") else False,
            None,
        ),
    ],
)
def test_a_choice_of_synapses_trains_and_saves(name, choice, expected):
    shows_none = expected is not None and all("head" not in part for part in expected)

    def told():
        match = "fuzzy_lr_distribution='activity' should"
        return pytest.warns(IdleWarning, match=match) if shows_none else contextlib.nullcontext()

    with told():
        model = citizen(name, synapses=choice, weight_splitting_Gamma=0)
    chosen = [bio.synapse.weight for bio in bio_mods(model)]
    assert chosen == expected or expected is None
    assert list(funcbio.synapses(model, choice)) == chosen
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    gradients(model, name)
    changed = snapshot(model)
    for method in ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize", "rejuvenate_weights"):
        getattr(model, method)()
    model.enforce_dales_principle()
    optimizer.step()
    assert all(not torch.equal(changed[n], model.get_parameter(n)) for n in chosen)
    twin = pickled(model)
    assert equal(snapshot(twin), snapshot(model))
    with told():
        other = citizen(name, seed=5, synapses=choice, weight_splitting_Gamma=0)
    other.load_state_dict(model.state_dict())
    assert equal(snapshot(other), snapshot(model))


def test_norms_and_biases_are_never_synapses():
    for make in (Mlp, ResNet, Transformer, Recurrent):
        described = funcbio.synapses(make(), "*")
        assert not any("norm" in n or "bias" in n or "bn" in n for n in described)


def test_the_functional_side_takes_the_same_choice():
    model = Recurrent()
    params = {n: p.detach() for n, p in model.named_parameters()}
    bio = funcbio.bind(model, funcbio.BioConfig(record_activity=True), synapses="*")
    state = bio.init(params, key=funcbio.key(0))
    assert state.rate["gru.weight_hh_l0"].shape == params["gru.weight_hh_l0"].shape
    _, activity = funcbio.observe(model, synapses="*")(params, batch("recurrent")[0])
    assert {n: a.shape for n, a in activity.items()} == {n: a.shape for n, a in state.activity.items()}


@pytest.mark.parametrize("eval_mode", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_the_output_projection_of_attention_is_split_and_counted(eval_mode, batch_first):
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    plain = copy.deepcopy(attention)
    model = BioConverter(record_activity=True, weight_splitting_Gamma=2)(nn.Sequential(attention, nn.Linear(8, 2)))
    attention.train(not eval_mode)
    plain.train(not eval_mode)
    x = torch.randn(3, 5, 8)
    expected = plain(x, x, x)
    output = attention(x, x, x)
    torch.testing.assert_close(output[0], expected[0].unflatten(-1, (-1, 2)).sum(-1).repeat_interleave(2, -1))
    torch.testing.assert_close(output[1], expected[1])
    count = (expected[0].abs() > 0.01).sum((0, 1))
    assert torch.equal(model[0].out_proj.bio_mod.activation_count, count)


def test_the_padding_row_of_an_embedding_stays_zero():
    model = citizen("transformer", synapses="*", weight_splitting_Gamma=0)
    train(model, OPTIMIZERS["Adam"](model.parameters()), "transformer", range(6))
    assert not model.embed.weight[0].any()
    assert not model.rejuvenate_weights()["embed.weight"][0].any()


def test_sparse_gradients_are_refused_before_anything_changes():
    model = nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Linear(4, 2))
    BioConverter(synapses="*")(model)
    model(torch.tensor([1, 2])).sum().backward()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match=r"gradient of 0\.weight should be dense"):
        model.volume_dependent_lr()
    assert equal(snapshot(model), before)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("fc*", r"should match parameters \(body\.0\.weight, .*found no match for 'fc\*'"),
        (lambda name, module: False, "a parameter that synapses chooses"),
    ],
)
def test_a_choice_that_chooses_nothing_is_refused(choice, message):
    model = Mlp()
    with pytest.raises(ValueError, match=message):
        BioConverter(synapses=choice)(model)
    assert not any(hasattr(m, "bio_mod") for m in model.modules())


COMPUTED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "pruning": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_weight_that_is_computed_from_others_is_refused_and_can_be_left_out(kind):
    model = Mlp()
    COMPUTED[kind](model.body[0])
    with pytest.raises(ValueError, match=r"the weight of layer 'body\.0' should be a parameter"):
        BioConverter()(model)
    assert not any(hasattr(m, "bio_mod") for m in model.modules())
    BioConverter(synapses=lambda name, module: name in ("body.2.weight", "head.weight"))(model)
    gradients(model, "mlp")
    model.crystallize()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8])
def test_weights_that_are_no_real_numbers_are_refused(dtype):
    model = Mlp()
    model.head.weight = nn.Parameter(model.head.weight.detach().to(dtype), requires_grad=False)
    with pytest.raises(ValueError, match=rf"head\.weight should hold real floating-point numbers.*found {dtype}"):
        BioConverter()(model)
    assert not any(hasattr(m, "bio_mod") for m in model.modules())
