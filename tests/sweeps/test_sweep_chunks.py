"""Chunks and the order of seeds change no member by more than rounding, and by nothing where torch rounds alike."""

import random
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funcbio import BioConfig, Distribution, Mechanism, sweep

MOVING = ("temporal", "weight_adaptive", "activity")
SEEDS = [1, 2, 3, 4, 5]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}
"""Of the largest number of a tensor: rounding of one operation, a thousand times for the steps that it goes through."""


class Words(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.embedding, self.hidden, self.norm = nn.Embedding(11, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.out, self.act = nn.Linear(8, 4), act()

    def forward(self, x):
        return self.out(self.norm(self.act(self.hidden(self.embedding(x)))).mean(1))


class Attending(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.embedding, self.out = nn.Embedding(11, 8), nn.Linear(8, 4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.out(self.layer(self.embedding(x)).mean(1))


def perceptron(act, bias):
    hidden = nn.Linear(12, 16), act(), nn.Dropout(0.2), nn.Linear(16, 8), nn.LayerNorm(8), act()
    return nn.Sequential(*hidden, nn.Linear(8, 4))


def normed(act, bias):
    first = nn.Linear(12, 16), nn.LayerNorm(16), act()
    return nn.Sequential(*first, nn.Linear(16, 8, bias=bias), nn.BatchNorm1d(8), act(), nn.Linear(8, 4))


def convolutions(act, bias):
    first = nn.Conv2d(2, 6, 3, padding=1, bias=bias), nn.BatchNorm2d(6), act()
    second = nn.Conv2d(6, 6, 3, bias=bias), nn.BatchNorm2d(6), act()
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(96, 4))


MODELS = {
    "perceptron": perceptron,
    "normed": normed,
    "convolutions": convolutions,
    "words": lambda act, bias: Words(act),
    "attending": lambda act, bias: Attending(act),
}


def data(model, dtype):
    generator = torch.Generator().manual_seed(3)
    if model in ("words", "attending"):
        x = torch.randint(0, 11, (48, 6), generator=generator)
        return x, x[:, 0] % 4
    shape = (48, 2, 6, 6) if model == "convolutions" else (48, 12)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    first, second = x.flatten(1)[:, :2].T
    return x, (first > 0).long() + 2 * (second > 0).long()


def mix(number):
    """A model, mechanisms, configuration and optimizer, by chance."""
    chance = random.Random(number)
    often = lambda: chance.random() < 0.5
    model, distribution = chance.choice([*MODELS]), chance.choice([kind.value for kind in Distribution])
    mechanisms = [name for name in ("crystallize", "volume_dependent_lr", "scale_grad") if often()]
    mechanisms += ["fuzzy_learning_rates"]
    mechanisms += ["update_fuzzy_learning_rates"] if distribution in MOVING else []
    mechanisms += [Mechanism("rejuvenate_weights", every=2)] if often() else []
    config = {
        "fuzzy_lr_distribution": distribution,
        "fuzzy_lr_dynamic": distribution in MOVING,
        "record_activity": distribution == "activity" or "scale_grad" in mechanisms,
        "base_lr": 0.7,
        "crystal_thresh": chance.choice([4.5e-5, 0.05]),
        "apply_dales_principle": often() and model not in ("attending", "words"),
    }
    # What has a gradient of rounding alone, Adam makes large: see the last test.
    adam = often() and model != "attending"
    dampened = {"dampening_factor": [0.3, 0.6]} if "crystallize" in mechanisms else {}
    return {
        "model": model,
        "act": chance.choice([nn.ReLU, nn.Tanh, nn.SiLU]),
        "bias": not adam,
        "mechanisms": mechanisms,
        "config": BioConfig(**config),
        "optimizer": torch.optim.Adam if adam else partial(torch.optim.SGD, momentum=chance.choice([0.0, 0.9])),
        "grid": chance.choice([{}, {"lr": [0.05, 0.01]}, dampened, {"weight_decay": [0, 0.1]}]),
    }


def trained(model, act, bias, dtype, *, seeds, chunk, steps=6, **options):
    """Returns every number of every member: parameters and buffers, and what was measured, by seed and grid."""
    x, y = data(model, dtype)
    make = lambda: MODELS[model](act, bias).to(dtype)
    options |= {"steps": steps, "batch_size": 16, "record_every": 1, "test": (x[:12], y[:12])}
    options |= {"lr": None if "lr" in options.get("grid", {}) else 0.05}
    result = sweep(make, F.cross_entropy, (x, y), seeds=seeds, chunk=chunk, progress=False, **options)
    table, found = result.table, {}
    for member in dict.fromkeys(table["member"]):
        rows = [row for row, of in enumerate(table["member"]) if of == member]
        measured = {n: torch.tensor([table[n][row] for row in rows]) for n in ("train_loss", "test_loss")}
        who = tuple(table[name][rows[0]] for name in ("seed", *result.hyper))
        found[who] = {**result.member(member), **{name: values.double() for name, values in measured.items()}}
    return found


def differences(some, every):
    """Largest difference in each tensor, relative to its largest number, for the members of ``some``."""
    found = {}
    for who, tensors in some.items():
        for name, tensor in tensors.items():
            other = every[who][name].double()
            distance = (tensor.double() - other).abs().max() / other.abs().max().clamp_min(1e-2)
            found[name] = max(found.get(name, 0.0), distance.item())
    return found


def has_thresholds(mixed):
    """Whether rounding may decide what a step does: then paths of float32, in which ties are common, may part."""
    names = {getattr(mechanism, "feature", mechanism) for mechanism in mixed["mechanisms"]}
    return bool({"crystallize", "rejuvenate_weights"} & names) or mixed["config"].records_activity


@pytest.mark.parametrize("number", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 104))])
def test_chunks_and_order_change_members_by_rounding_only(number):
    """In float64 thresholds do not matter: no number of these mixes is so near to one."""
    mixed = mix(number)
    for dtype, tolerance in TOLERANCE.items():
        if dtype == torch.float32 and has_thresholds(mixed):
            continue
        run = partial(trained, dtype=dtype, **mixed)
        every = run(seeds=SEEDS, chunk=10)
        for seeds, chunk in (([5, 3, 1], 1), ([4, 1, 3, 5], 2), ([2, 5, 1, 4, 3], 3)):
            for name, found in differences(run(seeds=seeds, chunk=chunk), every).items():
                assert found <= tolerance, (name, seeds, chunk, mixed)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_in_chunks_of_one_size_the_order_of_seeds_changes_no_bit(model, dtype):
    """The same operations on the same shapes: with every mechanism, thresholds included."""
    mechanisms = [
        "crystallize",
        "volume_dependent_lr",
        "fuzzy_learning_rates",
        Mechanism("rejuvenate_weights", every=2),
    ]
    run = partial(trained, model, nn.ReLU, True, dtype, mechanisms=mechanisms, optimizer=torch.optim.Adam, chunk=2)
    one, other = run(seeds=[1, 2, 3, 4]), run(seeds=[4, 1, 3, 2])
    assert not any(differences(one, other).values())


def test_only_a_bias_that_batch_norm_takes_out_again_is_made_large_by_adam():
    """Its gradient is 0 but for rounding, and Adam divides that by its own size."""
    run = partial(trained, "convolutions", nn.Tanh, True, torch.float32, mechanisms=[], optimizer=torch.optim.Adam)
    found = differences(run(seeds=[5, 3, 1], chunk=1), run(seeds=SEEDS, chunk=5))
    taken_out = {"0.bias", "3.bias", "1.running_mean", "4.running_mean", "test_loss"}  # What follows from the bias.
    assert all(value <= TOLERANCE[torch.float32] for name, value in found.items() if name not in taken_out), found
    plain = partial(trained, "convolutions", nn.Tanh, True, torch.float32, mechanisms=[], optimizer=torch.optim.SGD)
    assert max(differences(plain(seeds=[5, 3, 1], chunk=1), plain(seeds=SEEDS, chunk=5)).values()) <= 1e-4


def test_what_a_model_of_float64_measures_keeps_its_digits():
    """Rounded to float32, a difference in the last bit would be one in the seventh digit, now and then."""
    (x, y), net = data("perceptron", torch.float64), nn.Linear(12, 4).double()
    for folds in ((), [(range(40), range(40, 48))]):
        held = {"folds": folds} if folds else {"test": (x[40:], y[40:])}
        result = sweep(
            lambda: nn.Linear(12, 4).double(), F.cross_entropy, (x, y), steps=2, batch_size=16, lr=0.1, **held
        )
        net.load_state_dict(result.member(0))
        assert result.table["test_loss"][0] == pytest.approx(F.cross_entropy(net(x[40:]), y[40:]).item(), rel=1e-12)
