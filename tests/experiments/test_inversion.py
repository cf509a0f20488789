"""Gradient inversion: the attack finds the image, and only from that image's gradient; its leaks, metrics and files."""

import doctest
import json
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from places import DOCS
from torch import vmap

import funcbio
import funcbio.__main__ as program
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.inversion import attack, cells, figures, images, metrics, tables
from funcbio.experiments.inversion import run as command
from funcbio.experiments.inversion.nets import NETS
from funcbio.experiments.inversion.settings import Settings
from funcbio.experiments.inversion.victims import VICTIMS, Training

TINY = ["--seeds", "2", "--batches", "1,2", "--epochs", "0,1", "--iterations", "2", "--train-batch", "256"]


def nothing(*_):
    pass


@pytest.fixture(scope="module")
def data():
    return images.load("digits", "")


def trained(data, names, seeds=4, net="mlp", **options):
    settings = Settings(net=net, seeds=seeds, **{"epochs": "0", **options})
    keys = vmap(funcbio.key)(torch.arange(seeds))
    shape = NETS[net](data.shape, data.classes)
    runs = {name: Training(shape, VICTIMS[name], data, settings) for name in names}
    return {name: (run, run.run(keys, nothing)) for name, run in runs.items()}, keys


@pytest.mark.parametrize(("net", "iterations"), [("mlp", 150), ("conv", 300)])
def test_attack_recovers_the_image_of_an_untrained_plain_net_and_only_from_its_own_gradient(data, net, iterations):
    runs, keys = trained(data, ["plain"], net=net)
    aim = cells.aimed(data, keys, 1)
    chosen = [cells.Cell("plain", 0, cells.RAW), cells.Cell("plain", 0, cells.OTHER)]
    found = cells.attack(chosen, runs, aim, 1, nothing, iterations=iterations)
    (own, _), (other, _), (guess, _) = (*(cells.measured(one, aim) for one in found), cells.reference(aim))
    assert min(own["psnr"]) > metrics.RECOVERED
    assert own["recovered"] == [1.0] * 4
    assert max(other["psnr"]) < 20.0
    assert sum(other["psnr"]) < sum(guess["psnr"])  # Another image of the class tells less than the mean of the class.


def test_distance_and_total_variation_of_known_numbers():
    grads, leaked = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}, {"a": torch.ones(1), "b": torch.zeros(1, 1)}
    assert attack.distance(grads, leaked).item() == pytest.approx(0.4)  # The cosine of 3, 4 and 1, 0 is 0.6.
    assert attack.distance(grads, {name: 7.0 * g for name, g in grads.items()}).item() == pytest.approx(0.0, abs=1e-6)
    # Steps of 1 down, of 2 across.
    assert attack.total_variation(torch.tensor([[[[0.0, 2.0], [1.0, 3.0]]]])).item() == pytest.approx(3.0)


def test_an_attack_does_not_depend_on_those_beside_it(data, monkeypatch):
    runs, keys = trained(data, ["plain"], seeds=3)
    aim, (training, checkpoints) = cells.aimed(data, keys, 2), runs["plain"]
    params, box = checkpoints[0].params, (data.low, data.high)
    leaked = cells.leaked(cells.Cell("plain", 0, cells.RAW), training, checkpoints[0], aim)
    monkeypatch.setattr(attack, "AT_ONCE", 2)  # Two parts, of which the second repeats its last attack.
    run = partial(attack.invert, training.network, iterations=3)
    together = run(params, leaked, aim.labels, aim.starts(0), *box)
    one = [{name: leaf[1:2] for name, leaf in tree.items()} for tree in (params, leaked)]
    alone = run(*one, aim.labels[1:2], aim.starts(0)[1:2], *box)
    assert together.images.shape == (3, 2, 1, 8, 8)
    torch.testing.assert_close(together.images[1], alone.images[0])
    torch.testing.assert_close(together.objective[1], alone.objective[0])
    assert (together.images >= data.low).all()
    assert (together.images <= data.high).all()


def test_example_of_the_attack_runs():
    done = doctest.testmod(attack)
    assert done.failed == 0
    assert done.attempted > 0


def test_factors_scale_the_leak_of_synapses_and_are_undone_by_who_knows_them(data):
    runs, keys = trained(data, ["wide fuzzy"], seeds=2)
    aim, (training, checkpoints) = cells.aimed(data, keys, 2), runs["wide fuzzy"]
    raw, scaled, known = (
        cells.leaked(cells.Cell("wide fuzzy", 0, leak), training, checkpoints[0], aim)
        for leak in (cells.RAW, cells.SCALED, cells.UNDONE)
    )
    for name, rate in checkpoints[0].state.rate.items():
        factor = rate if rate.ndim > 1 else torch.ones(())  # Biases have no factors.
        torch.testing.assert_close(scaled[name], raw[name] * factor)
        torch.testing.assert_close(known[name], raw[name])
    spread = checkpoints[0].state.rate["fc1.weight"]
    assert spread.min() == 0.5
    assert spread.max() > 1.9


def test_a_split_network_computes_with_summed_weights(data):
    runs, _ = trained(data, ["split", "plain"], seeds=2)
    (split, checkpoints), (plain, _) = runs["split"], runs["plain"]
    params = {name: leaf[0] for name, leaf in checkpoints[0].params.items()}
    x = data.test_x[:5]
    torch.testing.assert_close(split.network(params, x), plain.network(split.bio.split_weights(params), x))
    assert not torch.allclose(split.network(params, x), plain.network(params, x))


def test_networks_start_alike_and_learn_each_in_its_own_way(data):
    runs, keys = trained(data, list(VICTIMS), seeds=2, epochs="0,1")
    weights = {
        name: [at.params["fc1.weight"] for at in checkpoints.values()] for name, (_, checkpoints) in runs.items()
    }
    assert all(torch.equal(start, weights["plain"][0]) for start, _ in weights.values())
    ends = [end for _, end in weights.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(ends) for b in ends[:i])
    alone = runs["all"][0].run(keys[1:], nothing)[1]
    torch.testing.assert_close(alone.params["fc1.weight"][0], ends[-1][1], rtol=1e-4, atol=1e-5)
    assert all(checkpoints[1].accuracy.min() > 0.5 for _, checkpoints in runs.values())


def test_images_are_matched_within_their_class_only():
    true = np.stack([np.full((1, 8, 8), value) for value in (0.1, 0.5, 0.9)])
    found = true[[1, 2, 0]]
    assert np.array_equal(metrics.matched(found, true, [3, 3, 3]), true)
    assert np.array_equal(metrics.matched(found, true, [3, 3, 4])[2], found[2])
    assert np.array_equal(metrics.matched(found, true, [1, 2, 3]), found)


def test_scores_of_known_images():
    true = torch.rand(2, 3, 8, 8).numpy() * 0.8
    same, off = metrics.scores(true, true), metrics.scores(true + 0.1, true)
    assert same == {"psnr": [60.0] * 2, "recovered": [1.0] * 2, "ssim": pytest.approx([1.0] * 2), "mse": [0.0] * 2}
    assert off["psnr"] == pytest.approx([20.0] * 2, abs=1e-4)
    assert off["mse"] == pytest.approx([0.01] * 2, abs=1e-6)
    assert off["recovered"] == [0.0] * 2
    assert max(off["ssim"]) < 1.0


def test_of_restarts_the_best_fit_is_kept():
    found = attack.Reconstructions(torch.arange(4.0).view(4, 1, 1, 1, 1), torch.tensor([0.3, 0.1, 0.2, 0.4]))
    assert cells.best(found, 2).flatten().tolist() == [2.0, 1.0]


def test_other_images_are_of_the_same_class_and_not_the_same(data):
    keys = vmap(funcbio.key)(torch.arange(3))
    places = images.chosen(data, keys, 8)
    other = images.others(data, keys, places)
    assert torch.equal(data.test_y[places], data.test_y[other])
    assert (places != other).all()
    assert torch.equal(images.chosen(data, keys, 2), places[:, :2])
    assert torch.equal(images.others(data, keys[1:], places[1:, :2]), other[1:, :2])


@pytest.mark.parametrize("net", list(NETS))
def test_images_of_other_sizes_and_colours_from_a_folder(monkeypatch, tmp_path, net):
    read = SimpleNamespace(images=torch.rand(40, 3, 10, 9), labels=torch.arange(40) % 4)
    loaded = lambda name, folder: read if (name, folder) == ("cifar10", str(tmp_path)) else None
    monkeypatch.setitem(sys.modules, "funcbio.experiments.datasets", SimpleNamespace(load=loaded))
    data = images.load("cifar10", str(tmp_path))
    assert (data.shape, data.classes, len(data.test_y)) == ((3, 10, 9), 4, 8)
    assert data.unit(data.train_x).aminmax() == (0.0, 1.0)
    runs, keys = trained(data, ["all"], seeds=2, net=net)
    aim = cells.aimed(data, keys, 2)
    found = cells.attack([cells.Cell("all", 0, cells.SCALED)], runs, aim, 2, nothing, iterations=2)
    scores, shown = cells.measured(found[0], aim)
    assert all(len(values) == 2 for values in scores.values())
    assert shown.shape == (2, 3, 10, 9)


def test_rows_have_means_over_images_and_differences_are_paired():
    row = {"victim": "plain", "epochs": 0, "leak": cells.RAW, "batch": 1}
    plain = row | {name: [10.0, 20.0, 30.0] for name in metrics.METRICS}
    same, lower = (plain | {"victim": name} for name in ("fuzzy", "split"))
    lower |= {"psnr": [9.0, 18.0, 27.0]}
    found = {(each["victim"], each["metric"]): each for each in tables.differences([plain, same, lower])}
    assert set(found) == {(name, metric) for name in ("fuzzy", "split") for metric in tables.COMPARED}
    assert found["fuzzy", "psnr"]["p"] == 1.0
    assert found["split", "psnr"]["mean"] == pytest.approx(-2.0)
    assert found["split", "psnr"]["p"] == pytest.approx(0.25)  # The least of three pairs: 2 / 2 ** 3.
    assert found["split", "psnr"]["p_corrected"] == pytest.approx(0.5)  # Of two tests.


def test_tiny_run_writes_files_goes_on_and_draws(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "new"
    assert program.main(["invert", *TINY, "--output", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    names = ["images.svg", "psnr.svg", "recovered.svg"]
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"inversion-{n}" for n in names),
        "inversion.json",
        "runs",
    ]
    first = (folder / "inversion.json").read_text()
    content = json.loads(first)
    rows = {(r["victim"], r["epochs"], r["leak"], r["batch"]): r for r in content["rows"]}
    assert len(rows) == len(content["rows"]) == 2 * (2 * 14 + 1)
    assert all(len(row[name]) == 2 for row in rows.values() for name in metrics.METRICS)
    assert rows["fuzzy", 0, cells.RAW, 2]["psnr"] == rows["plain", 0, cells.RAW, 2]["psnr"]  # The same start.
    assert content["versions"]["funcbio"] == funcbio.__version__
    mean = sum(rows["plain", 1, cells.RAW, 2]["psnr"]) / 2
    assert f" {mean:.1f} " in printed.out
    assert "(2 seeds: no interval)" in printed.out
    assert "nan" not in printed.out
    pictures = {path.name: path.read_bytes() for path in folder.glob("*.svg")}

    monkeypatch.setattr(command, "attack", None)  # Nothing is attacked again.
    assert program.main(["invert", *TINY, "--output", str(folder)]) == 0
    assert (folder / "inversion.json").read_text() == first
    assert program.main(["invert", "--draw", str(folder / "inversion.json"), "--output", str(tmp_path / "drawn")]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "drawn").iterdir()} == pictures
    with pytest.raises(SettingError, match="output should be a new folder"):
        command.run(Settings(seeds=3, iterations=2, output=str(folder), batches="1,2", epochs="0,1", train_batch=256))


def test_pictures_show_what_the_file_holds(data):
    grey = command._grey(data.unit(data.test_x[:2]))
    assert np.array_equal(figures._read(grey, [1, 8, 8]), (data.unit(data.test_x[:2]) * 255).round().numpy())


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--batches", "1,x"], "batches should be whole numbers with commas between; found '1,x'"),
        (["--batches", "0"], "batches should be at least 1"),
        (["--batches", "500"], "batches should be at most 360, the number of images; found 500"),
        (["--epochs", "-1"], "epochs"),
        (["--net", "resnet"], "net should be one of mlp, conv; found 'resnet'"),
        (["--data", "faces"], "data should be one of digits"),
        (["--lr", "0"], "lr should be a number > 0"),
        (["--iterations", "0"], "iterations should be"),
        (["--draw", "nowhere.json"], "draw should be a file that this command wrote"),
    ],
)
def test_bad_option_gives_one_line(options, names, capsys, tmp_path):
    with pytest.raises(SystemExit) as left:
        program.main(["invert", *options, "--output", str(tmp_path / "new")])
    printed = capsys.readouterr()
    assert left.value.code == 2
    assert printed.err.count("\n") == 1
    assert names in printed.err


def test_the_numbers_of_the_page_are_a_run_of_this_experiment():
    for name in ("inversion.json", "inversion-conv.json"):
        content = json.loads((DOCS / "assets" / name).read_text())
        assert len(content["seeds"]) >= 10
        assert set(content["versions"]) == {"python", "torch", "funcbio", "scikit-image"}
        stored = content["differences"]
        assert [row | {"p": 0, "p_corrected": 0} for row in stored] == [
            pytest.approx(row | {"p": 0, "p_corrected": 0}) for row in tables.differences(content["rows"])
        ]
