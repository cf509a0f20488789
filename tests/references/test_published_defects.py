"""What published code was seen to do when it was run, and ours does not; docs/about/published.md has the list."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from beside import authors_of_dash, dash_of_fire, gradients, moved, rigl_scheduler, start, values, with_gradients
from references import function, load
from torch import nn

import funcbio

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_weight_clipping_takes_the_gain_of_a_norm_for_a_bias():
    clipping = load("weight-clipping", "core/optim/weight_clipping.py")
    model = nn.Sequential(nn.Linear(100, 6), nn.LayerNorm(6))
    params = values(model)
    clipping.WeightClippingSGD(model.parameters(), lr=0.0).step(with_gradients(model, params))
    torch.testing.assert_close(model[1].weight.detach(), torch.full((6,), 0.1))
    ours, _, _ = funcbio.clip_weights(params, params, start(params, "clip_weights"), kappa=1.0)
    assert (ours["1.weight"] == 1.0).all()


def test_weight_clipping_takes_no_convolution_over_time():
    clipping = load("weight-clipping", "core/optim/weight_clipping.py")
    model = nn.Conv1d(2, 3, 4)
    params = values(model)
    with pytest.raises(ValueError, match="Unsupported tensor dimension"):
        clipping.WeightClippingSGD(model.parameters(), lr=0.0).step(with_gradients(model, params))
    doubled = {name: 9.0 * value for name, value in params.items()}
    ours, _, _ = funcbio.clip_weights(doubled, params, start(params, "clip_weights"), kappa=1.0)
    torch.testing.assert_close(ours["weight"].abs().amax(), torch.tensor(8**-0.5))  # Each unit reads 2 x 4 numbers.


def without_a_loss(optimizer_of, pull, steps):
    """Returns where a weight that starts at 1.0 is after steps without any loss but the pull."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = optimizer_of([weight])
    for _ in range(steps):
        pull(optimizer, weight)
    return weight.detach()


def test_l2_init_of_weight_clipping_pulls_to_zero_under_adam_and_starts_late():
    optim, decay = load("weight-clipping", "core/optim/l2_init.py"), 0.01
    state = start({"w": torch.ones(3)}, "l2_init")

    def theirs(optimizer, weight):
        optimizer.step(lambda: 0.0 * weight.sum())

    def ours(optimizer, weight):
        nothing = {"w": torch.zeros(3)}
        weight.grad = funcbio.l2_init({"w": weight.detach()}, nothing, state, strength=decay)[1]["w"]
        optimizer.step()

    options = {"lr": 1e-3, "weight_decay": decay}
    assert without_a_loss(lambda p: optim.L2InitAdam(p, **options), theirs, 3000).abs().max() < 0.05
    assert (without_a_loss(lambda p: torch.optim.Adam(p, lr=1e-3), ours, 3000) == 1.0).all()

    weight = nn.Parameter(torch.ones(3))
    optimizer = optim.L2InitSGD([weight], lr=0.5, weight_decay=decay)
    optimizer.step(lambda: weight.sum())
    assert (optimizer.state[weight]["init_weights"] < 0.6).all()  # Not 1.0, where the weight began.


def first_steps(kind, weight, grad, beta):
    """Returns by what share of a plain step UPGD's first one moves each weight: theirs, ours."""
    param = nn.Parameter(weight.clone())
    param.grad = grad
    optim = load("upgd", "core/optim/weight_upgd/first_order.py")
    getattr(optim, kind)([("w", param)], lr=1e-2, beta_utility=beta, sigma=0.0).step()
    params, update = {"w": weight}, {"w": -1e-2 * grad}
    _, new, _ = funcbio.upgd(params, update, start(params, "upgd"), key=funcbio.key(0), sigma=0.0, beta=beta)
    return (param.detach() - weight) / update["w"], new["w"] / update["w"]


def test_upgd_corrects_the_utility_but_not_the_largest_one_that_divides_it():
    weight, grad = torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([-1.0, -0.5, -0.1, 0.1])  # Utility is -g w.
    theirs, ours = first_steps("FirstOrderGlobalUPGD", weight, grad, 0.999)
    torch.testing.assert_close(theirs, torch.tensor([0.0, 0.0, 0.0, 1.0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(ours, torch.sigmoid(torch.tensor([-1.0, -0.5, -0.1, 0.1])), rtol=1e-4, atol=1e-4)
    late, ours = first_steps("FirstOrderGlobalUPGD", weight, grad, 0.0)  # Nothing to correct.
    torch.testing.assert_close(late, ours, rtol=1e-4, atol=1e-4)


def test_upgd_protects_the_least_useful_weights_if_none_is_of_use():
    weight, grad = torch.tensor([1.0, 1.0]), torch.tensor([0.1, 1.0])  # The second does more harm.
    theirs, ours = first_steps("FirstOrderGlobalUPGD", weight, grad, 0.0)
    assert theirs[1] < 0.01 < theirs[0]
    assert 0.5 < ours[0] < 0.75 < 0.99 < ours[1]


def test_selective_weight_reinitialization_divides_by_its_usual_frequency():
    module = load("collas_2025_swr_paper", "src/swr_functions/selective_weight_reinitialization.py")
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(ZeroDivisionError):
        module.SelectiveWeightReinitialization([weight], "magnitude", "threshold", [0.0], [0.0], [True]).step()


def test_one_algorithm_of_the_exponentiated_optimizer_does_nothing():
    module = load("EG_optimiser", "optim_eg/sgd_eg.py")
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    module.SGD([weight], lr=0.1, update_alg="gd_sign").step()
    assert (weight == 1.0).all()


def test_fire_makes_numbers_that_are_none_of_a_layer_of_zeros():
    module = load("FIRE", "vision/interventions/fire.py")
    model = nn.Linear(4, 3, bias=False)
    nn.init.zeros_(model.weight)
    params = values(model)
    module.fire(model, iteration=10)
    assert model.weight.isnan().all()
    ours, _, _ = funcbio.fire(params, params, start(params, "fire"))
    assert (ours["weight"] == 0.0).all()


def test_dash_of_fire_leaves_convolutions_alone_whose_channels_are_last():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4)).to(memory_format=torch.channels_last)
    params = values(model)
    x, y = torch.randn(5, 2, 4, 4), torch.arange(5) % 4
    nn.functional.cross_entropy(model(x), y).backward()
    grads = gradients(model)
    dash_of_fire(model, [(x, y)])
    assert (model[0].weight == params["0.weight"]).all()
    assert (model[2].weight != params["2.weight"]).any()
    ours, _, _ = funcbio.dash(params, grads, start(params, "dash"), alpha=0.3, floor=0.05, every=1)
    assert (ours["0.weight"] != params["0.weight"]).any()


class Size(nn.Module):
    """Gives half the square of its weights, whose gradient is the weights."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 4)

    def forward(self, x):
        return sum(param.square().sum() for param in self.parameters()) / 2


@pytest.mark.parametrize(("scale", "theirs"), [(1.0, 1.0), (1e-9, 0.1)])
def test_dash_of_fire_takes_small_gradients_for_none(scale, theirs):
    module, model = load("FIRE", "vision/interventions/dash.py"), Size()
    params = values(model)
    module.dash(model, 0.3, 0.05, [(torch.ones(1), torch.ones(1))], lambda size, _: -scale * size, "cpu")
    grads = {name: -scale * param for name, param in params.items()}  # Descent leads where the weights are.
    ours, _, _ = funcbio.dash(params, grads, start(params, "dash"), alpha=0.3, floor=0.05, every=1)
    torch.testing.assert_close(ours, params, rtol=1e-6, atol=1e-7)
    kept = model.layer.weight / params["layer.weight"]
    assert (kept > 1 - 1e-6).all() if theirs == 1.0 else (kept < theirs).all()


def test_l2_init_of_dash_squares_the_sum_of_the_norms():
    module = authors_of_dash()
    initial, model = (nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)) for _ in range(2))
    state = start(values(initial), "l2_init")
    params = moved(model)
    options = SimpleNamespace(train_type="l2_init", l2_init_lambda=0.5)
    pull = torch.autograd.grad(module.l2_init(options, model, initial, torch.zeros(())), [*model.parameters()])
    nothing = {name: torch.zeros_like(one) for name, one in params.items()}
    _, ours, _ = funcbio.l2_init(params, nothing, state, strength=2 * 0.5)
    norms = {name: (params[name] - state.start[name]).norm() for name in params}
    for (name, own), theirs in zip(ours.items(), pull, strict=True):  # A layer is pulled by how far all have gone.
        torch.testing.assert_close(theirs, own * sum(norms.values()) / norms[name])
        assert theirs.norm() > 1.2 * own.norm()


def sparse_net(optimizer_of):
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 30))
    optimizer = optimizer_of(model.parameters())
    return model, optimizer, rigl_scheduler(model, optimizer, 10)


def train(model, optimizer, scheduler):
    model(torch.randn(9, 6)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    model(torch.randn(9, 6)).square().sum().backward()
    before = scheduler.backward_masks[1].clone()
    assert not scheduler()
    return before & ~scheduler.backward_masks[1]


def test_rigl_torch_clears_the_momentum_of_lost_connections_but_not_adams_moments():
    model, optimizer, scheduler = sparse_net(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9))
    lost = train(model, optimizer, scheduler)
    assert lost.any()
    assert (optimizer.state[model[2].weight]["momentum_buffer"][lost] == 0.0).all()
    model, optimizer, scheduler = sparse_net(lambda p: torch.optim.Adam(p, lr=0.01))
    lost = train(model, optimizer, scheduler)
    assert (optimizer.state[model[2].weight]["exp_avg"][lost] != 0.0).any()


def test_rigl_torch_keeps_connections_that_do_not_exist_in_the_place_of_weights_of_zero():
    model, _, scheduler = sparse_net(lambda p: torch.optim.SGD(p, lr=0.01))
    model(torch.randn(9, 6)).square().sum().backward()
    mask, hook = scheduler.backward_masks[1].clone(), scheduler.backward_hook_objects[1]
    with torch.no_grad():
        model[2].weight.zero_()
    grads, params = {"w": hook.dense_grad.clone()}, {"w": model[2].weight.detach().clone()}
    state = start(params, "prune_and_regrow", mask={"w": mask.clone()})
    assert not scheduler()
    _, _, state = funcbio.prune_and_regrow(params, grads, state, drop=0.3, grow="gradient", until=0)
    scores = [(grads["w"].abs() * (after & ~mask)).sum() for after in (state.mask["w"], scheduler.backward_masks[1])]
    new = [int((after & ~mask).sum()) for after in (state.mask["w"], scheduler.backward_masks[1])]
    assert new[0] <= int(0.3 * mask.sum()) < new[1]  # Theirs lose more than the share that was asked for.
    assert scores[0] / new[0] > scores[1] / new[1]  # And what comes is not where the gradient is largest.


def test_rigl_torch_loses_a_connection_to_rounding():
    _, _, scheduler = sparse_net(lambda p: torch.optim.SGD(p, lr=0.01))
    scheduler.T_end, scheduler.step = 90, 30  # A third of the way, 0.3 is left at 0.3 x 3/4.
    assert int(240 * scheduler.cosine_annealing()) == 53
    grads = {"w": torch.arange(480.0).reshape(2, 240)}
    state = start(grads, "prune_and_regrow", mask={"w": grads["w"] < 240}, calls={"prune_and_regrow": torch.tensor(2)})
    _, _, after = funcbio.prune_and_regrow(grads, grads, state, drop=0.3, grow="gradient", until=6)
    assert int((state.mask["w"] & ~after.mask["w"]).sum()) == 54


def test_sparse_evolutionary_training_drops_by_sign_and_one_positive_weight_more():
    where = "sparse-evolutionary-artificial-neural-networks", "SET-MLP-Keras-Weights-Mask/set_mlp_keras_cifar10.py"
    names = {"np": np, "self": SimpleNamespace(zeta=0.3)}
    names |= {name: function(*where, name, np=np) for name in ("find_first_pos", "find_last_pos")}
    sizes = torch.arange(2.0, 12.0)  # They write 1 for what they keep.
    weight = torch.cat([sizes, -sizes, torch.zeros(20)])[torch.randperm(40)].reshape(5, 8)  # Ten of each sign.
    _, kept = function(*where, "rewireMask", **names)(names["self"], weight.numpy(), 20)
    params, mask = {"w": weight}, {"w": weight != 0}
    state = start(params, "prune_and_regrow", mask=mask)
    _, _, after = funcbio.prune_and_regrow(params, params, state, key=funcbio.key(0), drop=0.3, grow="random")
    theirs, lost = sorted(weight[mask["w"] & ~torch.tensor(kept > 0)].tolist()), weight[mask["w"] & ~after.mask["w"]]
    assert theirs == [-4, -3, -2, 2, 3, 4, 5]
    assert set(lost.tolist()) <= {-4, -3, -2, 2, 3, 4}  # Some of them may have grown again.
    lopsided = {"w": torch.where(weight > 0, 20.0 + weight, weight)}
    _, kept = function(*where, "rewireMask", **names)(names["self"], lopsided["w"].numpy(), 20)
    assert (~torch.tensor(kept > 0) & (weight > 0)).sum() == 4  # Of the ten largest.
    _, _, after = funcbio.prune_and_regrow(lopsided, params, state, key=funcbio.key(0), drop=0.3, grow="random")
    assert (weight[mask["w"] & ~after.mask["w"]] < 0).all()
