"""Layers with separate inhibitory units."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from funcbio import BioConverter, DANNConv2d, DANNLinear, Mechanism, attach, keep_projected, units

LAYERS = {
    "dense": (lambda **o: DANNLinear(6, 4, 2, **o), (3, 6)),
    "conv": (lambda **o: DANNConv2d(2, 4, 3, 2, **o), (3, 2, 5, 5)),
}


def by_hand(layer, x):
    """The equation, a unit and an input at a time."""
    ex, ix, ei = (weight.detach() for weight in (layer.weight_ex, layer.weight_ix, layer.weight_ei))
    gain, bias, alpha = (one.detach() for one in (layer.gain, layer.bias, layer.alpha))
    rows = []
    for inputs in x:
        inhibition = [sum(w * v for w, v in zip(row, inputs, strict=True)) for row in ix]
        row = []
        for unit in range(len(ex)):
            excitation = sum(w * v for w, v in zip(ex[unit], inputs, strict=True))
            subtracted = sum(w * h for w, h in zip(ei[unit], inhibition, strict=True))
            divided = sum(w * a.exp() * h for w, a, h in zip(ei[unit], alpha, inhibition, strict=True))
            row.append(gain[unit] * (excitation - subtracted) / divided + bias[unit])
        rows.append(torch.stack(row))
    return torch.stack(rows)


def test_a_dense_layer_computes_its_equation():
    layer = DANNLinear(5, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.gain.copy_(torch.tensor([1.0, 2.0, 0.5]))
        layer.bias.copy_(torch.tensor([0.1, 0.0, -1.0]))
        layer.alpha.copy_(torch.tensor([0.3, -0.2]))
    x = torch.rand(4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_hand(layer, x))


def test_a_convolution_is_the_dense_layer_at_every_place():
    conv = DANNConv2d(2, 4, 3, 2, stride=2, padding=1, dtype=torch.float64)
    dense = DANNLinear(18, 4, 2, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in dense.named_parameters():
            parameter.copy_(conv.get_parameter(name).reshape(parameter.shape))
    x = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    patches = nn.functional.unfold(x, 3, padding=1, stride=2)
    expected = dense(patches.movedim(1, -1)).movedim(-1, 1).reshape(3, 4, 3, 3)
    torch.testing.assert_close(conv(x), expected)


def test_weights_start_exponential_and_inhibition_balances_excitation():
    torch.manual_seed(0)
    layer = DANNLinear(400, 500, 50)
    scale = math.sqrt(2 * math.pi / (400 * (2 * math.pi - 1)))
    count = layer.weight_ex.numel()
    assert abs(layer.weight_ex.mean() - scale) < 5 * scale / math.sqrt(count)  # Mean and spread are the same.
    assert abs(layer.weight_ex.std() - scale) < 5 * scale * math.sqrt(2 / count)
    # The mean of the net weights: that of the excitatory ones less that of the inhibitory ones.
    net = layer.weight_ex - layer.weight_ei @ layer.weight_ix
    assert abs(net.mean()) < 5 * scale / math.sqrt(layer.weight_ix.numel())


@pytest.mark.parametrize("inhibitory", [1, 5])
def test_outputs_start_with_the_moments_of_the_law(inhibitory):
    """Over draws of weights and inputs, to five standard errors of as many independent layers."""
    torch.manual_seed(0)
    scale = math.sqrt(2 * math.pi / (20 * (2 * math.pi - 1)))
    mean = 20 * scale / math.sqrt(2 * math.pi)  # E[x] = 1 / sqrt(2 pi), E[x^2] = 1/2.
    found = []
    for _ in range(2000):
        layer, x = DANNLinear(20, 5, inhibitory, dtype=torch.float64), torch.randn(20, dtype=torch.float64).relu()
        excitation, inhibition = layer.weight_ex @ x, layer.weight_ix @ x
        subtracted = excitation - layer.weight_ei @ inhibition
        divisor = layer.weight_ei @ (layer.alpha.exp() * inhibition)
        spread = (excitation - mean).square().mean(), subtracted.square().mean()
        found.append(torch.stack([excitation.mean(), subtracted.mean(), divisor.mean(), *spread]).detach())
    found = torch.stack(found)
    # One inhibitory unit has the mean of five excitatory ones; five others are independent of them.
    spread = 20 * scale**2 * 0.5 * (1 - 1 / 5 if inhibitory == 1 else 1 + 1 / 5)
    expected = torch.tensor([mean, 0.0, 1.0, 1.0, spread], dtype=torch.float64)
    error = found.std(0) / math.sqrt(len(found))
    # The mean over all units is exactly 0 where inhibition is their mean.
    assert ((found.mean(0) - expected).abs() < 5 * error + 1e-12).all()
    assert (error < 0.05).all()  # Small enough to tell the law from another one.


@pytest.mark.parametrize("name", LAYERS)
def test_training_with_projection_keeps_weights_at_zero_or_above(name):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    handle = keep_projected(optimizer, layer)
    weights = (layer.weight_ex, layer.weight_ix, layer.weight_ei)
    for _ in range(20):
        optimizer.zero_grad()
        layer(torch.rand(shape)).mean().backward()  # Pushes excitatory weights down.
        optimizer.step()
        assert all(bool((weight >= 0).all()) for weight in weights)
    assert any(bool((weight == 0).any()) for weight in weights)  # Some would have been negative.
    handle.remove()
    optimizer.step()
    assert any(bool((weight < 0).any()) for weight in weights)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_the_equation(name):
    make, shape = LAYERS[name]
    layer = make(correct=False, dtype=torch.float64)
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def computed(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(computed, (x, *layer.parameters()))


@pytest.mark.parametrize(("name", "fan_in"), [("dense", 6), ("conv", 18)])
def test_corrections_divide_gradients(name, fan_in):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    corrected = make(dtype=torch.float64)
    plain = copy.deepcopy(corrected)
    plain.correct = False
    x = torch.rand(shape, dtype=torch.float64)
    for layer in (corrected, plain):
        layer(x).square().sum().backward()
    factors = {"weight_ix": 1 / 2, "weight_ei": 1 / fan_in, "alpha": 1 / (2 * fan_in)}  # sqrt(4) = 2 units.
    for parameter_name, parameter in corrected.named_parameters():
        expected = plain.get_parameter(parameter_name).grad * factors.get(parameter_name, 1.0)
        torch.testing.assert_close(parameter.grad, expected)
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_corrections_leave_outputs_as_they_are_to_the_bit(dtype):
    torch.manual_seed(0)
    layer, x = DANNLinear(30, 40, 7, dtype=dtype), torch.rand(50, 30, dtype=dtype)
    with torch.no_grad():
        layer.alpha.add_(torch.randn(7).to(dtype))
        plain = layer(x)
    assert torch.equal(layer(x), plain)
    layer.correct = False
    assert torch.equal(layer(x), plain)
    assert plain.dtype == dtype


def test_copies_keep_the_corrections():
    torch.manual_seed(0)
    layer, x = DANNLinear(6, 4, 2), torch.rand(5, 6)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other(x).square().sum().backward()
        layer.zero_grad()
        layer(x).square().sum().backward()
        assert torch.equal(other.weight_ix.grad, layer.weight_ix.grad)


def test_gradients_by_hand():
    """Two units, two inputs, one inhibitory unit; the divisor is 2 everywhere."""
    layer = DANNLinear(2, 2, 1, dtype=torch.float64)
    values = {"weight_ex": [[3.0, 1.0], [1.0, 0.0]], "weight_ix": [[1.0, 1.0]], "weight_ei": [[1.0], [1.0]]}
    with torch.no_grad():
        for name, value in {**values, "alpha": [0.0], "gain": [1.0, 2.0], "bias": [0.0, 1.0]}.items():
            layer.get_parameter(name).copy_(torch.tensor(value))
    z = layer(torch.ones(1, 2, dtype=torch.float64))
    # Inhibition 2: unit 0 has (4 - 2) / 2 = 1, unit 1 has 2 (1 - 2) / 2 + 1 = 0.
    assert z.tolist() == [[1.0, 0.0]]
    z.sum().backward()
    # z = g (e / (w h) - 1 / a) + b with h = 2: by h, -g e / h^2 = -1 and -1/2, in sum -3/2; over sqrt(2).
    expected = torch.full((1, 2), -1.5 / math.sqrt(2), dtype=torch.float64)
    torch.testing.assert_close(layer.weight_ix.grad, expected)
    # By w, -g e / (w^2 h) = -2 and -1; over 2 inputs.
    torch.testing.assert_close(layer.weight_ei.grad, torch.tensor([[-1.0], [-0.5]], dtype=torch.float64))
    # By alpha, -g (e - h) / h = -1 and 1, in sum 0; the gains get (e - h) / h = 1 and -1/2.
    assert layer.alpha.grad.tolist() == [0.0]
    assert layer.gain.grad.tolist() == [1.0, -0.5]


@pytest.mark.parametrize("inhibitory", [None, 6])
def test_an_image_alone_gives_what_it_gives_in_a_batch(inhibitory):
    """As many channels as rows: numbers for channels laid along rows would pass unseen."""
    torch.manual_seed(0)
    layer, x = DANNConv2d(3, 6, 3, inhibitory, padding=1), torch.rand(3, 6, 6)
    with torch.no_grad():
        for parameter in (layer.alpha, layer.gain, layer.bias):
            parameter.copy_(torch.rand(parameter.shape))
    torch.testing.assert_close(layer(x), layer(x[None])[0])


def test_gains_are_kept_at_zero_or_above():
    """A gain under 0 would make an excitatory weight inhibit."""
    layer = DANNLinear(3, 2)
    with torch.no_grad():
        layer.gain.copy_(torch.tensor([-1.0, 2.0]))
        layer.bias.fill_(-1.0)
    alpha = layer.alpha.clone()
    layer.project_()
    assert layer.gain.tolist() == [0.0, 2.0]
    assert layer.bias.tolist() == [-1.0, -1.0]
    assert torch.equal(layer.alpha, alpha)


def test_more_excitatory_input_excites_and_more_inhibition_inhibits():
    """At any weights that projection allows: the signs of the principle."""
    torch.manual_seed(0)
    layer, x = DANNLinear(6, 4, 2, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        layer.gain.copy_(torch.tensor([-1.0, 0.5, 1.0, 2.0]))
    layer.project_()
    excited = torch.autograd.grad(layer(x).sum(), layer.weight_ex)[0]
    assert bool((excited >= 0).all())
    assert bool((excited > 0).any())
    layer.alpha.data.fill_(-1e4)  # Without division inhibition only subtracts.
    inhibited = torch.autograd.grad(layer(x).sum(), layer.weight_ix)[0]
    assert bool((inhibited <= 0).all())
    assert bool((inhibited < 0).any())


def test_projection_follows_mechanisms_of_the_same_step():
    def lower(params, grads, state, /, *, key=None):
        return {name: leaf - 1.0 for name, leaf in params.items()}, grads, state

    layer = DANNLinear(4, 3)
    net = nn.Sequential(layer, nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    chosen = BioConverter(synapses=["0.weight_ex", "0.weight_ei", "2.weight"])
    attach(optimizer, net, [Mechanism(lower, where="after")], converter=chosen)
    keep_projected(optimizer, net)
    net(torch.rand(8, 4)).square().mean().backward()
    optimizer.step()
    assert bool((net[2].weight < 0).all())  # It acted.
    assert all(bool((one == 0).any() & (one >= 0).all()) for one in (layer.weight_ex, layer.weight_ei))


@pytest.mark.parametrize("name", LAYERS)
def test_networks_run_in_parallel_over_seeds(name):
    make, shape = LAYERS[name]
    layers, x = [make(dtype=torch.float64) for _ in range(3)], torch.rand(shape, dtype=torch.float64)
    stacked, _ = torch.func.stack_module_state(layers)
    skeleton = layers[0]

    def loss(parameters):
        return torch.func.functional_call(skeleton, parameters, (x,)).square().sum()

    grads = torch.func.vmap(torch.func.grad(loss))(stacked)
    for index, layer in enumerate(layers):
        layer(x).square().sum().backward()
        for parameter_name, parameter in layer.named_parameters():
            torch.testing.assert_close(grads[parameter_name][index], parameter.grad)


@pytest.mark.parametrize("name", LAYERS)
def test_device_and_type_reach_every_parameter(name):
    make, shape = LAYERS[name]
    layer = make(device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.bfloat16)}
    assert layer(torch.empty(shape, device="meta", dtype=torch.bfloat16)).shape[0] == shape[0]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_copied_pickled_and_compiled(name):
    make, shape = LAYERS[name]
    layer, x = make(), torch.rand(shape)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), layer(x))


def test_one_inhibitory_unit_sees_the_mean_of_the_others():
    layer = DANNLinear(6, 4)
    assert layer.inhibitory == 1
    torch.testing.assert_close(layer.weight_ix[0], layer.weight_ex.mean(0))


def test_an_input_of_zeros_is_finite():
    layer = DANNLinear(3, 2)
    assert torch.equal(layer(torch.zeros(1, 3)), layer.bias.detach().unsqueeze(0))


@pytest.mark.parametrize("sizes", [(0, 2), (2, 0), (2, 2, 0), (2.0, 2)])
def test_sizes_are_checked(sizes):
    with pytest.raises(ValueError, match="should be an integer >= 1"):
        DANNLinear(*sizes)


def test_a_model_without_such_layers_is_refused():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="project_"):
        keep_projected(torch.optim.SGD(net.parameters()), net)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel_size": (1, 2, 3)}, "kernel_size should be an integer >= 1, or two of them"),
        ({"kernel_size": 0}, "kernel_size should be an integer >= 1, or two of them"),
        ({"stride": 0}, "stride should be an integer >= 1, or two of them"),
        ({"padding": -1}, "padding should be an integer >= 0, or two of them"),
        ({"out_channels": True}, "out_channels should be an integer >= 1"),
        ({"inhibitory": 0}, "inhibitory should be an integer >= 1"),
        ({"dtype": torch.int32}, "dtype should be one of"),
    ],
)
def test_arguments_of_the_convolution_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        DANNConv2d(**{"in_channels": 2, "out_channels": 4, "kernel_size": 3, **wrong})


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_the_table_of_units_has_the_inhibitory_ones(name, correct):
    """Excitation and inhibition meet in every unit of the layer; inhibitory units feed only their own matrix."""
    make, shape = LAYERS[name]
    following = nn.Linear(4, 1) if name == "dense" else nn.Conv2d(4, 1, 1)
    table = units(nn.Sequential(make(correct=correct), nn.ReLU(), following), torch.rand(shape))
    (inner,) = table["0.weight_ix"].edges
    assert (inner.weight, inner.owner.tolist(), inner.exclusive.tolist()) == ("0.weight_ei", [0, 1], [True, True])
    for population in ("0.weight_ex", "0.weight_ei"):
        (edge,) = table[population].edges
        assert (edge.weight, edge.owner.tolist()) == ("2.weight", [0, 1, 2, 3])
        assert not edge.exclusive.any()
    assert table.unknown == ()
