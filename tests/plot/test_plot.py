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
