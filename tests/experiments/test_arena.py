"""The arena: rows of tasks, methods, the search under one budget, results that go on, merge and compare."""

import json
import math
from dataclasses import fields

import pytest
import torch

from funcbio import BioConfig, fold_in, key, permutation
from funcbio import __main__ as command
from funcbio.experiments.arena import contrasts, methods, results, search, training
from funcbio.experiments.arena.methods import METHODS, NEWBORN, NORM_DECAY, PLAIN, named, settings_of, spans_of
from funcbio.experiments.arena.networks import convolutional, perceptron
from funcbio.experiments.arena.settings import Settings
from funcbio.experiments.arena.tasks import ROWS, TITLES, classes, labels, pixels, regression
from funcbio.experiments.arena.tasks.images import pool
from funcbio.experiments.frame.settings import SettingError

EVERY = (*METHODS, *NEWBORN)
TINY = {"steps": 5, "blocks": 5, "seeds": 2, "rounds": 1, "tuning_seeds": 1, "compile": "no"}


@pytest.fixture(scope="module")
def images():
    return pool("digits", "data")


def step_of(make, number, seed=3):
    return make(key(seed), torch.tensor(number))


# Tasks


def test_every_row_has_a_title_and_its_own_name(images):
    assert list(ROWS) == list(TITLES)
    for name, make in ROWS.items():
        assert make(images).name == name
        assert make(images).shown is TITLES[name]


@pytest.mark.parametrize("name", ROWS)
def test_a_batch_depends_on_member_and_step_alone_and_maps(name, images):
    row, keys = ROWS[name](images), torch.stack([key(3), key(4)])
    steps = torch.tensor([0, 7, 60])
    mapped = torch.vmap(torch.vmap(row.make, (0, None)), (None, 0))(keys, steps)
    for at, step in enumerate(steps.tolist()):
        for member, seed in enumerate((3, 4)):
            for got, alone in zip(mapped, step_of(row.make, step, seed), strict=True):
                assert torch.equal(got[at, member], alone)
    assert not torch.equal(mapped[0][0, 0], mapped[0][0, 1])
    assert not torch.equal(mapped[0][0, 0], mapped[0][1, 0])


@pytest.mark.parametrize("name", ROWS)
def test_the_network_of_a_row_takes_its_batches(name, images):
    row = ROWS[name](images)
    x, y = step_of(row.make, 0)
    for norm in (False, True):
        net = row.network(norm)
        assert any("Norm" in type(module).__name__ for module in net.modules()) == (norm or row.normed)
        value = row.measure(net(x), y)
        assert row.loss(net(x), y).ndim == value.ndim == 0


def test_permuted_pixels_are_images_in_one_order_for_a_task(images):
    first, (x, y) = step_of(pixels.row(images).make, 0), step_of(pixels.row(images).make, pixels.TASK_STEPS - 1)
    later, _ = step_of(pixels.row(images).make, pixels.TASK_STEPS)
    originals = {tuple(image.tolist()) for image in images.x}
    order = permutation(pixels.task_key(key(3), torch.tensor(0)), 64)
    back = order.argsort()
    assert {tuple(image.tolist()) for image in (*first[0][:, back], *x[:, back])} <= originals
    assert not {tuple(image.tolist()) for image in later[:, back]} <= originals
    for image, label in zip(x[:, back], y, strict=True):
        assert label in images.y[(images.x == image).all(1)]


def test_shuffled_labels_belong_to_the_same_few_images_and_last_for_a_task(images):
    make, given = labels.row(images).make, [{}, {}]
    for task, start in enumerate((0, labels.TASK_STEPS)):
        for number in range(start, start + labels.TASK_STEPS):
            for image, label in zip(*step_of(make, number), strict=True):
                assert given[task].setdefault(tuple(image.tolist()), int(label)) == int(label)
    assert len(given[0]) <= labels.IMAGES
    assert len(given[0].keys() | given[1].keys()) <= labels.IMAGES
    assert sum(given[0].get(image) == label for image, label in given[1].items()) < 30  # A tenth by chance.


def test_classes_come_two_at_a_time_by_the_place_at_which_they_came(images):
    make, known = classes.row(images).make, {}
    for stage in range(classes.STAGES):
        seen = set()
        for number in range(stage * classes.STAGE_STEPS, (stage + 1) * classes.STAGE_STEPS):
            x, y = step_of(make, number)
            seen |= set(y.tolist())
            for image, label in zip(x, y.tolist(), strict=True):
                digit = set(images.y[(images.x == image).all(1)].tolist())
                known[label] = known.get(label, digit) & digit
        assert seen == set(range(2 * (stage + 1)))
    assert sorted(*zip(*known.values(), strict=True)) == list(range(10))
    again = step_of(make, classes.STAGE_STEPS * classes.STAGES)[1]
    assert set(again.tolist()) == {0, 1}


def test_the_regression_follows_its_definition():
    (x, y), drawn = step_of(regression.batch, 12_345), fold_in(key(3), "target")
    assert x.shape == (1, 20)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    into = regression.signs(fold_in(drawn, "into"), (100, 20)).double()
    bias, out = (regression.signs(fold_in(drawn, name), (100,)).double() for name in ("bias", "out"))
    total = float(regression.signs(fold_in(drawn, "last"), ()))
    for row, one, sign in zip(into, bias, out, strict=True):
        negative = (20 - float(row.sum()) + float(one)) / 2
        total += float(sign) * (float(row @ x[0].double() + one) > 0.7 * 21 - negative)
    assert y.item() == total


def test_slow_bits_last_ten_thousand_steps():
    slow = [step_of(regression.batch, number)[0][0, :15] for number in (0, 9_999, 10_000)]
    assert torch.equal(slow[0], slow[1])
    assert not torch.equal(slow[1], slow[2])
    fast = {tuple(step_of(regression.batch, number)[0][0, 15:].tolist()) for number in range(200)}
    assert len(fast) == 32


PUBLISHED = {0.01: (0.62, 0.63, 0.70), 0.003: (0.71, 0.66, 0.66), 0.001: (0.84, 0.76, 0.72)}
"""Squared errors of the first three bins of 20,000 steps, read off the published figure to about 0.02."""


@pytest.mark.slow
@pytest.mark.parametrize("lr", PUBLISHED)
def test_the_regression_meets_the_published_curve(lr, images, tmp_path):
    settings = Settings(steps=3000, blocks=6, compile="yes")
    point = (math.log10(lr),)
    found = training.train(settings, regression.row(images), named(PLAIN), "sgd", [point], range(24), tmp_path)
    values = torch.tensor(found.values[0]).unflatten(1, (3, 2)).mean(2)
    error = 2.0 * values.std(0) / len(values) ** 0.5
    assert (abs(values.mean(0) - torch.tensor(PUBLISHED[lr])) < 0.02 + error).all(), values.mean(0)


def test_images_of_28_pixels_fit_the_networks():
    x = torch.randn(2, 784)
    assert perceptron(784)(x).shape == convolutional(28)(x).shape == convolutional(28, norm=True)(x).shape == (2, 10)


# Methods


def test_names_are_different_and_the_baselines_among_them():
    assert len({method.name for method in EVERY}) == len(EVERY)
    assert {PLAIN, NORM_DECAY, *methods.QUICK} <= {method.name for method in METHODS}
    for one in contrasts.CONTRASTS:
        assert named(one.method) != named(one.other)


@pytest.mark.parametrize("method", EVERY, ids=lambda method: method.name)
def test_the_limits_of_a_search_are_allowed_values(method):
    known = {item.name for item in fields(BioConfig)}
    for optimizer in methods.OPTIMIZERS:
        spans = spans_of(method, optimizer)
        for point in ([span.start for span in spans], [span.low for span in spans], [span.high for span in spans]):
            found = settings_of(method, point)
            BioConfig(**method.fields, **{name: value for name, value in found.items() if name in known})
            assert set(found) - known <= {"lr", "weight_decay"}


@pytest.mark.filterwarnings("ignore:.* should act by step")
@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("optimizer", "method"),
    [(name, method) for name in methods.OPTIMIZERS for method in methods.methods_of(name, normed=False)],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
def test_every_method_trains(optimizer, method, images, tmp_path):
    points = [tuple(span.start for span in spans_of(method, optimizer))] * 2
    found = training.train(Settings(**TINY), labels.row(images), method, optimizer, points, [0, 1], tmp_path)
    assert torch.tensor(found.values).shape == (2, 2, 5)
    torch.testing.assert_close(torch.tensor(found.values[0]), torch.tensor(found.values[1]))


@pytest.mark.parametrize("name", ["L2 Init", "selective", "ReDo", "crystallization", "LayerNorm", "decay"])
def test_a_method_is_not_plain_training(name, images, tmp_path):
    ends = []
    for method in (named(name), named(PLAIN)):
        point = [-1.0, *(0.0 if k.name in ("decay", "strength") else -0.7 for k in method.knobs)]
        settings = Settings(**{**TINY, "steps": 200})
        ends.append(
            training.train(settings, labels.row(images), method, "sgd", [point], [0, 1], tmp_path / method.name)
        )
    assert ends[0].values != ends[1].values


# Search


def fake_train(peak, log):
    """Trains nothing: a measure that falls with the distance from a peak, for every candidate."""

    def train(settings, row, method, optimizer, points, seeds, output):
        log.append((len(points), list(seeds)))
        value = lambda point: 1.0 - sum(abs(a - b) for a, b in zip(point, peak, strict=False)) / 10
        return training.Measured([[[value(point)] * settings.blocks] * len(seeds) for point in points], 1.0)

    return train


@pytest.mark.parametrize("name", [PLAIN, "L2 Init", "rejuvenation, L2 Init"])
def test_every_method_gets_as_many_candidates_on_seeds_that_are_not_reported(name, images, tmp_path, monkeypatch):
    log, peak = [], tuple(span.start + 0.5 for span in spans_of(named(name), "adam"))
    monkeypatch.setattr(search, "train", fake_train(peak, log))
    best, found = search.search(Settings(), labels.row(images), named(name), "adam", tmp_path)
    assert log == [(12, [1000, 1001])] * 3
    assert len(found["tried"]) == 36
    assert max(abs(a - b) for a, b in zip(best, peak, strict=True)) < 0.3
    assert found["best"] == settings_of(named(name), best)


def test_the_search_goes_on_while_the_best_is_at_the_edge_of_what_was_tried(images, tmp_path, monkeypatch):
    log = []
    monkeypatch.setattr(search, "train", fake_train((-5.9,), log))
    best, _ = search.search(Settings(rounds=1), labels.row(images), named(PLAIN), "adam", tmp_path)
    assert len(log) > 1
    assert best[0] < -5.0


def test_a_candidate_that_diverges_is_the_worst():
    assert search.score([[0.5, 0.7], [0.1, 0.3]], 1) == pytest.approx(0.4)
    assert search.score([[0.5, 0.7], [0.1, 0.3]], -1) == pytest.approx(-0.4)
    assert search.score([[0.5, float("nan")]], -1) == search.score([[float("inf")]], 1) == search.WORST


# Results


def result(method, values, task="labels", seconds=1.0):
    place = {"data": "digits", "task": task, "optimizer": "adam", "method": method}
    return {**place, "best": {"lr": 0.1}, "at_limit": [], "values": values, "seconds": seconds}


def test_windows_and_differences_are_those_worked_out_by_hand():
    plain = result(PLAIN, [[0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    better = result("decay", [[1.0, 2.0, 3.0, 4.0, 7.0], [3.0, 3.0, 4.0, 5.0, 6.0]])
    assert results.windows(plain) == {"all": [2.0, 3.0], "first": [0.0, 1.0], "last": [4.0, 5.0]}
    rows = results.compared([plain, better, result("ReDo", [[9.0] * 5] * 2, task="pixels")])
    assert rows[0]["change"]["mean"] == 4.0
    assert "plain" not in rows[0]
    assert rows[1]["plain"]["mean"] == pytest.approx((1.4 + 1.2) / 2)
    assert "plain" not in rows[2]


def test_a_pair_of_methods_is_one_test():
    names = (PLAIN, NORM_DECAY, "decay")
    rows = results.compared([result(name, [[v + 0.01 * at] * 5 for v in range(8)]) for at, name in enumerate(names)])
    assert rows[0]["norm"]["q"] == rows[1]["plain"]["q"] == pytest.approx(rows[0]["norm"]["p"])
    assert len({row[name]["q"] for row in rows for name in ("plain", "norm") if name in row}) == 1


def test_members_that_diverged_are_counted_and_left_out_of_pairs():
    plain, other = result(PLAIN, [[1.0] * 5, [2.0] * 5, [4.0] * 5]), result("decay", [[None] * 5, [3.0] * 5, [6.0] * 5])
    row = results.compared([plain, other])[1]
    assert row["diverged"] == 1
    assert row["plain"]["mean"] == 1.5


def test_contrasts_are_made_wherever_both_were_run():
    runs = [
        result(name, [[value + seed] * 5 for seed in range(3)]) for name, value in (("selective", 3.0), ("ReDo", 1.0))
    ]
    found = contrasts.contrasts([*runs, result("selective", [[1.0] * 5] * 2, task="pixels")])
    assert [(one["method"], one["other"], one["task"], one["mean"]) for one in found] == [
        ("selective", "ReDo", "labels", 2.0)
    ]
    assert math.isfinite(found[0]["q"])


# The command


def run(output, *others):
    options = [part for name, value in TINY.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return command.main(["arena", *options, "--optimizers", "adam", "--output", str(output), *others])


def test_the_command_writes_goes_on_and_merges(tmp_path, capsys, monkeypatch):
    one, two, both = (tmp_path / name for name in ("one", "two", "both"))
    assert run(one, "--tasks", "labels", "--methods", f"{PLAIN};decay") == 0
    assert "shuffled labels, digits, Adam" in capsys.readouterr().out
    assert {path.name for path in one.iterdir()} >= {"results.json", "table.md", "arena-means.svg", "arena-steps.svg"}
    assert not (one / "sweeps").exists()
    assert run(two, "--tasks", "classes", "--methods", PLAIN) == 0
    monkeypatch.setattr(training.funcbio, "sweep", lambda *_, **__: pytest.fail("trained again"))
    assert run(both, "--tasks", "labels,classes", "--methods", PLAIN, "--also", f"{one}, {two}") == 0
    content = json.loads((both / "results.json").read_text())
    assert [(run["task"], run["method"]) for run in content["runs"]] == [("labels", PLAIN), ("classes", PLAIN)]
    assert content["settings"]["steps"] == 5
    assert len(content["runs"][0]["tried"]) >= 12
    assert content["runs"][0]["seeds"] == [0, 1]


def test_parts_of_other_settings_are_refused_and_not_taken_over(tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(one, "--tasks", "labels", "--methods", PLAIN) == 0
    for others, message in (
        (["--also", str(one), "--steps", "10"], "also should be folders of runs with the same settings; found others"),
        (["--also", str(tmp_path / "nowhere")], "also should be folders of other runs"),
    ):
        with pytest.raises(SystemExit):
            run(two, "--tasks", "labels", "--methods", PLAIN, *others)
        assert message in capsys.readouterr().err
        assert not list(two.glob("runs/*"))
    with pytest.raises(SystemExit):
        run(one, "--tasks", "labels", "--methods", PLAIN, "--steps", "10")
    assert "found one with other settings" in capsys.readouterr().err


def test_the_results_of_another_part_and_damaged_ones_are_refused(tmp_path, capsys):
    assert run(tmp_path, "--tasks", "labels", "--methods", "decay") == 0
    decay, plain = (tmp_path / "runs" / f"digits labels adam {name}.json" for name in ("decay", PLAIN))
    for content, message in ((decay.read_bytes(), "should hold the results of digits labels adam plain"), (b"{", "")):
        plain.write_bytes(content)
        with pytest.raises(SystemExit):
            run(tmp_path, "--tasks", "labels", "--methods", PLAIN)
        assert message in capsys.readouterr().err


def test_methods_that_an_optimizer_does_not_have_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, "--tasks", "labels", "--optimizers", "sgd", "--methods", NEWBORN[0].name)
    assert "methods should be some that the optimizer and the network have" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(
            ["arena", "--only", NEWBORN[0].name, "sgd", "labels", "--output", f"{tmp_path}"]
        )  # Plain training, which comes along, does not count.
    assert "methods should be some that the optimizer and the network have" in capsys.readouterr().err


def test_what_is_finished_is_shown_without_training(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        run(tmp_path, "--finished")
    assert "output should hold finished parts of these settings" in capsys.readouterr().err
    assert run(tmp_path, "--tasks", "labels", "--methods", "decay") == 0
    monkeypatch.setattr(training.funcbio, "sweep", lambda *_, **__: pytest.fail("trained again"))
    assert run(tmp_path, "--finished") == 0
    assert "shuffled labels, digits, Adam" in capsys.readouterr().out


def test_a_quick_arena_keeps_what_was_chosen():
    assert Settings().quick().tasks == "pixels,labels"
    chosen = Settings(tasks="classes", seeds=3).quick()
    assert (chosen.tasks, chosen.seeds, chosen.steps) == ("classes", 3, 1500)


def test_all_methods_are_listed(capsys):
    assert command.main(["arena", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [method.name for method in EVERY]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": "labels,pixls"}, "tasks should be all, or some of pixels"),
        ({"methods": "plain;ReDoo"}, "methods should be all, or names"),
        ({"optimizers": "rmsprop"}, "optimizers should be all, or some of sgd, adam"),
        ({"data": "imagenet"}, "data should be one of digits"),
        ({"steps": 7, "blocks": 5}, "blocks should divide the 7 steps; found 5"),
    ],
)
def test_bad_settings_are_refused(given, message):
    with pytest.raises(SettingError, match=message):
        Settings(**given)
