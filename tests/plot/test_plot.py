"""Figures: what they hold, by their artists; how they look is checked by eye."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import run_doctest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import funcbio
from funcbio import BioState, metrics, plot
from funcbio._seeds import intervals
from funcbio.plot._canvas import PALETTE
from funcbio.plot._ends import spread


def history(layers=2, steps=3, **entries):
    names = [f"{layer}.weight" for layer in range(layers)] + ["all"]
    entries = entries or {"replaced": 0.1, "age_mean": 4.0}
    at = lambda step: {entry: torch.tensor(value * step) for entry, value in entries.items()}
    return [{name: at(step) for name in names} for step in range(1, steps + 1)]


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("name", plot.__all__)
def test_examples_run(name):
    assert run_doctest(name, getattr(plot, name)) > 0


def test_ends_are_spread():
    assert run_doctest("spread", spread) > 0
    places = spread([0.1, 0.1, 0.2, 0.95, 0.99], 0.06)
    assert min(np.diff(places)) >= 0.06 - 1e-12
    assert max(places) <= 1.0


def test_importing_the_library_and_drawing_set_nothing_up_globally():
    code = (
        "import sys, funcbio, torch; assert 'matplotlib' not in sys.modules; "
        "funcbio.plot.rate_histograms([torch.ones(3)]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot.rate_histograms([torch.rand(5), torch.rand(5)]),
        lambda: plot.rate_histograms([torch.ones(5)], steps=[7]),  # All in one bin at a single step.
        lambda: plot.turnover(history()),
        lambda: plot.turnover(history(layers=20)),
        lambda: plot.connection_map(torch.zeros(3, 4)),
        lambda: plot.connection_map(torch.ones(3, 4, 2, dtype=torch.bool), torch.zeros(3, 4, 2)),
        lambda: plot.crystallization_map(torch.zeros(3, 4)),
        lambda: plot.crystallization_map(torch.ones(3, 4, 2, 2, dtype=torch.bfloat16)),
        lambda: plot.learning_curves({"one": [1.0, 0.5]}),
        lambda: plot.learning_curves({"nothing": [math.nan, math.nan]}),
        lambda: plot.distributions({"one": torch.ones(3)}),
        lambda: plot.distributions({str(name): torch.rand(9) for name in range(7)}, panels=True, xlabel="rate"),
        lambda: plot.factors(torch.rand(3, 4), torch.rand(3, 4)),
        lambda: plot.factors(torch.rand(5000), {"one": torch.rand(5000), "other": -torch.rand(5000)}),
        lambda: plot.turnover_by_size(torch.randn(8, 8), torch.zeros(8, 8), chance=lambda size: size),
        lambda: plot.turnover_by_size(torch.randn(3, 3, dtype=torch.bfloat16), torch.ones(3, 3, dtype=torch.bool)),
        lambda: plot.outcomes({"one": [1.0], "other": [1.0]}),
        lambda: plot.outcomes({"one": torch.rand(9)}, step=0.1),
        lambda: plot.traces({"one": [1.0], "other": [2.0]}),
        lambda: plot.weight_maps({"one": torch.zeros(3, 4)}),
        lambda: plot.weight_maps({"one": torch.randn(3, 4, 2), "other": torch.randn(2, 5)}, largest=1.0),
    ],
)
def test_every_function_gives_a_figure_that_can_be_saved(draw, tmp_path):
    figure = draw()
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png")
    assert figure._repr_png_()[:4] == (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_histograms_hold_the_shares_of_every_step():
    rates = [{"w": w, "b": torch.ones(())} for w in (torch.tensor([[0.05, 1.0], [1.0, 2.0]]), torch.ones(2, 2))]
    axes = plot.rate_histograms(rates, steps=[0, 50], bins=20).axes[0]
    mesh = axes.collections[0]
    shares = mesh.get_array().filled(0.0)
    assert shares.shape == (20, 2)
    assert shares.sum(0) == pytest.approx([1.0, 1.0])
    assert sorted(shares[:, 0])[-2:] == [0.25, 0.5]
    assert shares[:, 1].max() == 1.0
    corners = mesh.get_coordinates()
    assert corners[0, :, 0].tolist() == [-25.0, 25.0, 75.0]
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert lines["median"] == [1.0, 1.0]
    assert lines["95 % of rates below"] == pytest.approx([np.quantile([0.05, 1.0, 1.0, 2.0], 0.95), 1.0])
    assert set(texts(axes)) == set(lines)


def test_turnover_draws_every_layer_and_the_whole_model_on_top():
    figure = plot.turnover(history(), steps=[0, 10, 20])
    replaced, age = figure.axes
    assert [line.get_label() for line in replaced.lines] == ["0.weight", "1.weight", "all"]
    for line in replaced.lines:
        assert line.get_xdata().tolist() == [0, 10, 20]
        assert line.get_ydata() == pytest.approx([10.0, 20.0, 30.0])
    assert age.lines[0].get_ydata() == pytest.approx([4.0, 8.0, 12.0])
    assert set(texts(age)) == {"0.weight", "1.weight", "whole model"}
    assert [to_hex(line.get_color()).upper() for line in age.lines] == [*PALETTE[:2], "#000000"]
    assert max(age.lines, key=lambda line: line.get_zorder() + line.get_linewidth()).get_label() == "all"


def test_turnover_draws_what_there_is():
    assert [axes.get_ylabel() for axes in plot.turnover(history(replaced=0.1)).axes] == ["weights replaced, %"]
    assert [axes.get_ylabel() for axes in plot.turnover(history(age_mean=1.0)).axes] == ["mean age, steps"]
    many = plot.turnover(history(layers=20)).axes[0]
    assert texts(many) == ["whole model"]
    assert many.get_title(loc="left") == "gray: each of 20 layers"


def test_turnover_takes_what_metrics_gives():
    rate, mask = {"w": torch.ones(2, 2)}, {"w": torch.tensor([[True, False], [False, False]])}
    found = metrics(rate, (), BioState(rate=rate, replaced=mask))
    assert plot.turnover([found]).axes[0].lines[-1].get_ydata() == pytest.approx([25.0])


def test_the_map_shows_crystallized_weights_in_their_own_colour():
    rate = torch.tensor([[0.1, 1.0, 0.5], [0.4999, 1.5, 2.0]])
    axes, bar = plot.crystallization_map(rate, title="fc1").axes
    image = axes.images[0]
    assert np.array_equal(image.get_array(), rate.double().numpy())
    colors = image.cmap(image.norm(image.get_array()))
    marked = np.array([[to_hex(color).upper() == PALETTE[1] for color in row] for row in colors])
    assert marked.tolist() == [[True, False, False], [True, False, False]]
    assert axes.get_title(loc="left") == "fc1: 33.3 % of 6 weights crystallized"
    assert texts(bar) == ["under 0.5:\ncrystallized"]


def test_the_map_lays_kernels_side_by_side():
    rate = torch.rand(3, 2, 5, 5) + 0.5
    axes = plot.crystallization_map(rate).axes[0]
    assert axes.images[0].get_array().shape == (3, 50)
    assert axes.get_xlabel() == "pre-synaptic, by place in the kernel"


def test_curves_hold_means_and_intervals():
    torch.manual_seed(0)
    values = torch.rand(6, 4)
    axes = plot.learning_curves({"plain": values, "bio": values[0]}, steps=[1, 2, 5, 9], ylabel="loss").axes[0]
    mean, low, high = intervals(values.numpy())
    assert axes.lines[0].get_ydata() == pytest.approx(mean)
    corners = axes.collections[0].get_paths()[0].vertices
    for bound in (low, high):
        for step, value in zip([1, 2, 5, 9], bound, strict=True):
            assert np.isclose(corners, [step, value]).all(1).any()
    assert set(texts(axes)) == {"plain (6 seeds)", "bio (1 seed)"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss")


def test_curves_leave_out_what_is_not_finite():
    axes = plot.learning_curves({"a": [[1.0, 2.0], [3.0, math.inf]]}).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [2.0, 2.0]


def heights(container):
    """The heights of the bars of a histogram that is drawn as one polygon."""
    corners = container.get_xy()
    return corners[1 : len(corners) // 2 : 2, 1].tolist()


def test_distributions_share_their_bins():
    figure = plot.distributions({"low": [0.0, 0.1, 0.1], "high": [1.0]}, bins=2, xlabel="rate", ylabel="weights")
    (axes,) = figure.axes
    assert [heights(patch) for patch in axes.patches] == [[3.0, 0.0], [0.0, 1.0]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rate", "weights")
    panels = plot.distributions({"low": [0.0, 0.1, 0.1], "high": [1.0]}, bins=2, panels=True).axes
    assert [heights(axes.patches[0]) for axes in panels] == [[3.0, 0.0], [0.0, 1.0]]
    assert [axes.get_title() for axes in panels] == ["low", "high"]


def test_distributions_leave_out_what_is_beyond_the_limits():
    axes = plot.distributions({"all": torch.tensor([[-9.0, 0.2], [0.7, 9.0]])}, limits=(0.0, 1.0), bins=2).axes[0]
    assert heights(axes.patches[0]) == [1.0, 1.0]


def test_factors_are_points_over_what_they_depend_on():
    weight = torch.tensor([[-1.0, 2.0], [0.5, 0.0]])
    axes = plot.factors(weight, {"one": 1 / (1 + weight.abs()), "other": weight}).axes[0]
    for points, expected in zip(axes.collections, (1 / (1 + weight.abs()), weight), strict=True):
        assert points.get_offsets().data == pytest.approx(
            torch.stack([weight.flatten(), expected.flatten()], 1).numpy()
        )
    assert axes.get_ylim()[0] < -1.0
    assert plot.factors(weight, weight.abs() + 1).axes[0].get_ylim()[0] == 0.0


def test_turnover_by_size_counts_each_bin():
    weight = torch.tensor([0.1, -0.1, 0.3, -0.3, 5.0])
    size = 0.2 / weight.std().item()  # Half way between the two small sizes.
    axes = plot.turnover_by_size(
        weight, torch.tensor([1, 0, 0, 0, 1]), chance=lambda at: 0 * at + 0.25, largest=2 * size, bins=2
    ).axes[0]
    law, share = axes.lines
    assert law.get_ydata().tolist() == [25.0, 25.0]
    assert share.get_ydata().tolist() == [50.0, 0.0]
    assert share.get_xdata() == pytest.approx([size / 2, 3 * size / 2])
    sparse = plot.turnover_by_size(weight, weight > 0, largest=9.0, bins=90).axes[0].lines[0]
    assert len(sparse.get_xdata()) == 3


def test_outcomes_give_every_possible_number_a_bin():
    axes = plot.outcomes({"plain": [0.25, 0.5, 0.5], "bio": [1.0]}, step=0.25, xlabel="accuracy").axes[0]
    bars = [[patch.get_height() for patch in container] for container in axes.containers]
    assert bars == [[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    assert [line.get_xdata()[0] for line in axes.lines] == pytest.approx([1.25 / 3, 1.0])
    deviation = np.std([0.25, 0.5, 0.5], ddof=1)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"plain: 0.42 ± {deviation:.2f}", "bio: 1.00 ± 0.00"]


def test_traces_have_a_panel_each():
    panels = plot.traces({"fade": torch.tensor([0.5, 0.25]), "gain": [1, 2]}, steps=[3, 7], xlabel="meta-step").axes
    assert [axes.lines[0].get_ydata().tolist() for axes in panels] == [[0.5, 0.25], [1.0, 2.0]]
    assert all(axes.lines[0].get_xdata().tolist() == [3, 7] for axes in panels)
    assert {axes.get_xlabel() for axes in panels} == {"meta-step"}


def test_maps_of_weights_share_their_colours():
    small, large = torch.tensor([[0.5, -0.5]]), torch.tensor([[[1.0, 0.0], [0.0, -2.0]]])
    first, second, bar = plot.weight_maps({"small": small, "large": large}).axes
    assert first.images[0].get_array().tolist() == [[0.5, -0.5]]
    assert second.images[0].get_array().tolist() == [[1.0, 0.0, 0.0, -2.0]]
    assert first.images[0].get_clim() == second.images[0].get_clim() == (-2.0, 2.0)
    assert plot.weight_maps({"small": small}, largest=0.1).axes[0].images[0].get_clim() == (-0.1, 0.1)
    assert bar.get_ylabel() == "weight"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.rate_histograms([]), "rates should be a sequence of trees"),
        (lambda: plot.rate_histograms([{"b": torch.ones(())}]), "rates should be one or more finite numbers"),
        (lambda: plot.rate_histograms([torch.tensor([1.0, math.nan])]), "rates should be one or more finite numbers"),
        (lambda: plot.rate_histograms([torch.tensor([-1.0])]), "rates should be one or more finite numbers"),
        (lambda: plot.rate_histograms([torch.ones(2)], bins=0), "bins should be an integer of 1 or more; found 0"),
        (lambda: plot.rate_histograms([torch.ones(2)] * 2, steps=[5, 5]), "steps should be 2 rising numbers"),
        (lambda: plot.turnover([]), "history should be a sequence of what funcbio.metrics returns"),
        (lambda: plot.turnover({"all": {}}), "history should be a sequence of what funcbio.metrics returns"),
        (lambda: plot.turnover(history(rate_mean=1.0)), "'age_mean' of the whole model; found .'rate_mean'"),
        (lambda: plot.turnover(history(), steps=[0]), "steps should be 3 rising numbers"),
        (lambda: plot.crystallization_map(torch.ones(3)), "rate should be a tensor of rate factors"),
        (lambda: plot.crystallization_map([[1.0]]), "rate should be a tensor of rate factors"),
        (lambda: plot.crystallization_map(torch.ones(2, 2), below=0.0), "below should be a number over 0; found 0.0"),
        (lambda: plot.learning_curves({}), "curves should be a mapping with at least one curve"),
        (lambda: plot.learning_curves({"a": [1.0], "b": [1.0, 2.0]}), r"'b'. should be of shape .seeds, 1., as the "),
        (lambda: plot.learning_curves({"a": 1.0}), "'a'. should be numbers of shape"),
        (lambda: plot.learning_curves({"a": [[1.0], [1.0, 2.0]]}), "'a'. should be a tensor, array or list of numbers"),
        (lambda: plot.distributions([1.0]), "values should be a mapping of names to numbers; found"),
        (lambda: plot.distributions({}), "values should be a mapping of names to numbers; found"),
        (lambda: plot.distributions({"a": []}), "'a'. should be one or more finite numbers; found"),
        (lambda: plot.distributions({"a": [math.nan]}), "'a'. should be one or more finite numbers; found"),
        (lambda: plot.distributions({"a": [1.0]}, bins=0), "bins should be an integer of 1 or more; found 0"),
        (lambda: plot.distributions({"a": [1.0]}, limits=(1, 0)), "limits should be two rising numbers"),
        (lambda: plot.factors([1.0, 2.0], [1.0]), "'values'. should be 2 factors, one for each of by; found 1"),
        (lambda: plot.factors([1.0], {"a": [math.inf]}), "'a'. should be one or more finite numbers; found"),
        (lambda: plot.factors([1.0], "a"), "values should be a tensor, array or list of numbers; found 'a'"),
        (lambda: plot.turnover_by_size(torch.ones(4), torch.ones(4)), "weight should be a tensor of weights that"),
        (lambda: plot.turnover_by_size([1.0], torch.ones(1)), "weight should be a tensor of weights that"),
        (lambda: plot.turnover_by_size(torch.rand(4), torch.ones(2, 2)), "replaced should be a mask of shape .4,."),
        (lambda: plot.turnover_by_size(torch.rand(4), torch.ones(4), largest=0), "largest should be a number over 0"),
        (lambda: plot.turnover_by_size(torch.rand(4), torch.ones(4), bins=0.5), "bins should be an integer of 1 or"),
        (lambda: plot.outcomes({"a": [1.0]}, step=0), "step should be a number over 0, or None; found 0"),
        (lambda: plot.outcomes({"a": ["x"]}), "'a'. should be a tensor, array or list of numbers"),
        (lambda: plot.traces({"a": [1.0], "b": [1.0, 2.0]}), "'b'. should be 1 numbers, as many as the first; found 2"),
        (lambda: plot.traces({"a": [1.0, 2.0]}, steps=[1, 1]), "steps should be 2 rising numbers"),
        (lambda: plot.weight_maps({}), "weights should be a mapping of names to weights"),
        (lambda: plot.weight_maps({"a": torch.ones(3)}), "'a'. should be a tensor of weights, of two dimensions"),
        (lambda: plot.weight_maps({"a": torch.ones(3, 2)}, largest=-1.0), "largest should be a number over 0, or None"),
    ],
)
def test_bad_input_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_a_missing_package_gives_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"matplotlib should be installed, by pip install '\.\[monitor\]'"):
        funcbio.plot.learning_curves({"a": [1.0]})


def test_connections_show_what_was_dropped_and_grown():
    before, mask = torch.tensor([[1, 1, 0], [0, 1, 0]]).bool(), torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    axes = plot.connection_map(mask, before).axes[0]
    assert axes.images[0].get_array().tolist() == [[1, 2, 0], [3, 1, 0]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["stays", "dropped", "grown"]
    assert axes.get_title(loc="left") == "50.0 % of 6 connections exist, 1 dropped, 1 grown"
    assert plot.connection_map(mask).axes[0].get_title(loc="left") == "50.0 % of 6 connections exist"
    with pytest.raises(ValueError, match="before should be a mask of two dimensions or more"):
        plot.connection_map(mask, before[:1])
    with pytest.raises(ValueError, match="mask should be a mask of two dimensions or more"):
        plot.connection_map(torch.ones(3))
