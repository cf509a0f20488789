"""The drop-in against the installed release 0.0.5: the same programs, the same numbers."""

import json
import random
import subprocess
import sys
from contextlib import contextmanager
from unittest import mock

import bio_transformations
import pytest
import torch
from bio_transformations import bio_config as released_config
from places import DATA
from scipy.stats import ks_2samp
from torch import nn

import funcbio
from funcbio.compat import release
from funcbio.mechanisms import _rates as rates
from funcbio.mechanisms import (
    drift_rate,
    redraw_rate_by_activity,
    redraw_rate_by_weight,
    regrow_release,
    scale_by_volume,
)

CLAMP = {"minimum": 0.5, "maximum": 2.0}
ALPHA = 1e-3  # Chance that any of the two-sample tests fails although all distributions agree; seeds are fixed.


def python(*arguments, check=True):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=check)


# The alias


def test_after_install_the_release_s_names_are_ours():
    code = (
        "import funcbio; funcbio.compat.install(); funcbio.compat.install(); "
        "import bio_transformations; from bio_transformations import BioConverter, BioModule, BioConfig; "
        "from bio_transformations.bio_config import BioConfig as Config, DEFAULT_BIO_CONFIG, Distribution; "
        "from bio_transformations.bio_module import BioModule as M; "
        "from bio_transformations.bio_converter import BioConverter as C; "
        "print(issubclass(C, funcbio.BioConverter), issubclass(M, funcbio.BioModule), Config is BioConfig, C is "
        "BioConverter, Distribution is funcbio.Distribution, DEFAULT_BIO_CONFIG == BioConfig(), "
        "bio_transformations.__version__, Config().rejuvenation_variant)"
    )
    assert python("-c", code).stdout.split() == ["True"] * 6 + ["0.0.5"] * 2


def test_install_refuses_when_the_real_package_is_there():
    code = "import bio_transformations, funcbio.compat; funcbio.compat.install()"
    done = python("-c", code, check=False)
    assert done.returncode == 1
    assert "RuntimeError: funcbio.compat.install() should be called before bio_transformations is" in done.stderr


PROGRAM = """
import sys, pickle, helper, bio_transformations
class Thing: pass
pickle.loads(pickle.dumps(Thing()))
assert __name__ == "__main__"
print(sys.argv, sys.path[0], helper.value, bio_transformations.BioConverter.__module__)
sys.exit(3)
"""


def test_the_command_line_runs_scripts_and_modules_as_python_does(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "helper.py").write_text("value = 7")
    command = [sys.executable, "-m", "funcbio.compat"]
    script = [*command, tmp_path / "program.py", "-m", "--epochs", "3"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    expected = f"{[str(tmp_path / 'program.py'), '-m', '--epochs', '3']} {tmp_path} 7 funcbio.compat.release\n"
    assert (done.returncode, done.stdout) == (3, expected), done.stderr
    module = [*command, "-m", "program", "-x"]
    done = subprocess.run(module, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, expected.replace("'-m', '--epochs', '3'", "'-x'")), done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a script or -m module should be given; found neither" in done.stderr


# Whole programs

DETERMINISTIC = 7


def run_loops(seeds):
    """Runs the same program under the release and under the drop-in, on seeds of their own."""
    loops = DATA / "release_loops.py"
    theirs = json.loads(python(loops, seeds, 0).stdout)
    ours = json.loads(python("-m", "funcbio.compat", loops, seeds, 1000).stdout)
    assert list(theirs) == list(ours)
    return theirs, ours


@pytest.mark.parametrize("seeds", [20, pytest.param(150, marks=pytest.mark.slow)])
def test_training_loops_of_the_release_run_unmodified_with_the_same_results(seeds):
    theirs, ours = run_loops(seeds)
    names = list(theirs)
    for name in names[:DETERMINISTIC]:
        torch.testing.assert_close(torch.tensor(ours[name]), torch.tensor(theirs[name]), rtol=1e-5, atol=1e-6)
    samples = [
        (name, *pair)
        for name in names[DETERMINISTIC:]
        for pair in zip(zip(*theirs[name], strict=True), zip(*ours[name], strict=True), strict=True)
    ]
    assert len(samples) == 19
    for name, first, second in samples:
        assert ks_2samp(first, second).pvalue > ALPHA / len(samples), name


# Rule by rule, with the release's own draws


@contextmanager
def recorded(name):
    """Notes arguments and results of a function of torch, or of Python's random.random."""
    calls = []
    owner = random if name == "random" else torch
    real = getattr(owner, name)

    def spy(*args, **kwargs):
        result = real(*args, **kwargs)
        calls.append((args, result.clone() if isinstance(result, torch.Tensor) else result))
        return result

    with mock.patch.object(owner, name, spy):
        yield calls


def make(kind):
    torch.manual_seed(1)
    if kind == "linear":
        return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4)
    )


SHAPES = {"linear": (5, 12), "conv": (5, 2, 5, 5)}
DISTRIBUTIONS = [d.value for d in released_config.Distribution]


def pair(kind, **options):
    """The same model converted by both, with the same weights, rates and signs, and gradients."""
    if "fuzzy_lr_distribution" in options:
        member = released_config.Distribution(options["fuzzy_lr_distribution"])
        theirs = bio_transformations.BioConverter(**{**options, "fuzzy_lr_distribution": member})(make(kind))
    else:
        theirs = bio_transformations.BioConverter(**options)(make(kind))
    ours = release.BioConverter(**options)(make(kind))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(2))
    outputs = []
    for model in (theirs, ours):
        model.zero_grad()
        outputs.append(model(x))
        outputs[-1].square().sum().backward()
    return theirs, ours, outputs


def bios(model):
    return [(m, m.bio_mod) for m in model.modules() if "bio_mod" in m._modules]


def assert_same(theirs, ours):
    for (layer, bio), (other, their_bio) in zip(bios(ours), bios(theirs), strict=True):
        torch.testing.assert_close(layer.weight, other.weight)
        torch.testing.assert_close(layer.weight.grad, other.weight.grad)
        rate = their_bio.fuzzy_learning_rate_parameters
        torch.testing.assert_close(bio.fuzzy_learning_rate_parameters, rate.detach())


every_option = [
    pytest.mark.parametrize("kind", SHAPES),
    pytest.mark.parametrize("distribution", DISTRIBUTIONS),
    pytest.mark.parametrize("dynamic", [False, True]),
    pytest.mark.parametrize("dale", [False, True]),
    pytest.mark.parametrize("gamma", [0, 2]),
]


def product(test):
    for mark in every_option:
        test = mark(test)
    return test


@pytest.mark.filterwarnings("ignore:update_fuzzy_learning_rates should have rates that move:funcbio.IdleWarning")
@pytest.mark.sampled(3)
@product
def test_everything_deterministic_agrees_over_the_product_of_options(kind, distribution, dynamic, dale, gamma):
    options = {
        "fuzzy_lr_distribution": distribution,
        "fuzzy_lr_dynamic": dynamic and distribution != "activity",  # Its forward pass draws: see below.
        "apply_dales_principle": dale,
        "weight_splitting_Gamma": gamma,
        "crystal_thresh": 0.05,
        "fuzzy_lr_update_freq": 1,
    }
    theirs, ours, outputs = pair(kind, **options)
    torch.testing.assert_close(outputs[1], outputs[0])
    for _ in range(3):
        for model in (theirs, ours):
            model.fuzzy_learning_rates()
            model.crystallize()
            if distribution != "weight_adaptive":  # Its first update draws: see below.
                model.update_fuzzy_learning_rates()
        assert_same(theirs, ours)
        for model in (theirs, ours):
            torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5).step()
            if dale:
                for _, bio in bios(model):
                    bio.enforce_dales_principle()
        assert_same(theirs, ours)
    for (_, bio), (_, other) in zip(bios(ours), bios(theirs), strict=True):
        torch.testing.assert_close(bio.l1_reg(), other.l1_reg())


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("options", [{}, {"base_lr": 0.7, "stability_factor": 0.5, "lr_variability": 1.5}])
def test_volume_dependence_agrees_on_the_same_noise(kind, options):
    theirs, _, _ = pair(kind, **options)
    hyper = {"base_lr": 0.1, "stability_factor": 2.0, "lr_variability": 0.2, **options}
    for layer, bio in bios(theirs):
        grad = layer.weight.grad.clone()
        with recorded("normal") as calls:
            bio.volume_dependent_lr()
        ((mean, std), factor) = calls[0]
        expected = scale_by_volume(
            grad,
            layer.weight,
            (factor - mean) / std,
            base_lr=hyper["base_lr"],
            stability=hyper["stability_factor"],
            variability=hyper["lr_variability"],
        )
        torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("strength", [1.0, 8.0, 40.0])
@pytest.mark.parametrize("shift", [0.0, 0.3, -0.3, "nan", "large"])
def test_rejuvenation_agrees_on_the_same_noise(kind, strength, shift):
    theirs, _, _ = pair(kind, rejuvenation_parameter_dre=strength)
    for layer, bio in bios(theirs):
        with torch.no_grad():
            if shift == "nan":
                layer.weight.view(-1)[3] = float("nan")
            else:
                layer.weight.mul_(50.0) if shift == "large" else layer.weight.add_(shift)
        before = layer.weight.detach().clone()
        with recorded("normal") as normals, recorded("bernoulli") as coins:
            bio.rejuvenate_weights()
        ((mean, std), logarithm), (_, tossed) = normals[0], coins[0]
        unit = torch.where(tossed.bool(), 0.0, 1.0)
        weight, replaced = regrow_release(before, unit, (logarithm - mean) / std, strength=strength)
        # Single precision of the logarithm, whose magnitude is up to 20, is the accuracy of its exponential.
        torch.testing.assert_close(weight, layer.weight.detach(), rtol=2e-4, atol=1e-7)
        assert torch.equal(replaced, tossed.bool() | before.isnan())


@pytest.mark.parametrize("distribution", ["uniform", "normal", "lognormal", "layer_adaptive", "temporal"])
@pytest.mark.parametrize("nu", [0.16, 0.9])
def test_rates_agree_on_the_same_draws(distribution, nu):
    member = released_config.Distribution(distribution)
    config = released_config.BioConfig(fuzzy_lr_distribution=member, fuzzy_learning_rate_factor_nu=nu)
    layer = nn.Linear(30, 20)
    with recorded("rand_like") as units, recorded("normal") as normals:
        theirs = bio_transformations.BioModule(lambda: layer, config).fuzzy_learning_rate_parameters.detach()
    unit = units[0][1] if units else None
    noise = (normals[0][1] - normals[0][0][0]) / normals[0][0][1] if normals else None
    with (
        mock.patch.object(rates._Layer, "uniform", return_value=unit),
        mock.patch.object(rates._Layer, "normal", return_value=noise),
    ):
        ours = funcbio.sample_rates(
            funcbio.key(0), layer.weight, distribution=distribution, nu=nu, depth=0.5, variant="0.0.5"
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("nu", [0.16, 0.5])
def test_rates_agree_in_distribution(distribution, nu):
    member = released_config.Distribution(distribution)
    config = released_config.BioConfig(fuzzy_lr_distribution=member, fuzzy_learning_rate_factor_nu=nu)
    layer = nn.Linear(200, 100)
    theirs = bio_transformations.BioModule(lambda: layer, config).fuzzy_learning_rate_parameters.detach()
    ours = funcbio.sample_rates(funcbio.key(7), layer.weight, distribution=distribution, nu=nu, variant="0.0.5")
    assert ks_2samp(theirs.flatten().numpy(), ours.detach().flatten().numpy()).pvalue > ALPHA / 20


def test_the_drift_of_temporal_rates_agrees_on_the_same_draws():
    config = released_config.BioConfig(
        fuzzy_lr_distribution=released_config.Distribution.TEMPORAL,
        fuzzy_lr_dynamic=True,
        fuzzy_lr_update_freq=2,
        fuzzy_lr_decay=0.9,
    )
    layer = nn.Linear(6, 5)
    bio = bio_transformations.BioModule(lambda: layer, config)
    rate = bio.fuzzy_learning_rate_parameters.detach().clone()
    for number in range(1, 41):
        with recorded("rand_like") as units:
            bio.update_fuzzy_learning_rates()
        assert bool(units) == (number % 20 == 0)
        unit = units[0][1] if units else torch.zeros(5, 6)
        rate = drift_rate(rate, unit, nu=0.16, decay=0.9, every=2, **CLAMP, statistics=(torch.tensor(number),))
        torch.testing.assert_close(rate, bio.fuzzy_learning_rate_parameters.detach())


@pytest.mark.parametrize("dynamic", [False, True])
def test_weight_adaptive_rates_agree_on_the_same_draws(dynamic):
    member = released_config.Distribution.WEIGHT_ADAPTIVE
    config = released_config.BioConfig(fuzzy_lr_distribution=member, fuzzy_lr_dynamic=dynamic)
    layer = nn.Linear(6, 5)
    bio = bio_transformations.BioModule(lambda: layer, config)
    ours = release.BioModule(
        layer, release.BioConfig(fuzzy_lr_distribution="weight_adaptive", fuzzy_lr_dynamic=dynamic)
    )
    assert ours.moves() is not dynamic
    for number in range(1, 4):
        before = bio.fuzzy_learning_rate_parameters.detach().clone()
        with recorded("rand_like") as units:
            bio.update_fuzzy_learning_rates()
        unit = units[0][1] if units else torch.full((5, 6), 0.5)
        if dynamic:
            expected = before
        else:
            statistics = layer.weight.abs().mean(), torch.tensor(number == 1)
            expected = redraw_rate_by_weight(before, layer.weight, unit, nu=0.16, **CLAMP, statistics=statistics)
        torch.testing.assert_close(expected.detach(), bio.fuzzy_learning_rate_parameters.detach())


@pytest.mark.parametrize("kind", SHAPES)
def test_rates_by_activity_agree_on_the_same_draws(kind):
    layer = nn.Linear(12, 8) if kind == "linear" else nn.Conv2d(2, 4, 3)
    config = released_config.BioConfig(
        fuzzy_lr_distribution=released_config.Distribution.ACTIVITY, fuzzy_lr_dynamic=True
    )
    bio = bio_transformations.BioModule(lambda: layer, config)
    random.seed(0)
    redrawn = 0
    for number in range(1, 60):
        before = bio.fuzzy_learning_rate_parameters.detach().clone()
        with recorded("rand_like") as units, recorded("random") as coins:
            bio.update_fuzzy_learning_rates(torch.randn(SHAPES[kind]))
        unit = torch.stack([result for _, result in units]) if units else torch.zeros_like(before)
        coin = torch.tensor(coins[0][1] if coins else 0.0)
        laid_out = [-1] + [1] * (before.ndim - 1)
        statistics = bio.activation_count.float().mean(), torch.tensor(number)
        expected = redraw_rate_by_activity(
            before, bio.activation_count.reshape(laid_out), unit, coin, nu=0.16, **CLAMP, statistics=statistics
        )
        redrawn += bool(units)
        torch.testing.assert_close(expected.clamp(0.5, 2.0), bio.fuzzy_learning_rate_parameters.detach())
    assert redrawn > 1


@pytest.mark.parametrize("kind", SHAPES)
def test_the_drop_in_counts_and_redraws_at_every_forward_pass(kind):
    options = {"fuzzy_lr_distribution": "activity", "fuzzy_lr_dynamic": True}
    theirs, ours, _ = pair(kind, **options)
    for (_, bio), (_, other) in zip(bios(ours), bios(theirs), strict=True):
        # The state was loaded before the only forward pass.
        torch.testing.assert_close(bio.activation_count.float(), other.activation_count, rtol=0, atol=1)
        assert bio.updates == 1
        assert bio.fuzzy_learning_rate_parameters.std() > 0


@pytest.mark.parametrize("kind", SHAPES)
def test_signs_have_the_shape_and_the_reach_of_the_release_s(kind):
    theirs, _, _ = pair(kind, apply_dales_principle=True)
    ours = release.BioConverter(apply_dales_principle=True)(make(kind))
    for (layer, bio), (other, their_bio) in zip(bios(ours), bios(theirs), strict=True):
        assert bio.sign.shape == their_bio.sign.shape
        assert set(bio.sign.unique().tolist()) <= {-1.0, 1.0}
        assert (layer.weight * bio.sign >= 0).all()
        assert (other.weight * their_bio.sign >= 0).all()
