"""Signals of units: what each sends to the layers that it feeds, by hand."""

import pytest
import torch
from torch import nn

import funcbio
from funcbio import BioConfig, attach, bind, key, observe, units
from funcbio.mechanisms import continual_backprop


def generator():
    return torch.Generator().manual_seed(0)


def params_of(model):
    return {name: value.detach() for name, value in model.named_parameters()}


def signals_of(model, *inputs, table=None, **options):
    table = units(model, *inputs) if table is None else table
    return observe(model, units=table)(params_of(model), *inputs, **options)[1].units


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def same_as(found, h):
    """Fields of units against columns of what they send."""
    close(found["signal"], h.abs().mean(0))
    close(found["signal_mean"], h.mean(0))
    close(found["signal_deviation"], (h - h.mean(0)).abs().mean(0))


def fields(signals, population):
    return {name: tree[population] for name, tree in signals.items()}


def test_numbers_by_hand():
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1))
    params = params_of(model) | {"0.weight": torch.tensor([[1.0], [-2.0]])}
    table = units(model, torch.ones(3, 1))
    x = torch.tensor([[1.0], [-1.0], [3.0]])
    signals = observe(model, units=table)(params, x)[1].units
    # Unit 0 sends 1, -1, 3 (mean 1); unit 1 sends -2, 2, -6 (mean -2).
    close(signals["signal"]["0.weight"], torch.tensor([5 / 3, 10 / 3]))
    close(signals["signal_mean"]["0.weight"], torch.tensor([1.0, -2.0]))
    close(signals["signal_deviation"]["0.weight"], torch.tensor([4 / 3, 8 / 3]))


def test_positions_count_like_examples():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 6, 3, generator=generator())
    with torch.no_grad():
        h = model[1](model[0](x)).reshape(30, 4)
    same_as(fields(signals_of(model, x), "0.weight"), h)


@pytest.mark.parametrize("flat", [False, True])
def test_of_a_convolution_every_position_counts(flat):
    head = (nn.Flatten(), nn.Linear(4 * 9, 2)) if flat else (nn.Conv2d(4, 2, 1),)
    model, x = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *head), torch.randn(6, 1, 5, 5, generator=generator())
    with torch.no_grad():
        h = model[1](model[0](x)).movedim(1, -1).reshape(54, 4)
    same_as(fields(signals_of(model, x), "0.weight"), h)


def test_a_pooled_convolution_is_read_behind_the_pool():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2, stride=1), nn.Flatten(), nn.Linear(16, 2))
    x = torch.randn(6, 1, 5, 5, generator=generator())
    with torch.no_grad():
        h = model[1](model[0](x)).movedim(1, -1).reshape(24, 4)
    same_as(fields(signals_of(model, x), "0.weight"), h)


class Recurrent(nn.Module):
    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.inner, self.rnn, self.head = nn.Linear(3, 4), kind(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.rnn(torch.relu(self.inner(x)))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_units_are_read_at_the_input_of_a_recurrent_layer(kind):
    model, x = Recurrent(kind), torch.randn(4, 7, 3, generator=generator())
    table = units(model, x)
    with torch.no_grad():
        inner = torch.relu(model.inner(x))
        last = model.rnn(inner)[0][:, -1]
    signals = signals_of(model, x, table=table)
    same_as(fields(signals, "inner.weight"), inner.reshape(28, 4))
    name = next(one for one in table if one.startswith("rnn"))
    same_as(fields(signals, name), last)


class Fork(nn.Module):
    """One layer feeds two, one of which sees other values of it."""

    def __init__(self):
        super().__init__()
        self.body, self.one, self.other = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x):
        h = self.body(x)
        return torch.cat([self.one(torch.relu(h)), self.other(torch.tanh(h))], 1)


def test_a_unit_with_several_consumers_is_the_mean_over_all():
    model, x = Fork(), torch.randn(6, 3, generator=generator())
    with torch.no_grad():
        h = model.body(x)
        both = torch.stack([torch.relu(h), torch.tanh(h)])
    found = fields(signals_of(model, x), "body.weight")
    close(found["signal"], both.abs().mean((0, 1)))
    close(found["signal_mean"], both.mean((0, 1)))


class Shared(nn.Module):
    """A layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.relu(self.body(x))) + self.head(torch.relu(self.body(2 * x)))


def test_a_layer_called_twice_counts_both_calls():
    model, x = Shared(), torch.randn(6, 3, generator=generator())
    with torch.no_grad():
        h = torch.relu(torch.cat([model.body(x), model.body(2 * x)]))
    found = fields(signals_of(model, x), "body.weight")
    close(found["signal"], h.abs().mean(0))
    close(found["signal_mean"], h.mean(0))


# What deviations are measured from


def test_deviations_are_from_the_running_mean_with_this_batch():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(6, 3, generator=generator())
    config, table, params = BioConfig(continual_backprop_decay=0.9), units(model, x), params_of(model)
    state = bind(model, config, units=table).init(params, key=key(0), keep=["continual_backprop"])
    call = observe(model, config=config, units=table)
    with torch.no_grad():
        first, second = torch.relu(model[0](x)), torch.relu(model[0](x + 1))
    state = call(params, x, state=state)[1].into(state)
    close(state.units["signal_mean"]["0.weight"], first.mean(0))
    _, _, state = continual_backprop(params, params, state, key=key(1), units=table, decay=0.9)
    found = call(params, x + 1, state=state)[1].units["signal_deviation"]["0.weight"]
    # f = 0.1 m1, then 0.09 m1 + 0.1 m2, corrected by 1 - 0.9^2.
    running = (0.09 * first.mean(0) + 0.1 * second.mean(0)) / 0.19
    close(found, (second - running).abs().mean(0))
    assert not torch.allclose(found, (second - second.mean(0)).abs().mean(0))


# Signals between two steps of an optimizer


def attached(model, x, names=("redo",), **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return optimizer, attach(optimizer, model, names, units=units(model, x), **options)


def kept(handle, field="signal", population="0.weight"):
    return handle.trees()[2].units[field][population]


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_before_any_step_signals_are_nan_and_after_one_without_a_pass_again():
    model, x = net(), torch.randn(6, 3, generator=generator())
    optimizer, handle = attached(model, x)
    assert kept(handle).isnan().all()
    model(x).sum().backward()
    optimizer.step()
    assert kept(handle).isfinite().all()
    optimizer.step()
    assert kept(handle).isnan().all()


def test_split_batches_are_one_batch():
    model, x = net(), torch.randn(6, 3, generator=generator())
    optimizer, handle = attached(model, x)
    with torch.no_grad():
        whole = torch.relu(model[0](x)).mean(0)
    for part in (x[:1], x[1:3], x[3:]):
        model(part).sum().backward()
    optimizer.step()
    close(kept(handle), whole)
    model(x[:2]).sum().backward()
    optimizer.step()  # What was before the last step does not count.
    with torch.no_grad():
        close(kept(handle), torch.relu(model[0](x[:2])).mean(0))


def test_evaluation_does_not_count():
    model, x = net(), torch.randn(6, 3, generator=generator())
    optimizer, handle = attached(model, x)
    model(x).sum().backward()
    model.eval()
    model(100 * x)
    model.train()
    optimizer.step()
    with torch.no_grad():
        close(kept(handle), torch.relu(model[0](x)).mean(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_signals_are_float32_whatever_the_model(dtype):
    model, x = net().to(dtype), torch.randn(6, 3, generator=generator()).to(dtype)
    optimizer, handle = attached(model, x)
    model(x).sum().backward()
    optimizer.step()
    assert kept(handle).dtype == torch.float32
    close(kept(handle), torch.relu(model[0](x)).detach().float().mean(0))


def test_observing_and_attaching_see_the_same():
    model, x = net(), torch.randn(6, 3, generator=generator())
    seen = signals_of(model, x)
    optimizer, handle = attached(model, x, ["continual_backprop"], config=BioConfig())
    model(x).sum().backward()
    optimizer.step()
    close(kept(handle), seen["signal"]["0.weight"])
    close(kept(handle, "signal_mean"), seen["signal_mean"]["0.weight"])


# Transforms


def test_lanes_of_vmap_are_a_loop():
    model, x = net(), torch.randn(3, 6, 3, generator=generator())
    call = observe(model, units=units(model, x[0]))
    several = [params_of(net()) for _ in range(3)]
    stacked = {name: torch.stack([params[name] for params in several]) for name in several[0]}
    found = torch.vmap(lambda params, x: call(params, x)[1].units)(stacked, x)
    for lane, params in enumerate(several):
        alone = call(params, x[lane])[1].units
        for field, tree in alone.items():
            close(found[field]["0.weight"][lane], tree["0.weight"])


def test_signals_carry_no_gradient():
    model, x = net(), torch.randn(6, 3, generator=generator())
    call = observe(model, units=units(model, x))
    (signals,) = [call(dict(model.named_parameters()), x)[1].units]
    assert not any(value.requires_grad for tree in signals.values() for value in tree.values())

    def loss(params):
        output, signals = call(params, x)
        return output.square().sum(), signals.units["signal"]["0.weight"]

    grads, signal = torch.func.grad(loss, has_aux=True)(params_of(model))
    close(signal, signals["signal"]["0.weight"])
    assert grads["0.weight"].any()


def test_it_compiles_whole():
    model, x = net(), torch.randn(6, 3, generator=generator())
    table, params = units(model, x), params_of(model)
    call = observe(model, units=table)

    def act(params, x):
        output, signals = call(params, x)
        return output, dict(signals.units)

    output, found = torch.compile(act, fullgraph=True, backend="aot_eager")(params, x)
    expected, signals = act(params, x)
    close(output, expected)
    for field, tree in signals.items():
        close(found[field]["0.weight"], tree["0.weight"])


def test_without_a_table_nothing_changes():
    model, x = net(), torch.randn(6, 3, generator=generator())
    _, activity = observe(model)(params_of(model), x)
    assert activity.keys() == params_of(model).keys()
    output, signals = observe(model, units=units(model, x))(params_of(model), x)
    assert isinstance(signals, funcbio.functional._signals.Signals)
    for name, count in activity.items():
        assert torch.equal(signals.activity[name], count)
    assert torch.equal(output, model(x))


def test_a_model_without_hidden_units_shows_none():
    model, x = nn.Linear(3, 2), torch.ones(2, 3)
    table = units(model, x)
    state = bind(model, units=table).init(params_of(model), key=key(0), keep=["redo"])
    signals = observe(model, units=table)(params_of(model), x, state=state)[1]
    assert signals.units["signal"] == {}
    assert signals.into(state) == state


class Named(nn.Module):
    """Layers that are given their input by name, and again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        h = torch.relu(self.a(input=x))
        again = torch.utils.checkpoint.checkpoint(self.b, 3.0 * h, use_reentrant=False)
        return again + self.c(input=h)


def test_passes_that_are_run_again_count_once_and_inputs_may_have_names():
    torch.manual_seed(0)
    model, x = Named(), torch.randn(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    handle = funcbio.attach(optimizer, model, ["redo"], units=funcbio.units(model, x))
    model(x).sum().backward()
    optimizer.step()
    h = torch.relu(model.a(x)).detach()
    torch.testing.assert_close(handle.trees()[2].units["signal"]["a.weight"], 2.0 * h.mean(0))  # Once h, once 3 h.


def test_packed_sequences_are_read():
    torch.manual_seed(0)
    stem, rnn, head = nn.Linear(3, 4), nn.GRU(4, 5), nn.Linear(5, 2)

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.rnn, self.head = stem, rnn, head

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(torch.relu(self.stem(x)), lengths)
            return self.head(self.rnn(packed)[1][0])

    model, x, lengths = Packed(), torch.randn(4, 3, 3), torch.tensor([4, 2, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    handle = funcbio.attach(optimizer, model, ["redo"], units=funcbio.units(model, x, lengths))
    model(x, lengths).sum().backward()
    optimizer.step()
    h = nn.utils.rnn.pack_padded_sequence(torch.relu(stem(x)), lengths).data.detach()
    torch.testing.assert_close(handle.trees()[2].units["signal"]["stem.weight"], h.mean(0))
