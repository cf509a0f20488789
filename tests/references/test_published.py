"""One step of published code beside one of ours, noise off or replayed; see docs/about/published.md."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from beside import (
    dash_of_authors,
    dash_of_fire,
    difference,
    each,
    gradients,
    moved,
    network,
    plain_network,
    replay,
    rigl_scheduler,
    start,
    values,
    with_gradients,
)
from optree import tree_map
from references import function, load
from torch import nn
from torch.nn import functional

import funcbio

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Their warnings are theirs.
KEY = funcbio.key(2026)


@pytest.fixture(autouse=True, params=[torch.float32, torch.float64], ids=["float32", "float64"])
def _dtype(request):
    usual = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(usual)


@pytest.fixture
def agree(record_property):
    """A check that two trees are equal up to a number of units in the last place, which is reported."""

    def check(ours, theirs, within=8):
        found = difference(ours, theirs)
        record_property("difference", found)
        assert found <= within

    return check


# L2 Init: skumar9876/L2_Init.


def agent_of(name, *, norms, **options):
    agents = load("L2_Init", "agents/agents.py")

    def made():
        return agents.MLP(input_size=6, hidden_size=5, num_classes=3, apply_layer_norm=norms)

    return getattr(agents, name)(made, SimpleNamespace(name="SGD", lr=0.1), functional.cross_entropy, "cpu", **options)


@pytest.mark.parametrize("penalty", ["l2", "l1", "huber"])
def test_l2_init(agree, penalty):
    agent = agent_of(f"{penalty.title()}InitAgent", norms=True, sample_init_values=False, **{f"{penalty}_weight": 0.3})
    state = start(values(agent.model), "l2_init")
    params = moved(agent.model)
    with torch.no_grad():  # So that Huber's function is linear for some.
        agent.model.fc2.weight[0] += 3.0
    params = values(agent.model)
    x, y = torch.randn(7, 6), torch.arange(7) % 3
    loss = functional.cross_entropy(agent.model(x), y)
    grads = dict(zip(params, torch.autograd.grad(loss, agent.model.parameters()), strict=True))
    agent.step(x, y)
    _, grads, _ = funcbio.l2_init(params, grads, state, strength=0.3, penalty=penalty)
    agree(each(lambda w, g: w - 0.1 * g, params, grads), values(agent.model))


def test_shrink_and_perturb_of_l2_init(agree):
    agent = agent_of("ShrinkAndPerturbAgent", norms=False, shrink=0.2, perturb_scale=0.3)
    state = start(values(agent.model), "shrink_and_perturb")
    params = moved(agent.model)
    fresh, _, _ = funcbio.shrink_and_perturb(params, params, state, key=KEY, shrink=0.0, perturb=1.0)
    assert all(torch.isin(fresh[name], state.start[name]).all() for name in fresh)
    agent.model_constructor = lambda: SimpleNamespace(parameters=fresh.values)
    agent._shrink_and_perturb()
    ours, _, _ = funcbio.shrink_and_perturb(params, params, state, key=KEY, shrink=0.8, perturb=0.3)
    agree(ours, values(agent.model))


# Shrink and perturb: JordanAsh/warm_start, a script.


def test_shrink_and_perturb(agree):
    model, fresh = plain_network(), plain_network()
    state = start(values(model), "shrink_and_perturb")
    params = moved(model)
    fresh.load_state_dict(funcbio.shrink_and_perturb(params, params, state, key=KEY, shrink=0.0, perturb=1.0)[0])
    names = {"args": SimpleNamespace(model="mlp"), "num_classes": 10, "deepcopy": copy.deepcopy}
    names["mlp"] = lambda num_classes: SimpleNamespace(cuda=lambda: fresh)
    theirs = function("warm_start", "run.py", "shrink_perturb", **names)(model, 0.4, 0.1)
    ours, _, _ = funcbio.shrink_and_perturb(params, params, state, key=KEY)
    agree(ours, values(theirs))


# Weight clipping: mohmdelsayed/weight-clipping, whose steps call a closure.


def test_weight_clipping(agree):
    clipping = load("weight-clipping", "core/optim/weight_clipping.py")
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4))
    state = start(values(model), "clip_weights")
    params, grads = moved(model), gradients(model)
    clipping.WeightClippingSGD(model.parameters(), zeta=0.2, lr=0.1).step(with_gradients(model, grads))
    stepped = each(lambda w, g: w - 0.1 * g, params, grads)
    ours, _, _ = funcbio.clip_weights(stepped, grads, state, kappa=0.2)
    assert all((ours[name] != stepped[name]).any() for name in ours)
    agree(ours, values(model))


def noise_of(params, stream):
    """Returns the standard normal numbers that a mechanism draws under the key, in the order of the parameters."""
    draw = lambda name, one: funcbio.normal(KEY, tuple(one.shape), stream=f"{stream}/noise/{name}", dtype=one.dtype)
    return {name: draw(name, one) for name, one in params.items()}


def shrunk_before_the_step(params, grads, *, shrink, perturb):
    state = start(params, "shrink_and_perturb")
    options = {"shrink": shrink, "perturb": perturb, "noise": "normal"}
    return funcbio.shrink_and_perturb(params, grads, state, key=KEY, **options)[0]


def test_shrink_and_perturb_of_weight_clipping(agree, monkeypatch):
    optim = load("weight-clipping", "core/optim/shrink_and_perturb.py")
    model = plain_network()
    params, grads = moved(model), gradients(model)
    optimizer = optim.ShrinkAndPerturbSGD(model.parameters(), sigma=0.2, lr=0.1, weight_decay=0.3)
    replay(monkeypatch, "randn_like", [-one for one in noise_of(params, "shrink_and_perturb").values()])
    optimizer.step(with_gradients(model, grads))
    shrunk = shrunk_before_the_step(params, grads, shrink=1 - 0.1 * 0.3, perturb=0.1 * 0.2)
    agree(each(lambda w, g: w - 0.1 * g, shrunk, grads), values(model))


# UPGD: mohmdelsayed/upgd. Ours acts on the update u = -lr g: noise is in its units, and the decay is lr times theirs.


UPGD = {
    "GlobalUPGD": {},
    "LocalUPGD": {"scope": "local"},
    "NonprotectingGlobalUPGD": {"protect": False},
    "NonprotectingLocalUPGD": {"protect": False, "scope": "local"},
}


@pytest.mark.parametrize("kind", UPGD)
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_upgd(agree, monkeypatch, kind, beta):
    optim, model, rate = load("upgd", "core/optim/weight_upgd/first_order.py"), network(), 0.1
    params, grads = moved(model), gradients(model)
    options = {"lr": rate, "weight_decay": 0.2, "beta_utility": beta, "sigma": 0.3}
    optimizer = getattr(optim, f"FirstOrder{kind}")(model.named_parameters(), **options)
    past = tree_map(torch.randn_like, params)
    for name, param in model.named_parameters():  # So late that nothing is left of the correction for the beginning.
        optimizer.state[param] = {"step": 1000, "avg_utility": past[name].clone()}
    state = start(params, "upgd", utility=tree_map(lambda use: rate * use, past))
    replay(monkeypatch, "randn_like", [-one for one in noise_of(params, "upgd").values()])
    optimizer.step()
    ours = {"sigma": rate * 0.3, "beta": beta, "decay": rate * 0.2, **UPGD[kind]}
    update = tree_map(lambda g: -rate * g, grads)
    _, update, _ = funcbio.upgd(params, update, state, key=KEY, **ours)
    agree(each(torch.add, params, update), values(model))


def test_shrink_and_perturb_of_upgd(agree, monkeypatch):
    optim, model = load("upgd", "core/optim/shrink_and_perturb.py"), plain_network()
    params, grads = moved(model), gradients(model)
    replay(monkeypatch, "randn_like", [-one for one in noise_of(params, "shrink_and_perturb").values()])
    with torch.no_grad():
        optim.ShrinkandPerturb(model.named_parameters(), lr=0.1, decay=0.3, sigma=0.2).step()
    shrunk = shrunk_before_the_step(params, grads, shrink=1 - 0.1 * 0.3, perturb=0.1 * 0.2)
    agree(each(lambda w, g: w - 0.1 * g, shrunk, grads), values(model))


# Noise alone, every step: shibhansh/loss-of-plasticity.


def test_perturbation_of_loss_of_plasticity(agree, monkeypatch):
    algorithm, model = load("loss-of-plasticity", "lop/algos/bp.py"), plain_network()
    model.layers = [*model]
    params = moved(model)
    noise = noise_of(params, "shrink_and_perturb")
    order = [noise[f"{layer}.{kind}"] for layer in (0, 2) for kind in ("bias", "weight")]
    queue = iter(order)
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, mean, std: self.copy_(mean + std * next(queue)))
    algorithm.Backprop(model, perturb_scale=0.2).perturb()
    agree(shrunk_before_the_step(params, params, shrink=1.0, perturb=0.2), values(model))


# Selective weight reinitialization: JFernando4/collas_2025_swr_paper. They replace by the mean of the initial law, here
# 0.25: our values come from the start, which is 0.25 everywhere.

NAMES = {"magnitude": "|w|", "gradient": "|g w|", "random": "random"}


def swr(weight, grad, *, utility, rule, fraction):
    params, grads = {"weight": weight}, {"weight": grad}
    state = start(params, "rejuvenate_weights", start={"weight": torch.full_like(weight, 0.25)})
    options = {"variant": "swr", "utility": NAMES[utility], "rule": rule, "fraction": fraction}
    params, _, state = funcbio.rejuvenate_weights(params, grads, state, key=KEY, **options)
    return params, state


@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.3])
@pytest.mark.parametrize("rule", ["proportional", "threshold"])
@pytest.mark.parametrize("utility", NAMES)
def test_selective_weight_reinitialization(agree, monkeypatch, utility, rule, fraction):
    module = load("collas_2025_swr_paper", "src/swr_functions/selective_weight_reinitialization.py")
    weight = nn.Parameter(torch.randn(17, 19))
    weight.grad = torch.randn(17, 19)
    ours, state = swr(weight.detach().clone(), weight.grad, utility=utility, rule=rule, fraction=fraction)
    rest = int(state.replaced["weight"].sum()) - int(fraction * weight.numel())
    assert rule == "threshold" or rest in (0, 1)  # A coin decides on the remainder.
    monkeypatch.setattr(np.random, "binomial", lambda **options: rest)
    if utility == "random":
        use = funcbio.uniform(KEY, (17, 19), stream="rejuvenate_weights/use/weight", dtype=weight.dtype)
        replay(monkeypatch, "rand", [use.flatten()])
    options = {"reinit_freq": 1, "reinit_factor": fraction}
    arguments = [weight], utility, rule, [0.25], [0.0], [True]
    module.SelectiveWeightReinitialization(*arguments, **options).step()
    assert 0 < state.replaced["weight"].sum() < weight.numel()
    agree(ours, {"weight": weight}, within=0)


# Exponentiated gradient: linclab/EG_optimiser.


def trained(optimizer, model, steps):
    """Makes steps with gradients that are the same for any copy; returns the gradients of the last."""
    for step in range(steps):
        for number, param in enumerate(model.parameters()):
            param.grad = torch.sin(torch.arange(param.numel()).reshape(param.shape) + step + number).to(param.dtype)
        optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_exponentiated_sgd(agree, decay):
    module, model = load("EG_optimiser", "optim_eg/sgd_eg.py"), plain_network(bias=False)
    params = moved(model)
    optimizer = module.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=decay, update_alg="eg")
    buffers = dict.fromkeys(params, 0.0)
    trained(optimizer, model, 1)
    for step in range(2):
        grads = gradients(model)
        buffers = {name: 0.9 * buffers[name] + grads[name] + decay * params[name].sign() for name in params}
        update = {name: -0.1 * buffers[name] for name in params}
        _, update, _ = funcbio.exponentiated_gradient(params, update, start(params, "exponentiated_gradient"))
        params = each(torch.add, params, update)
        if not step:
            trained(optimizer, model, 1)
    agree(params, values(model))


def test_exponentiated_adamw(agree):
    module, model = load("EG_optimiser", "optim_eg/adamw_eg.py"), plain_network(bias=False)
    params = moved(model)
    twin = plain_network(bias=False)
    twin.load_state_dict(params)
    theirs = module.AdamWeg(model.parameters(), lr=0.1, weight_decay=0.3)
    adam = torch.optim.Adam(twin.parameters(), lr=0.1)
    for _ in range(3):
        trained(theirs, model, 1)
        before = values(twin)
        trained(adam, twin, 1)
        update = each(torch.sub, values(twin), before)
        params = tree_map(lambda w: (1.0 - 0.1 * 0.3) * w, params)
        _, update, _ = funcbio.exponentiated_gradient(params, update, start(params, "exponentiated_gradient"))
        params = each(torch.add, params, update)
    agree(params, values(model))


# FIRE, and what its repository compares with: isaac7778/FIRE.


@pytest.mark.parametrize("iterations", [1, 10])
def test_fire(agree, iterations):
    module, model = load("FIRE", "vision/interventions/fire.py"), network()
    params = moved(model)
    module.fire(model, iteration=iterations)
    ours, _, _ = funcbio.fire(params, params, start(params, "fire"), iterations=iterations)
    agree(ours, values(model), within=32)  # Ten products, which amplify small singular values.


def test_shrink_and_perturb_of_fire(agree):
    module, model = load("FIRE", "vision/interventions/shrink_and_perturb.py"), plain_network()
    initial = plain_network()
    state = start(values(initial), "shrink_and_perturb")
    params = moved(model)
    module.shrink_and_perturb(model, initial, 0.8)
    options = {"shrink": 1 - 0.8, "perturb": 0.8, "noise": "start"}
    agree(funcbio.shrink_and_perturb(params, params, state, **options)[0], values(model))


def test_parseval_of_fire(agree):
    module, model = load("FIRE", "vision/interventions/parseval.py"), network()
    params, grads = moved(model), gradients(model)
    model.is_norm_layer_parameter = lambda name: name == "3.weight"
    theirs = 0.1 * module.parseval_loss(model, 1.0)
    weights = [name for name in params if params[name].ndim > 1]
    pull = torch.autograd.grad(theirs, [model.get_parameter(name) for name in weights])
    _, ours, _ = funcbio.parseval(params, grads, start(params, "parseval"), strength=0.1, scale=1.0)
    theirs = {name: grads[name] + one for name, one in zip(weights, pull, strict=True)}
    agree({name: ours[name] for name in weights}, theirs)


# Parseval regularization: wechu/parseval_reg, a function within a method, for matrices whose names say orthogonal.


def test_parseval(agree):
    agent = SimpleNamespace(init_gain=2.0**0.5, parseval_norm=False, parseval_num_groups=1)
    theirs = function("parseval_reg", "parseval_reg/agent.py", "parseval_reg_network", self=agent, torch=torch)
    model = nn.Sequential(nn.Linear(9, 6, bias=False), nn.Linear(6, 5, bias=False))
    params = moved(model)
    loss = 1e-3 * theirs((f"orthog.{name}", param) for name, param in model.named_parameters())
    pull = torch.autograd.grad(loss, [*model.parameters()])
    nothing = each(torch.zeros_like, params)
    _, ours, _ = funcbio.parseval(params, nothing, start(params, "parseval"), strength=1e-3, scale=2.0)
    agree(ours, dict(zip(params, pull, strict=True)))


# DASH: the authors' baekrok/DASH-Direction-Aware-SHrinking, and the port in isaac7778/FIRE.


@pytest.mark.parametrize("theirs", [dash_of_authors, dash_of_fire])
def test_dash(agree, theirs):
    model = network()
    params = moved(model)
    loader = [(torch.randn(5, 2, 4, 4), torch.arange(5) % 4) for _ in range(3)]
    state, ours = start(params, "dash"), params
    for x, y in loader:
        loss = functional.cross_entropy(model(x), y)
        grads = dict(zip(params, torch.autograd.grad(loss, model.parameters()), strict=True))
        ours, _, state = funcbio.dash(ours, grads, state, alpha=0.3, floor=0.05, every=3)
    theirs(model, loader)
    assert (ours["0.weight"] != params["0.weight"]).any()
    agree(ours, values(model))


# RigL: nollied/rigl-torch in torch, google-research/rigl in TensorFlow.


@pytest.mark.parametrize("step", [10, 50, 90])
def test_rigl(agree, step):
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = rigl_scheduler(model, optimizer, step)
    model(torch.randn(9, 6)).square().sum().backward()
    params = values(model)
    masks = {f"{2 * layer}.weight": mask for layer, mask in enumerate(scheduler.backward_masks) if mask is not None}
    assert [*masks] == ["2.weight", "4.weight"]  # The first layer is dense.
    grads = gradients(model)
    grads |= {f"{2 * at}.weight": hook.dense_grad for at, hook in enumerate(scheduler.backward_hook_objects) if hook}
    mask = {name: masks[name].clone() if name in masks else torch.zeros((), dtype=torch.bool) for name in params}
    calls = {"prune_and_regrow": torch.tensor(step // 10)}
    state = start(params, "prune_and_regrow", mask=mask, calls=calls)
    assert not scheduler()
    ours, _, state = funcbio.prune_and_regrow(params, grads, state, drop=0.3, grow="gradient", until=10)
    assert (step == 90) or (state.mask["2.weight"] != mask["2.weight"]).any()
    theirs = {f"{2 * layer}.weight": mask for layer, mask in enumerate(scheduler.backward_masks) if mask is not None}
    assert difference({name: state.mask[name] for name in theirs}, theirs) == 0
    agree(ours, values(model), within=0)


@pytest.mark.parametrize("drop", [0.1, 0.3])
def test_rigl_of_its_authors(agree, drop):
    tensorflow = pytest.importorskip("tensorflow")
    module = load("rigl", "rigl/rigl_tf2/mask_updaters.py", fakes=("gin", "rigl"))
    weight, grad, mask = torch.randn(7, 9), torch.randn(7, 9), torch.rand(7, 9) < 0.4
    params, grads = {"weight": weight * mask}, {"weight": grad}
    state = start(params, "prune_and_regrow", mask={"weight": mask})
    ours, _, state = funcbio.prune_and_regrow(params, grads, state, drop=drop, grow="gradient")
    variable, their_mask = (tensorflow.Variable(one.numpy()) for one in (params["weight"], mask.to(weight.dtype)))
    scores = (params["weight"].abs().numpy(), grad.abs().numpy())
    updater = module.RigL(None, SimpleNamespace(get_slot_names=list))
    updater.generic_mask_update(their_mask, variable, *map(tensorflow.constant, scores), drop)
    assert (torch.tensor(their_mask.numpy() > 0) == state.mask["weight"]).all()
    assert (state.mask["weight"] != mask).any()
    agree(ours, {"weight": torch.tensor((variable * their_mask).numpy())}, within=0)
