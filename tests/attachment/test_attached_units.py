"""Mechanisms on units, attached to an optimizer."""

import copy
import io
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, BioConverter, IdleWarning, Mechanism, attach, units

FEATURES = (
    "redo",
    "continual_backprop",
    "self_normalized_resets",
    "regrama",
    "calibrated_partial_resets",
)
CONFIG = BioConfig(
    redo_every=2,
    redo_threshold=0.5,
    continual_backprop_maturity=1,
    continual_backprop_replacement_rate=0.4,
    regrama_every=2,
    regrama_threshold=0.5,
    calibrated_partial_resets_every=2,
    self_normalized_resets_every=2,
)


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3)
    )


X, Y = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3


def silenced():
    """A network in which channel 1 and hidden unit 2 answer to nothing."""
    model = net()
    with torch.no_grad():
        model[1].bias[1] = -99.0
        model[4].bias += 1.0  # All others answer to something.
        model[4].bias[2] = -99.0
        model[1].running_mean[1] = 7.0
    return model


def step(model, optimizer, x=X, y=Y):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def by_hand():
    """What belongs to, and leaves, channel 1 and hidden unit 2."""
    shapes = {name: parameter.shape for name, parameter in net().named_parameters()}
    masks = {name: torch.zeros(shape, dtype=torch.bool) for name, shape in shapes.items()}
    masks["0.weight"][1] = masks["0.bias"][1] = masks["1.weight"][1] = masks["1.bias"][1] = True
    masks["4.weight"][:, 16:32] = True  # Channel 1 is flattened to these.
    masks["4.weight"][2] = masks["4.bias"][2] = True
    masks["6.weight"][:, 2] = True
    return masks


@pytest.mark.parametrize("newborn", ["zero", "mean", "exact"])
def test_exactly_the_entries_of_silent_units_are_new(newborn):
    model = silenced()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    config = BioConfig(redo_every=2, redo_threshold=0.0)
    handle = attach(optimizer, model, ["redo"], config=config, units=units(model, X), newborn=newborn, ages=True)
    for _ in range(2):
        step(model, optimizer)
    state = handle.trees()[2]
    for name, mask in by_hand().items():
        found, parameter = state.replaced[name], model.get_parameter(name)
        assert torch.equal(found.expand(mask.shape), mask), name
        assert torch.equal(parameter.detach()[~mask], before[name][~mask]), name
        moments = optimizer.state[parameter]["exp_avg"]
        assert bool((moments[mask] == 0).all()), name
        assert mask.all() or bool((moments[~mask] != 0).any()), name
        assert name not in state.age or torch.equal(state.age[name] == 0, mask), name  # Ages are those of synapses.
    assert bool((model[6].weight[:, 2] == 0).all())
    assert model[4].bias[2].item() == 0.0
    assert model[1].weight[1].item() == 1.0
    assert model[1].bias[1].item() == 0.0
    assert model[1].running_mean[1].item() == 0.0
    assert model[1].running_var[1].item() == 1.0
    assert bool((model[1].running_mean[[0, 2, 3]] != 0.0).all())


def test_a_mechanism_on_units_needs_their_table():
    model = net()
    with pytest.raises(ValueError, match=r"units=funcbio.units\(model, example\)"):
        attach(torch.optim.SGD(model.parameters(), lr=0.1), model, ["redo"])
    assert not hasattr(model, "bio_step")


def test_a_table_of_another_model_is_refused_before_anything_changes():
    model, other = net(), nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    before = list(model.state_dict())
    with pytest.raises(ValueError, match="units should be a table of this model"):
        attach(torch.optim.SGD(model.parameters(), lr=0.1), model, ["redo"], units=units(other, torch.ones(2, 2)))
    assert list(model.state_dict()) == before
    with pytest.raises(ValueError, match="units should be a table made by funcbio"):
        attach(torch.optim.SGD(model.parameters(), lr=0.1), model, ["redo"], units="table")


def test_what_can_replace_no_unit_says_so():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    model[2].weight.requires_grad_(False)
    with pytest.warns(IdleWarning, match="mechanisms on units have no effect"):
        attach(torch.optim.SGD(model.parameters(), lr=0.1), model, ["redo"], units=units(model, torch.ones(2, 2)))


@pytest.mark.parametrize("feature", FEATURES)
def test_a_resumed_run_goes_on_to_the_bit(feature):
    table = units(net(), X)

    def run():
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        handle = attach(optimizer, model, [feature], config=CONFIG, units=table, newborn="exact")
        return model, optimizer, handle

    model, optimizer, handle = run()
    for _ in range(3):
        step(model, optimizer)
    saved = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), handle.state_dict()], saved)
    copies = copy.deepcopy((model, optimizer, handle))
    pickled = pickle.loads(pickle.dumps((model, optimizer, handle)))
    for _ in range(4):
        step(model, optimizer)
    others = run()
    saved.seek(0)
    for part, state in zip(others, torch.load(saved, weights_only=True), strict=True):
        part.load_state_dict(state)
    for other in (copies, pickled, others):
        for _ in range(4):
            step(*other[:2])
        for (name, one), two in zip(model.state_dict().items(), other[0].state_dict().values(), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True, msg=name)


def test_a_state_of_another_table_is_refused():
    model, table = net(), units(net(), X)
    handle = attach(torch.optim.SGD(model.parameters(), lr=0.1), model, ["redo"], units=table)
    state = handle.state_dict()
    state["units"] = {**state["units"], "unknown": ["something else"]}
    with pytest.raises(ValueError, match="units of the state_dict"):
        handle.load_state_dict(state)


def test_removing_leaves_neither_hooks_nor_buffers():
    model = net()
    before = list(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, ["redo", "continual_backprop"], units=units(model, X))
    step(model, optimizer)
    handle.remove()
    assert list(model.state_dict()) == before
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def signal_of(handle, name="0.weight"):
    return handle.trees()[2].units["signal"][name]


def test_signals_are_those_of_training_passes_since_the_last_step():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    handle = attach(optimizer, model, ["redo"], units=units(model, torch.ones(2, 3)))
    one, two = torch.randn(4, 3), torch.randn(2, 3)
    model(torch.randn(9, 3)).sum().backward()
    optimizer.step()
    for part in (one, two):  # Gradients of two parts of a batch.
        model(part).sum().backward()
    model.eval()
    model(100.0 * torch.ones(5, 3))
    model.train()
    optimizer.step()
    h = torch.relu(model[0](torch.cat([one, two]))).detach()
    torch.testing.assert_close(signal_of(handle), h.mean(0))
    optimizer.step()
    assert bool(signal_of(handle).isnan().all())  # Nothing was sent since.


def test_a_function_or_a_partial_of_it_is_taken_with_its_table():
    model, table = net(), units(net(), X)
    for mechanism in (Mechanism("redo", units=table), partial(funcbio.redo, threshold=0.5, every=1, units=table)):
        handle = attach(torch.optim.SGD(model.parameters(), lr=0.1), model, [mechanism])
        step(model, handle.optimizer)
        handle.remove()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Language(nn.Module):
    """A language model whose embedding is tied to its output."""

    def __init__(self):
        super().__init__()
        self.words, self.block = nn.Embedding(7, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x):
        return self.head(self.block(self.words(x)))[:, -1]


WORLDS = {
    "gru": (Recurrent, torch.randn(8, 5, 3), BioConverter(CONFIG, synapses="*weight*")),
    "tied": (Language, torch.randint(7, (8, 5)), BioConverter(CONFIG)),
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("name", WORLDS)
def test_recurrent_and_tied_models_are_treated(name, feature):
    torch.manual_seed(0)
    make, x, converter = WORLDS[name]
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    handle = attach(optimizer, model, [feature], converter=converter, units=units(model, x))
    for _ in range(4):
        step(model, optimizer, x, torch.arange(8) % 2)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert handle.trees()[2].units["unit_new"]


def test_a_converted_model_is_treated_too():
    model = BioConverter(redo_every=1, redo_threshold=0.0)(silenced())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    attach(optimizer, model, ["redo"], units=units(net(), X))
    step(model, optimizer)
    assert bool((model[6].weight[:, 2] == 0).all())


def test_two_mechanisms_on_units_share_what_they_need():
    model = silenced()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    config = BioConfig(redo_every=1, redo_threshold=0.0)
    handle = attach(optimizer, model, ["redo", "continual_backprop"], config=config, units=units(model, X))
    step(model, optimizer)
    masks = handle.trees()[2].replaced
    assert bool(masks["4.weight"][2].all())  # What the first replaced stays said.


def test_other_mechanisms_pay_nothing(monkeypatch):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, ["fuzzy_learning_rates"], units=units(model, X))
    assert handle.units is None
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_skipped_step_replaces_nothing():
    model = silenced()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    config = BioConfig(redo_every=1, redo_threshold=0.0)
    handle = attach(optimizer, model, ["redo"], config=config, units=units(model, X), hooks=False)
    F.cross_entropy(model(X), Y).backward()
    handle.before_step()
    optimizer.step()
    handle.after_step()
    assert bool((model[6].weight[:, 2] == 0).all())
