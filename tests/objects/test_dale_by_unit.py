"""Dale's principle by unit: one sign for all weights that leave a unit, whatever matrices they are in."""

import pytest
import torch
from torch import nn

import funcbio
from funcbio import BioConfig, BioConverter, DaleWarning, attach, init, key, metrics, synapses, trees, units

EIGHTY = {"apply_dales_principle": True, "dales_excitatory_fraction": 0.8}


class Branches(nn.Module):
    """Forty units that feed themselves and two branches."""

    def __init__(self):
        super().__init__()
        self.inp, self.rec = nn.Linear(3, 40), nn.Linear(40, 40, bias=False)
        self.left, self.right, self.out = nn.Linear(40, 20), nn.Linear(40, 20), nn.Linear(40, 2)

    def forward(self, x):
        h = torch.relu(self.inp(x))
        h = torch.relu(self.inp(x) + self.rec(h))
        return self.out(torch.relu(torch.cat([self.left(h), self.right(h)], -1)))


class Stacked(nn.Module):
    """Recurrent layers that feed a linear one."""

    def __init__(self):
        super().__init__()
        self.rnn, self.next, self.out = nn.RNN(3, 40, 2, nonlinearity="relu"), nn.Linear(40, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.relu(self.next(self.rnn(x)[0])))


class Block(nn.Module):
    """A residual block of convolutions, then a linear layer; with ``scaled`` the raw input joins the stream."""

    def __init__(self, *, raw=False):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(10, 10, 1), nn.Conv2d(10, 10, 1), nn.Conv2d(10, 10, 1)
        self.next, self.out, self.raw = nn.Linear(40, 5), nn.Linear(5, 2), raw

    def forward(self, x):
        y = x if self.raw else torch.relu(self.stem(x))
        y = torch.relu(y + self.two(torch.relu(self.one(y))))
        return self.out(torch.relu(self.next(y.flatten(1))))


class Conv1D(nn.Module):
    """GPT-2's linear layer, whose weight is (in, out)."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


def column_signs(weight, dim=0):
    """The sign of all weights of every input; 0 if they differ."""
    mean = torch.sign(weight.detach()).mean(dim)
    return torch.where(mean.abs() == 1, mean, 0.0)


def converted(model, x, synapses=None, **options):
    return BioConverter(synapses=synapses, **{**EIGHTY, **options})(model, units=units(model, x))


def test_recurrent_forward_and_branching_matrices_agree():
    model = converted(Branches(), torch.randn(4, 3))
    sign = column_signs(model.rec.weight)
    assert bool((sign != 0).all())
    for layer in (model.left, model.right):
        assert torch.equal(column_signs(layer.weight), sign)
    assert int((sign > 0).sum()) == 32  # Exactly 80 % of 40.


def test_layers_of_a_recurrent_module_agree():
    chosen = ["rnn.weight_*", "next.weight", "out.weight"]
    model = converted(Stacked(), torch.randn(4, 2, 3), chosen)
    assert torch.equal(column_signs(model.rnn.weight_hh_l0), column_signs(model.rnn.weight_ih_l1))
    assert torch.equal(column_signs(model.rnn.weight_hh_l1), column_signs(model.next.weight))
    assert bool((column_signs(model.rnn.weight_hh_l0) != 0).all())


def test_channels_keep_their_sign_through_residual_sums_and_flatten():
    model = converted(Block(), torch.randn(4, 10, 2, 2))
    stem = column_signs(model.one.weight.flatten(1))
    assert torch.equal(column_signs(model.next.weight), stem.repeat_interleave(4))
    assert int((stem > 0).sum()) == 8
    assert bool((column_signs(model.two.weight.flatten(1)) != 0).all())


def test_a_stream_that_the_input_joins_is_left_free():
    model = Block(raw=True)
    before = model.next.weight.detach().clone()
    with pytest.warns(DaleWarning, match=r"found next\.weight with inputs"):
        model = converted(model, torch.randn(4, 10, 2, 2))
    assert torch.equal(model.next.weight, before)
    assert bool((column_signs(model.two.weight.flatten(1)) != 0).all())


def test_a_conversion_that_may_not_warn_leaves_the_model_as_it_was():
    model = Block(raw=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(DaleWarning, match="next"):  # Warnings are errors in tests.
        converted(model, torch.randn(4, 10, 2, 2))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not hasattr(model, "enforce_dales_principle")


def test_inputs_of_the_model_are_left_free():
    model = Branches()
    before = model.inp.weight.detach().clone()
    assert torch.equal(converted(model, torch.randn(4, 3)).inp.weight, before)


def test_layers_that_are_stored_inputs_first_have_their_signs_on_the_right_axis():
    model = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), Conv1D(20, 30), nn.ReLU(), nn.Linear(20, 2))
    model = converted(model, torch.randn(5, 4), "*weight")
    sign = column_signs(model[2].weight, 1)
    assert sign.shape == (30,)
    assert int((sign > 0).sum()) == 24
    assert int((sign < 0).sum()) == 6


def test_attention_has_the_signs_of_its_values():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 2))
    with pytest.warns(DaleWarning, match=r"found 0\.linear1\.weight with"):  # The input joins the stream.
        model = converted(model, torch.randn(2, 3, 8), ["*proj*weight", "*linear*weight", "1.weight"])
    sign = column_signs(model[0].self_attn.out_proj.weight)
    assert bool((sign != 0).all())
    assert bool((column_signs(model[0].linear2.weight) != 0).all())


def test_units_without_a_sign_keep_both_when_weights_are_drawn_anew():
    model = nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    params = {name: p.detach() for name, p in model.named_parameters()}
    table, config = units(model, torch.randn(2, 6, 2, 2)), BioConfig(**EIGHTY)
    state = init(params, key=key(0), config=config, synapses=synapses(model), units=table, keep=["start"])
    free = torch.zeros(1, 8, 1, 1)
    free[:, ::2] = state.sign["2.weight"][:, ::2]
    state = state._replace(sign={**state.sign, "2.weight": free})  # Every second channel has no sign.
    signed, _, _ = funcbio.apply_dales_principle(params, params, state)
    assert torch.equal(signed["2.weight"][:, 1::2], params["2.weight"][:, 1::2])
    for variant in ("lognormal", "uniform", "swr"):
        options = {"variant": variant, "rule": "proportional", "fraction": 1.0}
        new = funcbio.rejuvenate_weights(signed, signed, state, key=key(1), **options)[0]["2.weight"]
        assert bool((new[:, 1::2] > 0).any()), variant
        assert bool((new[:, 1::2] < 0).any()), variant
        assert bool((new * free >= 0).all()), variant
    new = funcbio.rejuvenate_weights(signed, signed, state, key=key(1), strength=1e-3)[0]["2.weight"]
    assert bool((new[:, 1::2] > 0).any())
    assert bool((new[:, 1::2] < 0).any())


def test_signs_are_a_function_of_the_key_and_map_over_keys():
    model = Branches()
    params = {name: p.detach() for name, p in model.named_parameters()}
    described, table, config = synapses(model), units(model, torch.randn(4, 3)), BioConfig(**EIGHTY)

    def signs(k):
        return init(params, key=k, config=config, synapses=described, units=table).sign["left.weight"]

    keys = torch.stack([key(0), key(1)])
    one, two = signs(keys[0]), signs(keys[1])
    assert not torch.equal(one, two)
    assert torch.equal(signs(keys[0]), one)


def test_the_old_way_is_as_it_was_and_has_a_name():
    model = Branches()
    params, described = {name: p.detach() for name, p in model.named_parameters()}, synapses(model)
    table = units(model, torch.randn(4, 3))
    old = init(params, key=key(0), config=BioConfig(**EIGHTY), synapses=described)
    named = BioConfig(**EIGHTY, dales_variant="matrix")
    for options in ({}, {"units": table}):
        state = init(params, key=key(0), config=named, synapses=described, **options)
        assert all(torch.equal(sign, old.sign[name]) for name, sign in state.sign.items())


def test_by_unit_needs_the_table():
    model = Branches()
    with pytest.raises(ValueError, match="units should be given for dales_variant='unit'"):
        BioConverter(**EIGHTY, dales_variant="unit")(model)
    assert not hasattr(model, "bio_step")


def test_without_a_table_it_is_said_that_signs_are_per_matrix():
    with pytest.warns(DaleWarning, match=r"Give units=funcbio.units\(model, example\)"):
        BioConverter(**EIGHTY)(Branches())


def test_metrics_count_units_of_both_kinds():
    x = torch.randn(4, 3)
    plain, by_unit = BioConverter(**EIGHTY, dales_variant="matrix")(Branches()), converted(Branches(), x)
    for model, conflicts in ((plain, True), (by_unit, False)):
        entries = metrics(*trees(model), units=units(Branches(), x), quantiles=())
        assert float(entries["all"]["sign_violations"]) == 0.0
        assert (float(entries["all"]["sign_conflicts"]) > 0.1) is conflicts


def test_conflicts_are_counted_by_hand():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    table = units(model, torch.randn(4, 2))
    params = {name: p.detach().clone() for name, p in model.named_parameters()}
    params["2.weight"] = torch.tensor([[1.0, 1.0, -1.0], [2.0, -1.0, 0.0]])  # The second unit does both.
    state = init(params, key=key(0), config=BioConfig(**EIGHTY), synapses=synapses(model), units=table)
    entries = metrics(params, (), state, units=table, quantiles=())
    torch.testing.assert_close(entries["0.weight"]["sign_conflicts"], torch.tensor(1 / 3))


class Mixed(nn.Module):
    """One branch reads units, the other the same units plus a mixture of others."""

    def __init__(self):
        super().__init__()
        self.stem, self.other = nn.Linear(3, 12), nn.Linear(3, 12)
        self.alone, self.joined, self.out = nn.Linear(12, 7), nn.Linear(12, 7), nn.Linear(14, 2)

    def forward(self, x):
        h, mixture = torch.relu(self.stem(x)), torch.softmax(self.other(x), -1)
        return self.out(torch.relu(torch.cat([self.alone(h), self.joined(h + mixture)], -1)))


def test_weights_left_free_are_no_conflicts():
    x = torch.randn(4, 3)
    with pytest.warns(DaleWarning, match=r"found joined\.weight with inputs"):
        model, table = converted(Mixed(), x), units(Mixed(), x)
    params, grads, state = trees(model)
    assert bool((state.sign["joined.weight"] == 0.0).all())
    conflicts = metrics(params, grads, state, units=table, quantiles=())["stem.weight"]["sign_conflicts"]
    assert float(conflicts) == 0.0
    params = dict(params) | {"alone.weight": params["alone.weight"].clone()}
    params["alone.weight"][0, 0] *= -1.0  # One unit of twelve does both where it has a sign.
    conflicts = metrics(params, grads, state, units=table, quantiles=())["stem.weight"]["sign_conflicts"]
    torch.testing.assert_close(conflicts, torch.tensor(1 / 12))


def test_balance_makes_the_mean_input_zero():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 200), nn.ReLU(), nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 2))
    plain, balanced = (converted(model_of(model), torch.randn(4, 4), dales_balance=on) for on in (False, True))
    count = plain[2].weight.numel()
    spread = balanced[2].weight.std().item() / count**0.5
    assert abs(balanced[2].weight.mean().item()) < 5 * spread
    assert plain[2].weight.mean().item() > 20 * spread
    negative = balanced[2].weight < 0
    torch.testing.assert_close(balanced[2].weight[negative], 4 * plain[2].weight[negative])  # 160 to 40.


def model_of(model):
    """A copy with signs that do not depend on torch's generator."""
    import copy

    torch.manual_seed(1)
    return copy.deepcopy(model)


def test_attach_converts_by_unit():
    model = Branches()
    table = units(model, torch.randn(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    attach(optimizer, model, ["enforce_dales_principle"], config=BioConfig(**EIGHTY), units=table)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
    both = torch.cat([model.rec.weight, model.left.weight, model.right.weight]).detach()
    assert not bool(((both > 0).any(0) & (both < 0).any(0)).any())
