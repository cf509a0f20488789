"""The documented tutorial, block by block, as a reader would run it, and what its comments claim."""

import re

import pytest
import torch
from places import DATA
from torch import nn

from funcbio import BioConfig, BioConverter, Distribution, IdleWarning

TEXT = (DATA / "tutorials.rst").read_text().replace("bio_transformations", "funcbio")
ERRORS = {
    "bio_model.fuzzy_learning_rates()  # Error!": (RuntimeError, "No gradients found for the weights"),
    "bio_model = converter(model)  # Error!": (ValueError, "must evenly divide the number of features"),
    "bio_model.enforce_dales_principle()  # Error!": (
        AttributeError,
        "Can not enforce dales principle without apply_dales_principle set True",
    ),
}


def blocks():
    """The code blocks of the document: the indented lines after each directive."""
    found = []
    for part in TEXT.split(".. code-block:: python\n")[1:]:
        lines = []
        for line in part.splitlines():
            if line and not line.startswith("   "):
                break
            lines.append(line[3:])
        found.append("\n".join(lines))
    return found


def run(block, names):
    """Runs a block in the reader's session; a line marked as an error must raise the documented one."""
    code = ""
    for line in block.splitlines():
        if "# Error!" not in line:
            code += line + "\n"
            continue
        exec(code, names)
        error, message = next(error for marked, error in ERRORS.items() if line.startswith(marked.split("  #")[0]))
        with pytest.raises(error, match=message):
            exec(line, names)
        code = ""
    exec(code, names)


@pytest.mark.filterwarnings("ignore:volume_dependent_lr, fuzzy_learning_rates should act on the update of Adam")
def test_every_block_runs_in_order(capsys):
    found = blocks()
    assert len(found) == 10
    # The two names that the document leaves to the reader.
    names = {"inputs": torch.randn(4, 10), "targets": torch.randn(4, 1)}
    marked = 0
    for block in found:
        run(block, names)
        marked += block.count("# Error!")
    assert marked == len(ERRORS)
    losses = [float(x) for x in re.findall(r"Loss: ([\d.]+)", capsys.readouterr().out)]
    assert len(losses) == 10


def layer_grads(bio_model):
    return [p.grad.clone() for p in bio_model.parameters()]


@pytest.fixture
def bio_model():
    model = BioConverter(weight_splitting_Gamma=2)(nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1)))
    model(torch.randn(8, 10)).square().sum().backward()
    return model


def test_a_converted_model_is_used_like_a_regular_one():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1))
    x = torch.randn(3, 10)
    before = plain(x)
    assert torch.equal(BioConverter()(plain)(x), before)


def test_nu_controls_the_diversity_in_learning_rates():
    spread = [BioConverter(fuzzy_learning_rate_factor_nu=nu)(nn.Linear(100, 100)) for nu in (0.05, 0.16, 0.4)]
    deviations = [float(m.bio_mod.fuzzy_learning_rate_parameters.std()) for m in spread]
    assert deviations == sorted(deviations)


def test_dampening_and_threshold_control_crystallization():
    def stability(**config):
        torch.manual_seed(0)
        model = BioConverter(fuzzy_lr_distribution="baseline", **config)(nn.Linear(50, 50))
        (1e-4 * model(torch.randn(4, 50))).sum().backward()
        model.crystallize()
        return float(model.l1_reg())

    assert stability(dampening_factor=0.3) < stability(dampening_factor=0.6)
    assert stability(crystal_thresh=1e-2) < stability(crystal_thresh=4.5e-5)


def test_dre_controls_the_rate_of_rejuvenation():
    replaced = []
    for dre in (2.0, 8.0, 32.0):
        model = BioConverter(rejuvenation_parameter_dre=dre)(nn.Linear(100, 100))
        replaced.append(int(model.rejuvenate_weights()["weight"].sum()))
    assert replaced == sorted(replaced, reverse=True)


def test_gamma_two_gives_two_synapses_per_connection_and_zero_disables(bio_model):
    hidden = bio_model[0](torch.randn(3, 10))
    assert torch.equal(hidden[:, ::2], hidden[:, 1::2])
    BioConverter(weight_splitting_Gamma=0)(bio_model)
    hidden = bio_model[0](torch.randn(3, 10))
    assert not torch.equal(hidden[:, ::2], hidden[:, 1::2])


def test_volume_adjusts_by_weight_size_and_fuzzy_diversifies(bio_model):
    before = layer_grads(bio_model)
    bio_model.volume_dependent_lr()
    scaled = layer_grads(bio_model)
    assert (scaled[0].abs() <= 0.3 * before[0].abs()).all()
    bio_model.fuzzy_learning_rates()
    ratio = layer_grads(bio_model)[0] / scaled[0]
    assert ratio[ratio.isfinite()].std() > 0.05
    assert torch.equal(layer_grads(bio_model)[1], before[1])  # Biases are no synapses.


def test_normal_has_nu_as_standard_deviation():
    config = BioConfig(fuzzy_lr_distribution=Distribution.NORMAL, fuzzy_learning_rate_factor_nu=0.1)
    rates = BioConverter(config)(nn.Linear(300, 300)).bio_mod.fuzzy_learning_rate_parameters
    assert abs(float(rates.std()) - 0.1) < 4.5 * 0.1 / (2 * 90_000) ** 0.5


def test_smaller_weights_get_more_variability_right_after_conversion():
    layer = nn.Linear(200, 200)
    config = BioConfig(fuzzy_lr_distribution=Distribution.WEIGHT_ADAPTIVE)
    rates = BioConverter(config)(layer).bio_mod.fuzzy_learning_rate_parameters
    small = layer.weight.abs() < layer.weight.abs().median()
    assert rates[small].std() > 1.2 * rates[~small].std()


def test_activity_must_be_dynamic_and_reads_the_last_forward_pass():
    config = BioConfig(fuzzy_lr_distribution=Distribution.ACTIVITY, fuzzy_lr_dynamic=True)
    model = BioConverter(config)(nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 1)))
    x = torch.randn(100, 10)
    active = (model[0](x).abs() > 0.01).sum(0)
    assert torch.equal(model[0].bio_mod.activation_count, active)
    model.update_fuzzy_learning_rates(x)
    assert torch.equal(model[0].bio_mod.activation_count, active)
    assert (model[0].bio_mod.fuzzy_learning_rate_parameters != 1).any()
    still = BioConverter(fuzzy_lr_distribution="activity")(nn.Linear(3, 3))
    still(torch.ones(1, 3))
    with pytest.warns(IdleWarning, match="found fuzzy_lr_dynamic=False"):
        still.update_fuzzy_learning_rates(torch.ones(1, 3))
    assert (still.bio_mod.fuzzy_learning_rate_parameters == 1).all()


def test_dale_makes_neurons_excitatory_or_inhibitory():
    model = BioConverter(apply_dales_principle=True)(nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 1)))
    model[0].weight.data += torch.randn(20, 10)
    model.enforce_dales_principle()
    outgoing = model[0].weight.T
    assert all((unit >= 0).all() or (unit <= 0).all() for unit in outgoing)


@pytest.mark.parametrize(("features", "gamma", "fits"), [(15, 2, False), (15, 3, True), (16, 2, True)])
def test_gamma_must_divide_the_number_of_features(features, gamma, fits):
    converter = BioConverter(weight_splitting_Gamma=gamma)
    if fits:
        assert converter(nn.Linear(10, features))(torch.ones(1, 10)).shape == (1, features)
    else:
        with pytest.raises(
            ValueError,
            match=rf"weight_splitting_Gamma \({gamma}\) must evenly divide .* \({features}\)",
        ):
            converter(nn.Linear(10, features))
