"""Mechanisms on units within the steps of an optimizer: what is refused, what starts anew, and what is kept."""

import copy
import io
import pickle
from functools import partial

import pytest
import torch
from torch import nn, optim

import funcbio
from funcbio import BioConfig, BioConverter, IdleWarning, Mechanism, attach, trees, units
from funcbio.mechanisms import ROWS

CONFIG = BioConfig(
    redo_every=1,
    redo_threshold=0.1,
    continual_backprop_replacement_rate=0.3,
    continual_backprop_maturity=1,
    regrama_every=2,
    regrama_threshold=0.5,
)
FEATURES = [name for name, row in ROWS.items() if row.by_unit]
X = torch.randn(6, 1, 5, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 3


def conv_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


def silenced(seed=0):
    """A network whose unit 2 never responds."""
    model = conv_net(seed)
    with torch.no_grad():
        model[1].bias[2] = -100.0
        model[1].weight[2] = 0.5
    return model


GRADIENT_DESCENT = partial(optim.SGD, lr=0.1)


def handled(names, model=None, make=GRADIENT_DESCENT, x=X, **options):
    model = silenced() if model is None else model
    optimizer = make(model.parameters())
    options = {"config": CONFIG, "units": units(model, x)} | options
    return model, optimizer, attach(optimizer, model, names, **options)


def learn(model, optimizer, steps=1, x=X, y=Y):
    for _ in range(steps):
        optimizer.zero_grad()
        output = model(x)
        nn.functional.cross_entropy(output.flatten(0, -2), y.flatten()).backward()
        optimizer.step()


def numbers(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name].nan_to_num(-7.0), second[name].nan_to_num(-7.0)), name


def hooks_of(model):
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


# What is refused


@pytest.mark.parametrize("name", FEATURES)
def test_without_a_table_it_says_how_to_get_one(name):
    assert len(FEATURES) == 5
    model = conv_net()
    before = numbers(model)
    with pytest.raises(ValueError, match=rf"units should be given for {name}, as by units=funcbio\.units\(model"):
        handled([name], model, units=None)
    assert hooks_of(model) == 0
    same(before, numbers(model))


@pytest.mark.parametrize("way", ["units", "Mechanism"])
@pytest.mark.parametrize(
    "other",
    [
        lambda: nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(45, 3)),
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)),
    ],
)
def test_a_table_of_another_model_is_refused_and_nothing_changes(way, other):
    model, table = conv_net(), units(other(), X)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before, kinds = numbers(model), [type(module) for module in model.modules()]
    given = ([Mechanism("redo", units=table)], None) if way == "Mechanism" else (["redo"], table)
    with pytest.raises(ValueError, match=r"units should be a table of this model, made by funcbio\.units; found"):
        attach(optimizer, model, given[0], units=given[1])
    assert hooks_of(model) == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert [type(module) for module in model.modules()] == kinds
    same(before, numbers(model))


def test_what_is_no_table_is_refused():
    with pytest.raises(ValueError, match=r"units should be a table made by funcbio\.units, or None; found"):
        handled(["redo"], units={"0.weight": 4})


def frozen():
    model = conv_net()
    model[4].requires_grad_(False)
    return model


class Stream(nn.Module):
    """All that it holds writes to one stream."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = self.first(x)
        return self.last(h + self.inner(h))


def test_where_no_unit_can_be_replaced_it_warns():
    with pytest.warns(IdleWarning, match="mechanisms on units have no effect: the model should have a unit"):
        handled(["redo"], frozen())
    with pytest.warns(IdleWarning, match="mechanisms on units have no effect"):
        handled(["redo"], Stream(), x=torch.ones(2, 3))


# What starts anew


def by_hand():
    """Which entries belong to unit 2."""
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in conv_net().named_parameters()}
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        masks[name][2] = True
    masks["4.weight"][:, 18:27] = True
    return masks


def test_a_dormant_unit_starts_anew_with_all_that_is_its():
    model, optimizer, handle = handled(["redo"])
    twin = silenced()
    other = optim.SGD(twin.parameters(), lr=0.1)
    start = model[0].weight.detach().clone()
    learn(model, optimizer)
    learn(twin, other)
    assert twin[1].running_mean[2] != 0
    assert twin[1].running_var[2] != 1
    masks, found = by_hand(), numbers(model)
    for name, mask in masks.items():
        assert torch.equal(handle.trees()[2].replaced[name], mask), name
        assert torch.equal(found[name][~mask], numbers(twin)[name][~mask]), name
    assert not found["0.bias"][2].any()
    assert found["1.weight"][2] == 1
    assert not found["1.bias"][2].any()
    assert not found["4.weight"][:, 18:27].any()
    new = found["0.weight"][2]
    assert not torch.isin(new, start[2]).all()
    assert new.abs().max() <= 3 * start.abs().max()
    assert (found["1.running_mean"][2], found["1.running_var"][2]) == (0, 1)
    rest = [0, 1, 3]
    assert torch.equal(found["1.running_mean"][rest], twin[1].running_mean[rest])
    assert torch.equal(found["1.running_var"][rest], twin[1].running_var[rest])
    assert handle.trees()[2].units["unit_new"]["0.weight"].tolist() == [False, False, True, False]


MAKERS = {
    "momentum": partial(optim.SGD, lr=0.01, momentum=0.9),
    "adam": partial(optim.Adam, lr=0.01),
    "adamw": partial(optim.AdamW, lr=0.01, weight_decay=0.0),
    "foreach": partial(optim.Adam, lr=0.01, foreach=True),
    "fused": partial(optim.Adam, lr=0.01, fused=True),
}
CASES = [(make, newborn) for make in MAKERS for newborn in ("zero", "mean", "exact") if make != "momentum"]


@pytest.mark.parametrize(("make", "newborn"), [("momentum", "zero"), *CASES])
def test_moments_of_exactly_those_entries_start_anew(make, newborn):
    model, optimizer, handle = handled([Mechanism("redo", every=2)], make=MAKERS[make], newborn=newborn, ages=True)
    twin = silenced()
    other = MAKERS[make](twin.parameters())
    learn(model, optimizer, 2)
    learn(twin, other, 2)
    assert twin[1].bias[2] < -90
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        mask, state, expected = by_hand()[name], optimizer.state[p], other.state[q]
        for moment in {"exp_avg", "exp_avg_sq", "momentum_buffer"} & state.keys():
            assert torch.equal(state[moment][~mask], expected[moment][~mask]), (name, moment)
            begun = 0.0
            if newborn == "mean" and moment == "exp_avg_sq" and mask.any():
                begun = expected[moment][~mask].mean()
            torch.testing.assert_close(state[moment][mask], torch.full_like(state[moment][mask], float(begun)))
    before = numbers(model)
    learn(model, optimizer)
    ages = handle.trees()[2].age
    for name, p in model.named_parameters():
        mask = by_hand()[name]
        assert ages[name][mask].unique().tolist() in ([1], []), name
        assert ages[name][~mask].unique().tolist() in ([3], []), name
        if newborn == "exact":
            # The first step of a fresh optimizer goes by the learning rate, along the sign of the gradient.
            fresh = -0.01 * p.grad / (p.grad.abs() + 1e-8)
            torch.testing.assert_close((p - before[name])[mask], fresh[mask], rtol=1e-3, atol=1e-6)
    assert ages.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("newborn", ["zero", "exact"])
def test_biases_and_norms_that_are_new_are_as_young_as_their_weights(newborn):
    config = CONFIG.replace(redo_outgoing="keep")  # So that they have a gradient at once.
    model, optimizer, _ = handled([Mechanism("redo", every=3)], make=MAKERS["adam"], newborn=newborn, config=config)
    learn(model, optimizer, 3)
    before = numbers(model)
    learn(model, optimizer)
    for name in ("0.weight", "1.weight", "1.bias"):
        p = model.get_parameter(name)
        moved, grad = (p - before[name])[2], p.grad[2]
        assert grad.abs().min() > 1e-6
        # After a reset alone the moments are small, and the counter is not.
        factor = 1.0 if newborn == "exact" else (0.1 / (1 - 0.9**4)) / (0.001 / (1 - 0.999**4)) ** 0.5
        torch.testing.assert_close(moved, -0.01 * factor * grad.sign(), rtol=1e-2, atol=1e-5)


def test_replaced_weights_get_fresh_rates():
    options = {"fresh_rates": True, "config": CONFIG}
    model, optimizer, handle = handled(["fuzzy_learning_rates", "redo"], **options)
    before = {name: rate.clone() for name, rate in handle.trees()[2].rate.items()}
    learn(model, optimizer)
    after = handle.trees()[2].rate
    for name in ("0.weight", "4.weight"):
        assert torch.equal(after[name] != before[name], by_hand()[name]), name
    for name in before.keys() - {"0.weight", "4.weight"}:
        assert torch.equal(after[name], before[name])


def test_gradients_that_add_up_are_one_step():
    model, optimizer, handle = handled(["redo"])
    optimizer.zero_grad()
    for part in range(3):
        nn.functional.cross_entropy(model(X[2 * part : 2 * part + 2]), Y[2 * part : 2 * part + 2]).backward()
    with torch.no_grad():
        # The norm has batches of its own in each.
        h = torch.cat([torch.relu(conv_batch(X[2 * part : 2 * part + 2])) for part in range(3)])
    optimizer.step()
    signal = handle.trees()[2].units["signal"]["0.weight"]
    torch.testing.assert_close(signal, h.movedim(1, -1).reshape(-1, 4).mean(0))
    assert handle.steps == 1


def conv_batch(x):
    model = silenced()
    return model[1](model[0](x))


def test_a_step_that_is_skipped_changes_nothing():
    model, optimizer, handle = handled(["redo", "continual_backprop"])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = numbers(model)
    scaler.scale(nn.functional.cross_entropy(model(X), Y)).backward()
    model[0].weight.grad[0] = torch.inf
    scaler.step(optimizer)
    scaler.update()
    moved = [n for n, value in numbers(model).items() if not torch.equal(value.nan_to_num(), before[n].nan_to_num())]
    assert [n for n in moved if "running" not in n and "tracked" not in n] == []
    assert handle.steps == 0
    optimizer.zero_grad()
    scaler.scale(nn.functional.cross_entropy(model(X), Y)).backward()
    scaler.step(optimizer)
    assert handle.steps == 1
    assert handle.trees()[2].replaced["0.bias"].tolist() == [False, False, True, False]


# What is kept


@pytest.mark.parametrize("name", FEATURES)
def test_a_resumed_run_goes_on_to_the_bit(name):
    model, optimizer, handle = handled([name], make=optim.Adam)
    learn(model, optimizer, 3)
    saved = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict(), handle.state_dict()), saved)
    learn(model, optimizer, 4)
    saved.seek(0)
    weights, moments, state = torch.load(saved, weights_only=True)
    other, other_optimizer, other_handle = handled([name], silenced(1), make=optim.Adam)
    other.load_state_dict(weights)
    other_optimizer.load_state_dict(moments)
    other_handle.load_state_dict(state)
    learn(other, other_optimizer, 4)
    same(numbers(model), numbers(other))
    assert handle.steps == other_handle.steps == 7


@pytest.mark.parametrize("name", FEATURES)
def test_the_handle_alone_holds_all_that_mechanisms_remember(name):
    """The model's file may be one of a plain model."""
    model, optimizer, handle = handled([name])
    plain = conv_net().state_dict().keys()
    learn(model, optimizer, 3)
    weights = {n: value.clone() for n, value in model.state_dict().items() if n in plain}
    state = copy.deepcopy(handle.state_dict())
    learn(model, optimizer, 4)
    other, other_optimizer, other_handle = handled([name], silenced(1))
    other.load_state_dict(weights, strict=False)
    other_handle.load_state_dict(state)
    learn(other, other_optimizer, 4)
    same(numbers(model), numbers(other))


def through_file(parts):
    file = io.BytesIO()
    torch.save(parts, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda parts: pickle.loads(pickle.dumps(parts)), "file": through_file}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", FEATURES)
def test_a_copy_learns_alike(name, way):
    model, optimizer, handle = handled([name])
    learn(model, optimizer, 2)
    hooks = hooks_of(model)
    model(X)  # Seen before the copy, and part of the next step.
    other, other_optimizer, other_handle = COPIES[way]((model, optimizer, handle))
    assert hooks_of(other) == hooks_of(model) == hooks
    other_handle.check(other_optimizer, other)
    model(X)
    other(X)
    learn(model, optimizer, 3)
    learn(other, other_optimizer, 3)
    same(numbers(model), numbers(other))
    assert other_handle.units == handle.units
    for one, its in ((model, handle), (other, other_handle)):
        its.remove()
        assert hooks_of(one) == 0
        assert numbers(one).keys() == numbers(conv_net()).keys()


def test_a_copy_does_not_listen_to_the_first():
    model, optimizer, handle = handled(["redo"])
    other, other_optimizer, other_handle = copy.deepcopy((model, optimizer, handle))
    learn(model, optimizer)
    assert other_handle.trees()[2].units["signal"]["0.weight"].isnan().all()
    learn(other, other_optimizer)
    same(numbers(model), numbers(other))


def test_a_state_with_another_table_is_refused():
    model, optimizer, handle = handled(["redo"])
    learn(model, optimizer)
    saved = copy.deepcopy(handle.state_dict())
    saved["units"]["populations"] = saved["units"]["populations"][:-1]
    before = numbers(model)
    with pytest.raises(ValueError, match="units of the state_dict should be those of this handle; found another"):
        handle.load_state_dict(saved)
    without = {name: value for name, value in handle.state_dict().items() if name != "units"}
    with pytest.raises(ValueError, match="units of the state_dict should be those of this handle"):
        handle.load_state_dict(without)
    same(before, numbers(model))


def test_state_rides_in_the_optimizer():
    model, optimizer, _ = handled(["continual_backprop"], make=optim.Adam, in_optimizer=True)
    learn(model, optimizer, 3)
    saved = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), saved)
    saved.seek(0)
    learn(model, optimizer, 3)
    weights, moments = torch.load(saved, weights_only=True)
    other, other_optimizer, _ = handled(["continual_backprop"], silenced(1), make=optim.Adam, in_optimizer=True)
    other.load_state_dict(weights)
    other_optimizer.load_state_dict(moments)
    learn(other, other_optimizer, 3)
    same(numbers(model), numbers(other))


def test_removal_leaves_nothing():
    model, optimizer, handle = handled(["redo", "continual_backprop"])
    assert hooks_of(model) > 0
    handle.remove()
    assert hooks_of(model) == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert numbers(model).keys() == numbers(conv_net()).keys()
    learn(model, optimizer)
    handled(["redo"], model)


# Ways to name them


def alike(*ways):
    runs = []
    for names, options in ways:
        model, optimizer, handle = handled(names, **options)
        learn(model, optimizer, 3)
        runs.append({n: p.detach().clone() for n, p in model.named_parameters()})
        assert handle.units == units(conv_net(), X)
    for one in runs[1:]:
        same(runs[0], one)


def test_the_table_may_be_told_to_the_mechanism():
    table = units(conv_net(), X)
    alike((["redo"], {}), ([Mechanism("redo", units=table)], {"units": None}))


def test_a_function_with_numbers_of_its_own():
    feature = partial(funcbio.redo, threshold=0.1, every=1)
    plain = {"config": BioConfig()}
    alike((["redo"], {}), ([feature], plain), ([Mechanism(feature)], plain))


def test_two_at_once_share_one_table_and_one_pass():
    model, optimizer, handle = handled(["redo", "continual_backprop"])
    alone = handled(["redo"])[0]
    assert hooks_of(model) == hooks_of(alone)
    learn(model, optimizer, 3)
    state = handle.trees()[2]
    assert state.units.keys() >= {"signal", "signal_mean", "unit_age", "unit_utility"}
    assert state.units["unit_age"]["0.weight"].max() >= 1
    assert int(state.calls["redo"]) == 3


def test_both_replace_and_both_count():
    """What the first replaces keeps its statistics reset, whatever the second does."""
    config = CONFIG.replace(continual_backprop_replacement_rate=0.0)
    model, optimizer, handle = handled(["redo", "continual_backprop"], config=config)
    learn(model, optimizer)
    assert (model[1].running_mean[2], model[1].running_var[2]) == (0, 1)
    assert handle.trees()[2].replaced["0.bias"].tolist() == [False, False, True, False]


class Sharp(optim.SGD):
    """Evaluates its closure itself, in the middle of the step."""

    def step(self, closure=None):
        with torch.enable_grad():
            closure()
        super().step()


@pytest.mark.filterwarnings("ignore:optimizer should be one of torch.optim")
def test_passes_within_a_closure_are_part_of_its_step():
    for make in (GRADIENT_DESCENT, partial(Sharp, lr=0.1)):
        model, optimizer, handle = handled(["redo"], make=make)

        def closure(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(X), Y)
            loss.backward()
            return loss

        with torch.no_grad():
            expected = torch.relu(conv_batch(X)).movedim(1, -1).reshape(-1, 4).mean(0)
        optimizer.step(closure)
        torch.testing.assert_close(handle.trees()[2].units["signal"]["0.weight"], expected)
        assert handle.trees()[2].replaced["0.bias"].tolist() == [False, False, True, False]


@pytest.mark.parametrize("name", FEATURES)
def test_a_model_without_hidden_units_learns(name):
    x = torch.ones(2, 3)
    with pytest.warns(IdleWarning, match="mechanisms on units have no effect"):
        model, optimizer, handle = handled([name], nn.Sequential(nn.Linear(3, 3)), x=x)
    learn(model, optimizer, 2, x, torch.arange(2))
    assert handle.steps == 2
    handle.remove()
    assert numbers(model).keys() == {"0.weight", "0.bias"}


def test_layers_that_the_optimizer_is_given_later_take_part():
    model, table = silenced(), units(conv_net(), X)
    optimizer = optim.SGD(model[4].parameters(), lr=0.1)
    with pytest.warns(IdleWarning, match="mechanisms on units have no effect"):
        attach(optimizer, model, ["redo"], config=CONFIG, units=table)
    learn(model, optimizer)
    assert model[1].bias[2] == -100
    optimizer.add_param_group({"params": [*model[0].parameters(), *model[1].parameters()]})
    learn(model, optimizer)
    assert model[1].bias[2] == 0


def test_steps_called_by_hand():
    model, optimizer, handle = handled(["redo"], hooks=False)
    twin, other, _ = handled(["redo"])
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        handle.before_step()
        optimizer.step()
        handle.after_step()
    learn(twin, other, 3)
    same(numbers(model), numbers(twin))


# Models


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.rnn, self.head = nn.Linear(3, 4), nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)
        with torch.no_grad():
            self.inner.bias[1] = -100.0

    def forward(self, x):
        return self.head(self.rnn(torch.relu(self.inner(x)))[0])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.emb, self.head = nn.Linear(3, 4), nn.Linear(4, 3)
        self.body = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        with torch.no_grad():
            self.body.linear1.bias.fill_(9.0)  # All others respond.
            self.body.linear1.bias[1] = -100.0

    def forward(self, x):
        return self.head(self.body(self.emb(x)))


class Language(nn.Module):
    """The embedding is the read-out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.emb, self.up, self.down = nn.Embedding(7, 4), nn.Linear(4, 6), nn.Linear(6, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.emb.weight
        with torch.no_grad():
            self.up.bias.fill_(9.0)
            self.up.bias[1] = -100.0

    def forward(self, words):
        h = self.emb(words)
        return self.head(h + self.down(torch.relu(self.up(h))))


SEQUENCES = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
MODELS = {
    "gru": (Recurrent, SEQUENCES, "inner.weight", {"synapses": "*weight*"}),
    "encoder": (Encoder, SEQUENCES, "body.linear1.weight", {}),
    "language": (Language, torch.arange(10).reshape(2, 5) % 7, "up.weight", {}),
}


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("kind", MODELS)
def test_other_models_learn(kind, name):
    make, x, _, options = MODELS[kind]
    converter = BioConverter(CONFIG, **options)
    model, optimizer, handle = handled([name], make(), x=x, config=None, converter=converter, make=optim.Adam)
    learn(model, optimizer, 4, x, torch.arange(10) % 3)
    assert all(value.isfinite().all() for value in model.parameters())
    state = handle.trees()[2]
    if "signal" in state.units:
        assert state.units["signal"][MODELS[kind][2]].isfinite().all()
    other, other_optimizer, other_handle = copy.deepcopy((model, optimizer, handle))
    learn(model, optimizer, 2, x, torch.arange(10) % 3)
    learn(other, other_optimizer, 2, x, torch.arange(10) % 3)
    same(numbers(model), numbers(other))
    handle.remove()
    other_handle.remove()
    assert numbers(model).keys() == numbers(make()).keys()
    assert hooks_of(model) == hooks_of(make())


@pytest.mark.parametrize("kind", MODELS)
def test_in_other_models_the_silent_unit_is_replaced(kind):
    make, x, population, options = MODELS[kind]
    converter = BioConverter(CONFIG.replace(redo_threshold=0.0), **options)
    model, optimizer, handle = handled(["redo"], make(), x=x, config=None, converter=converter)
    learn(model, optimizer, 1, x, torch.arange(10) % 3)
    new = handle.trees()[2].units["unit_new"][population]
    assert new.nonzero().flatten().tolist() == [1]
    assert model.get_parameter(population.replace("weight", "bias"))[1] == 0


def test_a_converted_model_keeps_them_itself():
    model = BioConverter(CONFIG)(silenced())
    plain, plain_optimizer, _ = handled(["redo"])
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, ["redo"], units=units(model, X))
    learn(model, optimizer, 3)
    learn(plain, plain_optimizer, 3)
    first, second = dict(model.named_parameters()), dict(plain.named_parameters())
    assert all(torch.equal(first[name], second[name]) for name in second)
    state = trees(model)[2]
    assert torch.equal(state.units["signal"]["0.weight"], handle.trees()[2].units["signal"]["0.weight"])
    handle.remove()
    assert not [name for name in numbers(model) if "units" in name]
    assert trees(model)[2].units == ()


def test_an_embedding_keeps_its_padding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4, padding_idx=0), nn.ReLU(), nn.Linear(4, 3))
    words = torch.arange(6) % 7
    converter = funcbio.BioConverter(CONFIG.replace(redo_threshold=0.0), synapses=["0.weight", "2.weight"])
    model, optimizer, handle = handled(["redo"], model, x=words, config=None, converter=converter)
    with torch.no_grad():
        model[0].weight[1:, 2] = -1.0
    learn(model, optimizer, 1, words)
    assert handle.trees()[2].units["unit_new"]["0.weight"].tolist() == [False, False, True, False]
    assert model[0].weight[1:, 2].ne(-1.0).all()
    assert not model[0].weight[0].any()


# What it costs those who do not use them


def test_others_pay_nothing(monkeypatch):
    from funcbio.attachment import _handle, _signals
    from funcbio.functional import _signals as signals

    calls = []
    for module, name in [
        (_handle, "Listening"),
        (_signals, "Recorder"),
        (_signals, "places_in"),
        (_signals, "require_fitting"),
        (_signals, "statistics_of_new"),
        (signals, "readers"),
        (signals, "read"),
    ]:
        monkeypatch.setattr(module, name, lambda *args, name=name, **kwargs: calls.append(name))
    model = conv_net()
    bare = hooks_of(model)
    for table in (None, units(conv_net(), X)):
        model, optimizer, handle = handled(["fuzzy_learning_rates"], conv_net(), units=table)
        learn(model, optimizer, 2)
        assert calls == []
        assert hooks_of(model) == bare
        assert handle.units is None
        assert handle.trees()[2].units == ()
        assert not [name for name in numbers(model) if "units" in name]
