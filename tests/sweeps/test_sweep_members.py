"""A member of a sweep is the run with its seed: it does not depend on who trains beside it."""

import copy
from functools import partial

import pytest
import torch
from optree import tree_map
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, Distribution, Mechanism, sweep
from funcbio.mechanisms import ROWS
from funcbio.sweeps._batches import Batches, StepKeys
from funcbio.sweeps._job import Job
from funcbio.sweeps._optimizers import ELEMENTWISE, recipe
from funcbio.sweeps._trials import as_variants, make_trials, numbers_of

EVERY = [
    "scale_grad",
    "volume_dependent_lr",
    "fuzzy_learning_rates",
    "crystallize",
    "update_fuzzy_learning_rates",
    Mechanism("rejuvenate_weights", every=3),
    "enforce_dales_principle",
]


def data(count=96, size=12):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, size, generator=generator)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def mlp():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))


def everything(distribution="uniform", **options):
    config = {
        "fuzzy_lr_distribution": distribution,
        "fuzzy_lr_dynamic": True,
        "fuzzy_lr_update_freq": 2,
        "record_activity": True,
        "apply_dales_principle": True,
        "weight_splitting_Gamma": 2,
    }
    return BioConfig(**{**config, **options})


def engine(seeds, steps, *, model=mlp, mechanisms=EVERY, config=None, grid=(), optimizer=torch.optim.SGD, **options):
    """Trains some steps and returns what is theirs, and the losses of the last step."""
    made = recipe(optimizer, None if "lr" in grid else 0.1)
    config = everything() if config is None else config
    trials = make_trials(seeds, grid, as_variants(mechanisms), config, made)
    job = Job(
        model=model,
        loss=F.cross_entropy,
        data=options.pop("data", data()),
        steps=max(steps, 1),
        batch_size=16,
        recipe=made,
        trials=trials,
        shared=options.pop("share", ()),
        test=None,
        metrics={},
        record_every=1,
        synapses=options.pop("synapses", None),
        compile=options.pop("compile", False),
        device=torch.device("cpu"),
    )
    engine = job.engine(trials)
    engine.kind.looped = options.pop("looped", False)
    batches, noise = Batches(job, engine.members.keys["batches"]), StepKeys(engine.members.keys["noise"])
    loss = torch.zeros(())
    for number in range(steps):
        loss = engine.step(number, batches.at(number), noise.at(number))
    return engine.members, loss


def at(index, tree):
    return tree_map(lambda leaf: leaf[index], tree)


def bits(tree):
    return {".".join(map(str, path)): leaf for path, leaf in zip(*paths(tree), strict=True)}


def paths(tree):
    import optree

    return optree.tree_paths(tree), optree.tree_leaves(tree)


def assert_bits(one, other):
    for (name, a), b in zip(bits(one).items(), bits(other).values(), strict=True):
        assert torch.equal(a, b), name


def assert_close(one, other, **tolerance):
    for (name, a), b in zip(bits(one).items(), bits(other).values(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


# Alone and among others


@pytest.mark.parametrize("distribution", Distribution)
def test_a_member_starts_alike_alone_and_among_others(distribution):
    config = everything(distribution)
    together, _ = engine([3, 1, 4, 15, 9], 0, config=config)
    for index, seed in enumerate([3, 1, 4, 15, 9]):
        assert_bits(at(index, together), at(0, engine([seed], 0, config=config)[0]))


@pytest.mark.parametrize("distribution", Distribution)
def test_draws_of_a_step_are_the_same_to_the_last_bit(distribution):
    """One step from the same numbers: rates, masks and signs; a jump of a mask would be a difference of a draw."""
    config = everything(distribution)
    mechanisms = ["update_fuzzy_learning_rates", "rejuvenate_weights", "crystallize"]
    together, _ = engine([3, 1, 4], 1, config=config, mechanisms=mechanisms)
    for index, seed in enumerate([3, 1, 4]):
        alone, _ = engine([seed], 1, config=config, mechanisms=mechanisms)
        one, other = at(index, together).state, at(0, alone).state
        assert_bits((one.sign, one.replaced, one.updates), (other.sign, other.replaced, other.updates))
        assert_close(one.rate, other.rate, rtol=1e-6, atol=0)
        if distribution != "activity":  # Its rates follow counts of outputs over a threshold.
            assert_bits(one.rate, other.rate)


@pytest.mark.parametrize("name", ["volume_dependent_lr", "rejuvenate_weights", "fuzzy_learning_rates", "crystallize"])
def test_every_mechanism_of_a_member_is_that_of_the_pure_function(name):
    """A step by hand, from the member's own keys."""
    seed, config = 7, BioConfig(base_lr=0.7)
    mechanisms = [Mechanism(name, where="after" if name == "rejuvenate_weights" else "gradient")]
    own, _ = engine([seed], 1, config=config, mechanisms=mechanisms, model=lambda: nn.Linear(12, 4))
    start, _ = engine([seed], 0, config=config, mechanisms=mechanisms, model=lambda: nn.Linear(12, 4))
    own, start = at(0, own), at(0, start)
    x, y = data()
    key = funcbio.key(seed)
    order = funcbio.uniform(funcbio.fold_in(funcbio.fold_in(key, "batches"), 0), (96,)).argsort(stable=True)[:16]
    loss = lambda p: F.cross_entropy(F.linear(x[order], p["weight"], p["bias"]), y[order])
    grads = torch.func.grad(loss)(start.params)
    noise = funcbio.fold_in(funcbio.fold_in(key, "noise"), 0)
    feature = partial(getattr(funcbio, name), **({"base_lr": 0.7} if name == "volume_dependent_lr" else {}))
    params, state = start.params, start.state
    if mechanisms[0].where == "gradient":
        params, grads, state = feature(params, grads, state, key=noise)
    params = {n: p - 0.1 * grads[n] for n, p in params.items()}
    if mechanisms[0].where == "after":
        params, grads, state = feature(params, grads, state, key=noise)
    assert_close(own.params, params, rtol=1e-5, atol=1e-7)
    assert_close(own.state.rate, state.rate, rtol=1e-6, atol=0)
    assert_bits(own.state.replaced, state.replaced)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_weights_after_a_hundred_steps_are_equal_up_to_rounding(optimizer):
    """Mechanisms without thresholds: a mask that rounding decides would part two paths for good."""
    mechanisms = ["volume_dependent_lr", "fuzzy_learning_rates", "update_fuzzy_learning_rates"]
    config = BioConfig(fuzzy_lr_distribution="temporal", fuzzy_lr_dynamic=True, fuzzy_lr_update_freq=2, base_lr=0.9)
    options = {"config": config, "mechanisms": mechanisms, "optimizer": optimizer}
    together, _ = engine([5, 6, 7, 8], 100, **options)
    for index, seed in ((0, 5), (3, 8)):
        alone, _ = engine([seed], 100, **options)
        assert_close(at(index, together).params, at(0, alone).params, rtol=1e-3, atol=1e-4)
        assert_bits(at(index, together).state.rate, at(0, alone).state.rate)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("distribution", ["lognormal", "temporal", "weight_adaptive", "activity"])
def test_member_by_member_it_is_the_same_to_the_last_bit_after_a_hundred_steps(distribution):
    """Where nothing is batched, nothing is rounded otherwise: with every mechanism, thresholds included."""
    config = everything(distribution)
    together, _ = engine([5, 6], 100, config=config, looped=True)
    assert_bits(at(1, together), at(0, engine([6], 100, config=config, looped=True)[0]))


def test_order_number_and_chunks_of_members_do_not_matter():
    config = everything(
        "temporal"
    )  # Rates that move: of others, one mechanism would do nothing, which is an error here.
    run = partial(sweep, mlp, F.cross_entropy, data(), steps=6, batch_size=16, lr=0.1, mechanisms=EVERY, config=config)
    one, two = run(seeds=[1, 2, 3, 4, 5], chunk=5), run(seeds=[5, 3, 1], chunk=2)
    for index, seed in enumerate([5, 3, 1]):
        mine, theirs = two.member(index), one.member(seed - 1)
        assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_hyper_parameter_that_is_swept_is_as_one_that_is_set():
    mechanisms = ["volume_dependent_lr", "fuzzy_learning_rates", "crystallize"]
    together, _ = engine([2], 3, config=BioConfig(), mechanisms=mechanisms, grid={"base_lr": [0.2, 0.6]})
    for index, base in enumerate([0.2, 0.6]):
        alone, _ = engine([2], 3, config=BioConfig(base_lr=base), mechanisms=mechanisms)
        assert_close(at(index, together).params, at(0, alone).params, rtol=1e-5, atol=1e-6)
        assert_bits(at(index, together).state.rate, at(0, alone).state.rate)


@pytest.mark.parametrize("field", numbers_of(BioConfig()))
def test_every_number_of_the_configuration_can_be_swept(field):
    counts = isinstance(getattr(BioConfig(), field), int)
    special = {"fuzzy_lr_decay": [0.7, 0.8], "l2_init_delta": [1e-3, 2e-3]}
    values = special.get(field, [1, 2] if counts else [0.3, 0.4])
    config = everything("temporal", fuzzy_lr_min=0.2, fuzzy_lr_max=1.2, crystal_thresh=0.05)
    mechanisms = [m for m in EVERY if not isinstance(m, Mechanism)] + ["rejuvenate_weights"]
    mechanisms.remove("crystallize")
    mechanisms.insert(0, "crystallize")
    if field == "rejuvenation_fraction":
        config = config.replace(rejuvenation_rule="proportional")
    neighbours = [name for name, row in ROWS.items() if row.on_trees and field in row.fields.values()]
    if neighbours and ROWS[neighbours[0]].by_unit:
        pytest.skip("units are replaced after more steps: test_sweep_units.py sweeps these")
    if neighbours or field == "density":
        mechanisms = neighbours[:1] or ["prune_and_regrow"]
        config = BioConfig(l2_init_penalty="huber" if field == "l2_init_delta" else "l2", l2_init_strength=0.5)
        config = config.replace(l2_init_delta=1e-3, prune_and_regrow_drop=0.9, dash_every=2, hare_and_tortoise_every=2)
    together, _ = engine([2], 3, config=config, mechanisms=mechanisms, grid={field: values})
    for index, value in enumerate(values):
        alone, _ = engine([2], 3, config=config.replace(**{field: value}), mechanisms=mechanisms)
        assert_close(at(index, together).params, at(0, alone).params, rtol=1e-4, atol=1e-5)
    changed = (torch.equal(*leaf) for leaf in (*together.params.values(), *together.state.rate.values()))
    assert not all(changed)


def test_whole_and_other_numbers_of_one_hyper_parameter_stand_in_one_tensor():
    mechanisms = ["volume_dependent_lr"]
    together, _ = engine([2], 2, config=BioConfig(), mechanisms=mechanisms, grid={"stability_factor": [1, 2.5]})
    alone, _ = engine([2], 2, config=BioConfig(stability_factor=2.5), mechanisms=mechanisms)
    assert_close(at(1, together).params, at(0, alone).params, rtol=1e-5, atol=1e-6)
    assert not torch.equal(*together.params["0.weight"])


# What is shared


@pytest.mark.parametrize("what", ["weights", "rates", "batches", "noise"])
def test_what_is_shared_is_the_same_for_all_and_nothing_else(what):
    options = {"config": BioConfig(), "mechanisms": ["volume_dependent_lr"], "share": (what,)}
    own, _ = engine([1, 2], 0, **options)
    same = {
        "weights": torch.equal(*own.params["0.weight"]),
        "rates": torch.equal(*own.state.rate["0.weight"]),
        "batches": torch.equal(*own.keys["batches"]),
        "noise": torch.equal(*own.keys["noise"]),
    }
    assert same == {name: name == what for name in same}


# Optimizers


@pytest.mark.parametrize("kind", ELEMENTWISE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_optimizers_of_torch_are_those_of_torch(kind, decay):
    """Two members with learning rates of their own against two plain loops."""
    options = {"momentum": 0.9, "nesterov": True} if kind is torch.optim.SGD else {}
    made = partial(kind, weight_decay=decay, **options)
    plain = lambda: nn.Linear(12, 4)
    own, _ = engine([3], 20, model=plain, config=BioConfig(), mechanisms=[], optimizer=made, grid={"lr": [0.02, 0.3]})
    start, _ = engine([3], 0, model=plain, config=BioConfig(), mechanisms=[])
    x, y = data()
    for index, lr in enumerate([0.02, 0.3]):
        net = plain()
        net.load_state_dict(at(0, start).params)
        optimizer = made(net.parameters(), lr=lr)
        for number in range(20):
            key = funcbio.fold_in(funcbio.fold_in(funcbio.key(3), "batches"), number // 6)
            batch = funcbio.uniform(key, (96,)).argsort(stable=True)[16 * (number % 6) :][:16]
            optimizer.zero_grad()
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
        assert_close(at(index, own).params, dict(net.named_parameters()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW], ids=lambda one: one.__name__)
def test_no_decay_is_a_group_of_parameters_without_decay(kind):
    """A sweep against loops with two groups of parameters, as torch decays some of them only."""
    made = lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))
    x, y = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
    decay = {"weight_decay": [0.0, 0.3]}
    run = {"batch_size": 16, "lr": 0.02, "seeds": [3], "grid": decay, "progress": False, "no_decay": ["1", "bias"]}
    start, end = (
        sweep(made, F.cross_entropy, (x, y), optimizer=kind, **{**run, "steps": steps, "lr": lr})
        for steps, lr in ((1, 0.0), (5, 0.02))
    )
    for member, strength in enumerate(decay["weight_decay"]):
        net = made()
        net.load_state_dict({name: value[member] for name, value in start.params.items()})
        named = dict(net.named_parameters())
        groups = [{"params": [named[n] for n in ("0.weight", "3.weight")], "weight_decay": strength}]
        others = {"params": [named[n] for n in named if n not in ("0.weight", "3.weight")], "weight_decay": 0.0}
        optimizer = kind([*groups, others], lr=0.02)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        assert_close({n: value[member] for n, value in end.params.items()}, dict(named), rtol=1e-4, atol=1e-6)


def test_no_decay_is_checked_before_training():
    net = lambda: nn.Linear(4, 2)
    data = torch.randn(8, 4), torch.arange(8) % 2
    run = partial(sweep, net, F.cross_entropy, data, steps=1, batch_size=8, lr=0.1, seeds=1, progress=False)
    decays = partial(run, optimizer=partial(torch.optim.SGD, weight_decay=0.1))
    for wrong, message in (
        ("bias", "no_decay should be a list of names"),
        (["norm"], r"no_decay should hold .*weight.* found 'norm'"),
    ):
        with pytest.raises(ValueError, match=message):
            decays(no_decay=wrong)
    with pytest.raises(ValueError, match="no_decay should be left out for a functional optimizer"):
        run(optimizer=Signed(), no_decay=["bias"])
    with pytest.warns(funcbio.IdleWarning, match="no_decay should be given with weight_decay"):
        run(no_decay=["bias"])


class Signed:
    """A functional optimizer with a state: steps of the sign of an average."""

    @staticmethod
    def init(params):
        return {"average": tree_map(torch.zeros_like, params)}

    @staticmethod
    def update(grads, state, params=None):
        assert params.keys() == grads.keys()
        average = tree_map(lambda a, g: 0.9 * a + 0.1 * g, state["average"], grads)
        return tree_map(lambda a: -a.sign(), average), {"average": average}


def test_a_functional_optimizer_trains_every_member_on_its_own():
    together, _ = engine([1, 2, 3], 10, mechanisms=[], config=BioConfig(), optimizer=Signed())
    for index, seed in enumerate([1, 2, 3]):
        alone, _ = engine([seed], 10, mechanisms=[], config=BioConfig(), optimizer=Signed())
        assert_close(at(index, together).params, at(0, alone).params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.Rprop, torch.optim.SparseAdam, nn.Linear, "SGD"])
def test_an_optimizer_that_mixes_members_is_refused(kind):
    with pytest.raises(ValueError, match=r"optimizer should be one of torch\.optim's SGD, Adam.*would mix the members"):
        recipe(kind, None)


def test_learning_rates_by_default_are_those_of_the_optimizer():
    assert recipe(torch.optim.Adam, None).numbers == {"lr": 1e-3, "weight_decay": 0}
    assert recipe(torch.optim.AdamW, None).numbers["weight_decay"] == 1e-2
    assert recipe(partial(torch.optim.SGD, lr=0.5, momentum=0.9), None).numbers["lr"] == 0.5
    assert recipe(Signed(), None).numbers == {"lr": 1.0}
    with pytest.raises(ValueError, match="perhaps momentum; found 'momentun'"):
        recipe(partial(torch.optim.SGD, momentun=0.9), None)


# Copies do not matter


def test_the_model_given_is_made_anew_and_the_generator_of_torch_left_alone():
    made = []

    def factory():
        made.append(mlp())
        return made[-1]

    torch.manual_seed(5)
    before = torch.get_rng_state()
    engine([1, 2], 2, model=factory)
    assert torch.equal(before, torch.get_rng_state())
    first = copy.deepcopy(made[0].state_dict())
    assert all(torch.equal(first[n], t) for n, t in made[0].state_dict().items())
