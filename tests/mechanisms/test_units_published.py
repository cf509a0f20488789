"""What published code of mechanisms on units does, and ours does otherwise; see tests/references for both side by side.

Each test names the repository and the file whose behaviour it departs from.
"""

import torch
from tables import in_line
from torch import nn
from unit_cases import small, state_of, values

import funcbio
from funcbio import Units, key
from funcbio.anatomy._units import Edge, Population


def channels_last(net, table):
    """The table of a convolution whose output is flattened with its channels last, before a linear layer."""
    first, following = table.populations
    (edge,) = first.edges
    owner = torch.arange(len(edge.owner)) % first.size
    edges = (Edge(edge.weight, owner, owner >= 0, edge.synapse, edge.bias),)
    return Units((Population(first.name, first.size, first.parts, edges, first.replaceable), following))


def test_columns_of_a_unit_are_found_behind_a_flatten_with_the_channels_last():
    """google/dopamine, labs/redo/weight_recyclers.py: repeats a mask of channels where it should be tiled."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    table = channels_last(net, in_line(net))
    params, state = values(net), state_of(net, in_line(net), "redo", signal=[1.0, 0.0, 1.0, 1.0])
    new, _, _ = funcbio.redo(params, params, state, key=key(1), units=table, every=1)
    zeroed = (new["3.weight"] == 0.0).all(0).nonzero().flatten().tolist()
    assert zeroed == [1, 5, 9, 13, 17, 21, 25, 29, 33]


def test_the_next_bias_takes_over_what_a_unit_brought():
    """shibhansh/loss-of-plasticity, lop/algos/gnt.py: sets the mean to 0 first, and so adds nothing."""
    net, table = small()
    params = {**values(net), "2.weight": torch.ones(2, 4)}
    told = {"signal": [5.0, 0.1, 5.0, 5.0], "signal_mean": [5.0, 0.1, 5.0, 5.0]}
    state = state_of(net, table, "continual_backprop", **told)
    new, _, after = funcbio.continual_backprop(
        params, params, state, key=key(1), units=table, maturity=0, replacement_rate=0.25
    )
    assert after.replaced["0.weight"][:, 0].tolist() == [False, True, False, False]
    torch.testing.assert_close(new["2.bias"], params["2.bias"] + 0.1)


def test_every_hidden_layer_is_reset_and_outgoing_weights_are_zeroed():
    """isaac7778/FIRE, vision/interventions/node_reset/redo.py: fills copies, and leaves out the last hidden layer."""
    net = nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    table, params = in_line(net), values(net)
    hidden = ["0.weight", "2.weight", "4.weight"]
    state = state_of(net, table, "redo", signal={name: [1.0, 0.0, 1.0, 1.0] for name in hidden})
    new, _, after = funcbio.redo(params, params, state, key=key(1), units=table, every=1)
    for name, following in zip(hidden, ["2.weight", "4.weight", "6.weight"], strict=True):
        assert after.replaced[name][1].all()
        rows = [0, 2, 3] if following != "6.weight" else [0, 1]  # The row of a new unit is fresh as a whole.
        assert (new[following][rows, 1] == 0.0).all()


def test_fresh_weights_follow_the_law_of_the_layer():
    """timoklein/redo, src/redo.py: draws within sqrt(6 / n), where torch's own linear layer has sqrt(1 / n)."""
    net = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 2))
    table, params = in_line(net), values(net)
    state = state_of(net, table, "redo", signal=torch.zeros(50))
    new, _, _ = funcbio.redo(params, params, state, key=key(1), units=table, every=1)
    assert 0.099 < new["0.weight"].abs().max() <= 0.1
    assert not torch.equal(new["0.weight"], params["0.weight"])


def test_a_unit_without_silent_stretches_keeps_its_patience():
    """ajozefiak/SelfNormalizedResets, src/algorithms/snr.py: 0/0 gives the least patience, one batch of 100."""
    net, table = small()
    params, state = values(net), state_of(net, table, "self_normalized_resets", signal=torch.ones(4))
    run = lambda state: funcbio.self_normalized_resets(
        params, params, state, key=key(1), units=table, every=3, patience=40
    )[2]
    for _ in range(3):
        state = run(state)
    assert (state.units["unit_patience"]["0.weight"] == 40.0).all()
    state.units["signal"]["0.weight"] = torch.zeros(4)
    assert not run(state).replaced["0.weight"].any()


def test_members_of_a_sweep_draw_weights_of_their_own():
    """ajozefiak/SelfNormalizedResets, src/algorithms/snr.py: vmapped members share one key, and so their weights."""
    net, table = small()
    params = values(net)
    state = state_of(net, table, "self_normalized_resets", signal=torch.zeros(4), unit_silence=torch.full((4,), 200))
    run = lambda k: funcbio.self_normalized_resets(params, params, state, key=k, units=table)[0]["0.weight"]
    first, second = torch.vmap(run)(funcbio.split(key(0), 2))
    assert not torch.equal(first, second)


def test_gradients_of_any_scale_are_compared():
    """LucMc/continual-learning, optim/regrama.py: adds 1e-8, so that a layer of small gradients is reset as a whole."""
    net, table = small()
    grads = {name: torch.full_like(p, 1e-12) for name, p in net.named_parameters()}
    state = state_of(net, table, "regrama")
    _, _, after = funcbio.regrama(values(net), grads, state, key=key(1), units=table, every=1)
    assert not after.replaced["0.weight"].any()


def test_what_is_left_of_a_unit_counts_without_accumulation_too():
    """shibhansh/loss-of-plasticity, lop/algos/gnt.py: of 1.5 units that are due, half a one is lost at every call."""
    net, table = small(6)
    params, numbers = values(net), []
    for seed in range(200):
        state = state_of(net, table, "continual_backprop", signal=torch.ones(6), signal_mean=torch.ones(6))
        options = {"maturity": 0, "replacement_rate": 0.25, "accumulate": False}
        _, _, after = funcbio.continual_backprop(params, params, state, key=key(seed), units=table, **options)
        numbers.append(after.replaced["0.weight"][:, 0].sum().item())
    assert {*numbers} == {1, 2}
    assert abs(sum(numbers) / 200 - 1.5) < 4 * 0.5 / 200**0.5
