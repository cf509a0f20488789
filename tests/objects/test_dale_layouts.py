"""Dale's principle by unit on layers of every layout: signs are on the dimension of the inputs."""

import pytest
import torch
from torch import nn

from funcbio import BioConfig, apply_dales_principle, init, key, metrics, synapses, units

CONFIG = BioConfig(apply_dales_principle=True, dales_excitatory_fraction=0.8)


class Looked(nn.Module):
    """A linear layer behind an embedding."""

    def __init__(self):
        super().__init__()
        self.table, self.next, self.out = nn.Embedding(7, 10), nn.Linear(10, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.relu(self.next(torch.relu(self.table(x)))))


class Gated(nn.Module):
    """Two recurrent layers that feed a linear one."""

    def __init__(self, layer):
        super().__init__()
        self.rnn, self.next, self.out = layer(3, 10, 2), nn.Linear(10, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.relu(self.next(self.rnn(x)[0])))


def images(*layers):
    return nn.Sequential(nn.Conv2d(3, 10, 1), nn.ReLU(), *layers, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))


def signed(model, x, chosen=None, config=CONFIG):
    """The weights after the principle is applied, and the state."""
    model(x)
    params = {name: p.detach() for name, p in model.named_parameters()}
    described = synapses(model) if chosen is None else synapses(model, chosen)
    state = init(params, key=key(0), config=config, synapses=described, units=units(model, x))
    return apply_dales_principle(params, params, state)[0], state


def of_inputs(weight, dim):
    """The sign of all weights of each index of a dimension; fails where they differ."""
    rows = torch.sign(weight.movedim(dim, 0).flatten(1))
    assert bool((rows == rows[:, :1]).all())
    return rows[:, 0]


def test_columns_behind_an_embedding():
    sign = of_inputs(signed(Looked(), torch.arange(5))[0]["next.weight"], 1)
    assert int((sign > 0).sum()) == 8


def test_a_depthwise_convolution_has_a_sign_for_each_filter():
    model = images(nn.Conv2d(10, 10, 3, padding=1, groups=10), nn.ReLU(), nn.Conv2d(10, 20, 1))
    params, _ = signed(model, torch.randn(2, 3, 4, 4))
    for name, dim in (("2.weight", 0), ("4.weight", 1)):
        assert int((of_inputs(params[name], dim) > 0).sum()) == 8


def test_filters_of_a_group_agree_on_its_inputs():
    params, _ = signed(images(nn.Conv2d(10, 4, 3, padding=1, groups=2)), torch.randn(2, 3, 4, 4))
    halves = [of_inputs(params["2.weight"][rows], 1) for rows in (slice(0, 2), slice(2, 4))]
    assert int((torch.cat(halves) > 0).sum()) == 8  # Inputs 0 to 4 feed the first two filters, the others the rest.


def test_a_transposed_convolution_stores_its_inputs_first():
    params, _ = signed(images(nn.ConvTranspose2d(10, 6, 2, stride=2)), torch.randn(2, 3, 4, 4))
    assert int((of_inputs(params["2.weight"], 0) > 0).sum()) == 8


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_all_gates_of_a_recurrent_layer_agree_with_the_next_layer(layer):
    chosen = ["rnn.weight_*", "next.weight", "out.weight"]
    params, _ = signed(Gated(layer), torch.randn(4, 2, 3), chosen)
    for own, following in (("rnn.weight_hh_l0", "rnn.weight_ih_l1"), ("rnn.weight_hh_l1", "next.weight")):
        sign = of_inputs(params[own], 1)
        assert torch.equal(sign, of_inputs(params[following], 1))
        assert int((sign > 0).sum()) == 8


def test_signs_vmap_over_keys():
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 2))
    params = {name: p.detach() for name, p in model.named_parameters()}
    described, table = synapses(model), units(model, torch.randn(3, 4))

    def sign(k):
        return init(params, key=k, config=CONFIG, synapses=described, units=table).sign["2.weight"]

    keys = torch.stack([key(seed) for seed in range(4)])
    mapped = torch.vmap(sign)(keys)
    assert torch.equal(mapped, torch.stack([sign(k) for k in keys]))
    assert bool(((mapped > 0).sum((1, 2)) == 8).all())


def test_columns_without_a_sign_do_not_count_as_inhibitory():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    params, state = signed(model, torch.randn(4, 2))
    sign = torch.tensor([[1.0, 0.0, -1.0, 0.0]])
    state = state._replace(sign={**state.sign, "2.weight": sign})
    entries = metrics(params, (), state, quantiles=())
    assert float(entries["2.weight"]["excitatory_units"]) == 0.5
