"""Training loops as users of the release wrote them, on scanned digits; prints a few numbers for each loop and seed.

Nothing here knows which library it runs on. Arguments: number of seeds of the random loops, and the first of them.
"""

import json
import random
import sys

import torch
from bio_transformations import BioConverter, BioModule
from bio_transformations.bio_config import DEFAULT_BIO_CONFIG, BioConfig, Distribution
from sklearn.datasets import load_digits
from torch import nn

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)


class Net(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 10)

    def forward(self, x):
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc3(torch.relu(self.fc2(x)))


class Other(Net):
    """Converted as a class: the release changes a class in place, so it has one of its own."""


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 9, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x.unsqueeze(1)))).flatten(1))


def fit(model, steps=8, lr=0.2, after_backward=(), after_step=()):
    """A plain loop: mini-batches in order, so that only weights and rates are random."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    criterion = nn.CrossEntropyLoss()
    for step in range(steps):
        batch = slice(32 * step, 32 * step + 32)
        optimizer.zero_grad()
        loss = criterion(model(images[batch]), labels[batch])
        loss.backward()
        for method in after_backward:
            getattr(model, method)()
        optimizer.step()
        for method in after_step:
            getattr(model, method)()
    return loss.item()


def mean_rate(model):
    rates = [m.bio_mod.fuzzy_learning_rate_parameters for m in model.modules() if hasattr(m, "bio_mod")]
    return torch.cat([r.flatten() for r in rates]).mean().item()


def baseline_crystallizing():
    model = BioConverter(fuzzy_lr_distribution=Distribution.BASELINE)(Net())
    loss = fit(model, after_backward=["fuzzy_learning_rates", "crystallize"])
    return [loss, mean_rate(model)]


def converted_class():
    config = BioConfig(fuzzy_lr_distribution=Distribution.BASELINE, dampening_factor=0.5)
    BioNet = BioConverter(config=config)(Other)  # noqa: N806 - as users write it
    model = BioNet(hidden=12)
    loss = fit(model, after_backward=["crystallize", "fuzzy_learning_rates"])
    return [loss, mean_rate(model)]


def updated_configuration():
    converter = BioConverter.from_dict({"fuzzy_lr_distribution": Distribution.BASELINE, "crystal_thresh": 1e-3})
    converter.update_config(dampening_factor=0.9)
    assert converter.get_config().dampening_factor == 0.9
    model = converter.convert(Cnn())
    loss = fit(model, after_backward=["crystallize", "fuzzy_learning_rates"])
    return [loss, mean_rate(model)]


def several_synapses():
    config = DEFAULT_BIO_CONFIG._replace(
        weight_splitting_Gamma=2,
        weight_splitting_activation_function=torch.tanh,
        fuzzy_lr_distribution=Distribution.BASELINE,
    )
    model = BioConverter(config)(Net())
    return [fit(model, after_backward=["fuzzy_learning_rates"]), model.fc1.weight.abs().sum().item()]


def nested_several_synapses():
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(64, 16), nn.ReLU()), nn.Sequential(nn.Linear(16, 10)))
    model = BioConverter(weight_splitting_Gamma=2, fuzzy_lr_distribution=Distribution.BASELINE)(model)
    return [fit(model, after_backward=["fuzzy_learning_rates"])]


def marked_read_out():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Sequential(nn.Linear(16, 10)))
    BioConverter.set_last_module_token_for_module(model[3][0])
    model = BioConverter(weight_splitting_Gamma=4, fuzzy_lr_distribution=Distribution.BASELINE)(model)
    return [fit(model, after_backward=["fuzzy_learning_rates"])]


def one_layer_by_hand():
    layer = nn.Linear(64, 10)
    bio = BioModule(lambda: layer, config=BioConfig(fuzzy_lr_distribution=Distribution.BASELINE))
    nn.functional.cross_entropy(layer(images[:100].flatten(1)), labels[:100]).backward()
    bio.crystallize()
    bio.fuzzy_learning_rates()
    return [layer.weight.grad.norm().item(), bio.l1_reg().item()]


def uniform_rates():
    model = BioConverter(fuzzy_learning_rate_factor_nu=0.3)(Net())
    return [fit(model, after_backward=["fuzzy_learning_rates"]), mean_rate(model)]


def volume_and_crystallization():
    model = BioConverter(base_lr=0.5, fuzzy_lr_distribution=Distribution.GAMMA)(Net())
    loss = fit(model, lr=0.5, after_backward=["volume_dependent_lr", "fuzzy_learning_rates", "crystallize"])
    return [loss, mean_rate(model), model.fc2.weight.grad.norm().item()]


def rejuvenation():
    model = BioConverter(rejuvenation_parameter_dre=4.0)(Net())
    loss = fit(model, after_backward=["fuzzy_learning_rates"], after_step=["rejuvenate_weights"])
    return [loss, model.fc1.weight.abs().mean().item(), (model.fc1.weight.abs() < 1e-4).float().mean().item()]


def drifting_rates():
    model = BioConverter(
        fuzzy_lr_distribution=Distribution.TEMPORAL, fuzzy_lr_dynamic=True, fuzzy_lr_update_freq=1, fuzzy_lr_decay=0.9
    )(Cnn())
    loss = fit(model, steps=12, after_backward=["fuzzy_learning_rates"], after_step=["update_fuzzy_learning_rates"])
    return [loss, model.conv.bio_mod.fuzzy_learning_rate_parameters.std().item()]


def rates_by_activity():
    config = BioConfig(fuzzy_lr_distribution=Distribution.ACTIVITY, fuzzy_lr_dynamic=True)
    model = BioConverter(config)(Net())
    loss = fit(model, after_backward=["fuzzy_learning_rates"])
    return [loss, model.fc1.bio_mod.fuzzy_learning_rate_parameters.std().item(), mean_rate(model)]


def rates_by_weight():
    model = BioConverter(fuzzy_lr_distribution=Distribution.WEIGHT_ADAPTIVE)(Net())
    loss = fit(model, after_backward=["fuzzy_learning_rates"], after_step=["update_fuzzy_learning_rates"])
    return [loss, model.fc1.bio_mod.fuzzy_learning_rate_parameters.std().item()]


@BioConverter(apply_dales_principle=True, fuzzy_lr_distribution=Distribution.LOGNORMAL)
class Dalian(Net):
    def __init__(self):
        nn.Module.__init__(self)
        self.fc1 = nn.Linear(64, 16)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 10)


def dales_principle():
    model = Dalian()
    loss = fit(model, after_backward=["fuzzy_learning_rates"])
    for layer in (model.fc1, model.fc2, model.fc3):
        layer.bio_mod.enforce_dales_principle()
    zeros = (model.fc1.weight == 0).float().mean().item()
    return [loss, zeros, model.fc3.weight.sum().item(), model.fc1.bio_mod.l1_reg().item()]


LOOPS = {
    "deterministic": [
        baseline_crystallizing,
        converted_class,
        updated_configuration,
        several_synapses,
        nested_several_synapses,
        marked_read_out,
        one_layer_by_hand,
    ],
    "random": [
        uniform_rates,
        volume_and_crystallization,
        rejuvenation,
        drifting_rates,
        rates_by_activity,
        rates_by_weight,
        dales_principle,
    ],
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    repeats, first = int(sys.argv[1]), int(sys.argv[2])
    results = {}
    for kind, loops in LOOPS.items():
        for loop in loops:
            seeds = range(2) if kind == "deterministic" else range(first, first + repeats)
            results[loop.__name__] = []
            for seed in seeds:
                torch.manual_seed(seed)
                random.seed(seed)
                results[loop.__name__].append(loop())
    print(json.dumps(results))
