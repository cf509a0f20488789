"""The slowly-changing regression of shibhansh/loss-of-plasticity, for runs of published code beside ours.

Its generator and its network are taken from the clone. Run as a program, it prints the numbers of
docs/about/published.md.
"""

import os
import sys
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from beside import observed
from optree import tree_map
from references import load
from scipy import stats
from torch import nn
from torch.nn import functional

import funcbio
from funcbio import BioConfig, attach

LOP = "loss-of-plasticity"
INPUTS, HIDDEN, TARGET_UNITS, SLOW_BITS, BETA = 20, 5, 100, 15, 0.7  # cfg/prob.json
GENERATED_AT_ONCE = 10_000  # Targets beyond the last whole block of so many are left at 0 by the generator.


# Squared errors of plots/bp_bfp_error.png, by step size: means over ten bins of 20,000 steps each, read off its lines,
# whose bands are as wide as one standard error of 100 runs. A reading is good to 0.005.
FIGURE = {
    0.01: (0.79, 1.08, 1.23, 1.28, 1.25),
    0.003: (0.72, 0.88, 0.96, 1.07, 1.10),
    0.001: (0.75, 0.80, 0.82, 0.86, 0.88),
}
FIRST_BINS = {0.01: (0.62, 0.63, 0.70), 0.003: (0.71, 0.66, 0.66), 0.001: (0.84, 0.76, 0.72)}  # The first three.


@cache
def published(repository, file):
    """Returns a module of published code, loaded once."""
    return load(repository, file, fakes=("mlproj_manager",))


def task(seed, steps, *, flip_after, flip_one=False):
    """Returns inputs and targets of one run, from the published generator."""
    assert GENERATED_AT_ONCE % flip_after == 0
    module = published(LOP, "lop/slowly_changing_regression/slowly_changing_regression.py")
    written = []
    vars(module).update(pickle=SimpleNamespace(dump=lambda data, file: written.append(data)), tqdm=iter)
    whole = -(-steps // GENERATED_AT_ONCE) * GENERATED_AT_ONCE
    torch.manual_seed(seed)
    module.generate_problem_data(
        flip_after=flip_after,
        data_file=os.devnull,
        num_data_points=whole - flip_after,  # It adds one flip.
        num_inputs=INPUTS,
        num_target_features=TARGET_UNITS,
        num_flipping_bits=SLOW_BITS,
        beta=BETA,
        flip_one=flip_one,
    )
    inputs, targets, _ = written[0]
    assert len(inputs) == whole
    return inputs[:steps], targets[:steps]


def network(seed):
    """Returns the published network as it starts."""
    torch.manual_seed(1000 + seed)
    return published(LOP, "lop/nets/ffnn.py").FFNN(INPUTS, HIDDEN)


class Stack:
    """Plain gradient descent of many networks at once, in numpy: as the published one to rounding."""

    def __init__(self, nets, rates):
        stacked = lambda which: np.stack([which(net).detach().numpy() for net in nets])
        self.into, self.bias = stacked(lambda net: net.layers[0].weight), stacked(lambda net: net.layers[0].bias)
        self.out = stacked(lambda net: net.layers[2].weight[0])
        self.last = stacked(lambda net: net.layers[2].bias)[:, 0]
        self.rates = np.asarray(rates, dtype=np.float32)

    def learn(self, x, y):
        """Makes a step of every network on its own example; returns the squared errors before it."""
        hidden = np.maximum(np.einsum("nhi,ni->nh", self.into, x) + self.bias, 0)
        error = np.einsum("nh,nh->n", self.out, hidden) + self.last - y
        step = 2 * self.rates * error
        inner = step[:, None] * self.out * (hidden > 0)
        self.into -= inner[:, :, None] * x[:, None, :]
        self.bias -= inner
        self.out -= step[:, None] * hidden
        self.last -= step
        return error * error


def curves(rates, seeds, steps, *, flip_after=10_000, flip_one=False, bin_of=20_000):
    """Returns squared errors of plain gradient descent, of shape (rates, seeds, bins)."""
    inputs, targets = np.empty((steps, seeds, INPUTS), np.uint8), np.empty((steps, seeds), np.float32)
    for seed in range(seeds):
        x, y = task(seed, steps, flip_after=flip_after, flip_one=flip_one)
        inputs[:, seed], targets[:, seed] = x.numpy(), y[:, 0].numpy()
    nets = [network(seed) for seed in range(seeds)] * len(rates)
    learner, shape = Stack(nets, np.repeat(rates, seeds)), (len(rates), seeds)
    sums = np.zeros((steps // bin_of, len(nets)))
    for step in range(steps // bin_of * bin_of):
        x = np.tile(inputs[step].astype(np.float32), (len(rates), 1))
        sums[step // bin_of] += learner.learn(x, np.tile(targets[step], len(rates)))
    return (sums / bin_of).T.reshape(*shape, -1)


class Learner:
    """A network that learns by steps of its own; ``new`` says which units the last one replaced."""

    def __init__(self, learn, layers, new=lambda: torch.zeros(HIDDEN, dtype=torch.bool)):
        self.learn, self.layers, self.new = learn, layers, new


def published_backprop(seed, *, rate=0.01):
    """Their plain gradient descent."""
    learner = published(LOP, "lop/algos/bp.py").Backprop(network(seed), step_size=rate)
    return Learner(learner.learn, learner.net.layers)


def published_continual(seed, *, replacement_rate, corrected=False, accumulate=False, rate=0.01):
    """Their continual backpropagation; ``corrected`` lets the next bias take over what a unit brought."""
    learner = published(LOP, "lop/algos/cbp.py").ContinualBackprop(
        network(seed),
        step_size=rate,
        replacement_rate=replacement_rate,
        decay_rate=0.99,
        maturity_threshold=100,
        util_type="adaptable_contribution",
        accumulate=accumulate,
    )
    if corrected:
        remember_means(learner.gnt)
    return Learner(learner.learn, learner.net.layers, lambda: learner.gnt.ages[0] == 0)


def remember_means(gnt):
    """Gives the mean signals, which their test sets to 0, back to units until their biases are corrected."""
    judge, generate, means = gnt.update_utility, gnt.gen_new_features, {}

    def judged(layer_idx=0, features=None, next_features=None):
        judge(layer_idx, features, next_features)
        means[layer_idx] = gnt.mean_feature_act[layer_idx].clone()

    def generated(chosen, numbers):
        for layer, which in enumerate(chosen):
            gnt.mean_feature_act[layer][which] = means[layer][which]
        generate(chosen, numbers)
        for layer, which in enumerate(chosen):
            gnt.mean_feature_act[layer][which] = 0.0

    gnt.update_utility, gnt.gen_new_features = judged, generated


def published_upgd(seed, *, sigma, beta, decay, late=False, rate=0.01):
    """Their UPGD; ``late`` starts it at a step at which nothing is left of the correction for the beginning."""
    net = network(seed).layers
    module = published("upgd", "core/optim/weight_upgd/first_order.py")
    options = {"lr": rate, "weight_decay": decay, "beta_utility": beta, "sigma": sigma}
    optimizer = module.FirstOrderGlobalUPGD(net.named_parameters(), **options)
    if late:
        for param in net.parameters():
            optimizer.state[param] = {"step": 10**6, "avg_utility": torch.zeros_like(param)}
    return Learner(partial(step_of, nn.Sequential(*net), optimizer), net)


def published_clipping(seed, *, kappa, rate=0.01):
    """Their weight clipping, whose step calls a closure."""
    net = nn.Sequential(*network(seed).layers)
    optimizer = published("weight-clipping", "core/optim/weight_clipping.py").WeightClippingSGD(
        net.parameters(), zeta=kappa, lr=rate
    )
    return Learner(lambda x, y: optimizer.step(lambda: functional.mse_loss(net(x), y))[0].detach(), net)


def step_of(net, optimizer, x, y):
    """Makes a step; returns the squared error before it."""
    optimizer.zero_grad()
    loss = functional.mse_loss(net(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def ours(seed, mechanism, *, rate=0.01, **config):
    """The same network under torch's SGD with one of our mechanisms attached."""
    net = nn.Sequential(*network(seed).layers)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    units = funcbio.units(net, torch.randint(2, (8, INPUTS)).float()) if mechanism == "continual_backprop" else None
    torch.manual_seed(3000 + seed)  # The keys of a plain model's layers follow it.
    handle = attach(optimizer, net, [mechanism], config=BioConfig(**config), units=units)
    learner = Learner(partial(step_of, net, optimizer), net)
    if units:
        learner.new = lambda: handle.trees()[2].units["unit_age"]["0.weight"] == 0
    return learner


def our_continual(seed, *, replacement_rate, corrected=False, accumulate=False):
    """Ours, with the options under which it should do as theirs does."""
    return ours(
        seed,
        "continual_backprop",
        continual_backprop_replacement_rate=replacement_rate,
        continual_backprop_utility="adaptable_contribution",
        continual_backprop_accumulate=accumulate,
        continual_backprop_correct_bias=corrected,
    )


def our_upgd(seed, *, sigma, beta, decay, rate=0.01):
    """Ours, with their numbers in units of the update."""
    return ours(seed, "upgd", rate=rate, upgd_sigma=rate * sigma, upgd_beta=beta, upgd_decay=rate * decay)


def run(make, seed, steps, *, flip_after=1000):
    """Returns the squared error and the number of replaced units of every step of one run."""
    learner = make(seed)
    inputs, targets = task(seed, steps, flip_after=flip_after)
    torch.manual_seed(2000 + seed)
    errors, replaced = np.empty(steps), np.empty(steps, int)
    for step, (x, y) in enumerate(zip(inputs.split(1), targets.split(1), strict=True)):
        errors[step] = learner.learn(x, y).item()
        replaced[step] = learner.new().sum()
    return errors, replaced


def apart(first, second, *, draws=20_000):
    """Returns the mean paired difference over seeds, half of its 95 % interval, and the p of a test by random signs."""
    difference = np.asarray(first) - np.asarray(second)
    number = len(difference)
    half = stats.t.ppf(0.975, number - 1) * difference.std(ddof=1) / number**0.5
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(draws, number))
    as_far = np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12
    return difference.mean(), half, (as_far.sum() + 1) / (draws + 1)


def runs(make, seeds, steps, **options):
    """Returns what ``run`` gives for seeds from 0 up, of shape (seeds, steps) each."""
    errors, replaced = zip(*(run(make, seed, steps, **options) for seed in range(seeds)), strict=True)
    return np.array(errors), np.array(replaced)


def mapped(mechanism, seeds, steps, *, keyword, values, flip_after=1000, rate=0.01, **config):
    """Returns what ``runs`` gives of a mechanism for some values of a hyper-parameter, by ``torch.vmap`` over all."""
    nets = [nn.Sequential(*network(seed).layers) for seed in range(seeds)] * len(values)
    table = funcbio.units(nets[0], torch.randint(2, (8, INPUTS)).float())
    bio = funcbio.bind(nets[0], BioConfig(**config), units=table)
    params = [{name: param.detach().clone() for name, param in net.named_parameters()} for net in nets]
    params = {name: torch.stack([one[name] for one in params]) for name in params[0]}
    keys = torch.stack([funcbio.key(4000 + seed) for seed in range(seeds)] * len(values))
    state = torch.vmap(lambda params, key: bio.init(params, key=key, keep=[mechanism]))(params, keys)
    hyper = torch.tensor(values).repeat_interleave(seeds)
    decay, act, on_update = bio.config.continual_backprop_decay, getattr(bio, mechanism), mechanism == "upgd"

    def loss_of(params, x, y):
        hidden = torch.relu(functional.linear(x, params["0.weight"], params["0.bias"]))
        output = functional.linear(hidden, params["2.weight"], params["2.bias"])
        return functional.mse_loss(output, y), hidden

    def step(params, state, key, number, hyper, x, y):
        grads, (loss, hidden) = torch.func.grad_and_value(loss_of, has_aux=True)(params, x, y)
        update, options = tree_map(lambda grad: -rate * grad, grads), {keyword: hyper}
        now = funcbio.fold_in(key, number)
        if on_update:
            _, update, state = act(params, update, state, key=now, **options)
        params = tree_map(torch.add, params, update)
        if not on_update:
            params, _, state = act(params, grads, observed(state, hidden[None], decay), key=now, **options)
        return params, state, loss

    data = [task(seed, steps, flip_after=flip_after) for seed in range(seeds)] * len(values)
    inputs, targets = (torch.stack(list(of), 1) for of in zip(*data, strict=True))
    run = torch.compile(torch.vmap(step, in_dims=(0, 0, 0, None, 0, 0, 0)), fullgraph=True)
    errors, replaced = np.empty((len(nets), steps)), np.zeros((len(nets), steps), int)
    for number in range(steps):
        params, state, loss = run(params, state, keys, torch.tensor(number), hyper, inputs[number], targets[number])
        errors[:, number] = loss
        if not on_update:
            replaced[:, number] = (state.units["unit_age"]["0.weight"] == 0).sum(1)
    shape = len(values), seeds, steps
    return errors.reshape(shape), replaced.reshape(shape)


CONTINUAL: dict[str, Any] = {
    "continual_backprop_utility": "adaptable_contribution",
    "continual_backprop_accumulate": False,
}
NOISY: dict[str, Any] = {"sigma": 0.1, "beta": 0.999, "decay": 0.01}  # As theirs counts them.


def line(name, first, second, **numbers):
    """Prints the means over steps of our runs and theirs, and their difference."""
    means = [one.mean(1) for one in (first, second)]
    difference, half, p = apart(*means)
    more = "".join(f", {key} {value:.1f}" for key, value in numbers.items())
    ours, theirs = (one.mean() for one in means)
    print(f"{name}: {ours:.3f} and {theirs:.3f}, {difference:+.3f} +- {half:.3f}, p {p:.4f}{more}", flush=True)


def print_curve(seeds=60, steps=1_000_000):
    """Prints plain gradient descent beside what was read off the figure."""
    for flip_one in (False, True):
        print("one slow bit flipped" if flip_one else "all slow bits drawn anew")
        errors = curves([*FIGURE], seeds, steps, flip_one=flip_one)
        for (rate, read), of_rate in zip(FIGURE.items(), errors, strict=True):
            blocks = of_rate.reshape(seeds, len(read), -1).mean(2)
            error = blocks.std(0, ddof=1) / seeds**0.5
            pairs = zip(read, blocks.mean(0), error, strict=True)
            print(rate, ", ".join(f"{was:.2f} read, {now:.3f} +- {spread:.3f}" for was, now, spread in pairs))


def print_continual(seeds=20, steps=6000):
    """Prints continual backpropagation of both, with and without the correction of the next bias."""
    rates = [1e-3, 1e-2]
    for corrected in (False, True):
        config = CONTINUAL | {"continual_backprop_correct_bias": corrected}
        errors, new = mapped("continual_backprop", seeds, steps, keyword="replacement_rate", values=rates, **config)
        for rate in rates:
            make = partial(published_continual, replacement_rate=rate, corrected=corrected)
            theirs, replaced = runs(make, seeds, steps)
            for our_rate, our_errors, our_new in zip(rates, errors, new, strict=True):
                numbers = {"replaced": our_new.sum(1).mean(), "theirs": replaced.sum(1).mean()}
                line(f"rate {our_rate:g} and {rate:g}, corrected {corrected}", our_errors, theirs, **numbers)


def print_upgd(seeds=20, steps=6000, rate=0.01):
    """Prints UPGD of both, theirs as published and from a late step on, ours also with noise in units of the update."""
    sigmas = [rate * NOISY["sigma"], NOISY["sigma"]]
    config: dict[str, Any] = {"upgd_beta": NOISY["beta"], "upgd_decay": rate * NOISY["decay"]}
    errors, _ = mapped("upgd", seeds, steps, keyword="sigma", values=sigmas, **config)
    for late in (False, True):
        theirs, _ = runs(partial(published_upgd, late=late, **NOISY), seeds, steps)
        for sigma, one in zip(sigmas, errors, strict=True):
            line(f"sigma {sigma:g}, late {late}, all steps", one, theirs)
            line(f"sigma {sigma:g}, late {late}, first 1000", one[:, :1000], theirs[:, :1000])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    torch.set_num_threads(1)
    for part in (print_curve, print_continual, print_upgd):
        part()
