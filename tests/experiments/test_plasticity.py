"""Rows of tasks, every method against torch alone, and the experiment as a whole at a tiny size."""

import json
from pathlib import Path

import pytest
import torch
from places import DOCS
from torch import vmap
from torch.func import functional_call
from torch.nn import functional as F

import funcbio
from funcbio import __main__ as command
from funcbio.experiments.frame import searching
from funcbio.experiments.frame.intervals import paired, spell
from funcbio.experiments.frame.results import numbers_of
from funcbio.experiments.plasticity import figures, learner, measures, methods, results, tables, tuning
from funcbio.experiments.plasticity.crowd import UPKEEP_EVERY, Crowd
from funcbio.experiments.plasticity.settings import Settings
from funcbio.experiments.plasticity.tasks import BATCH, Tasks
from funcbio.files import FileError

TINY = ["--tasks", "4", "--blocks", "2", "--seeds", "2", "--images", "16", "--epochs", "2", "--permuted-images", "16"]
TINY += ["--compile", "no", "--rounds", "1", "--tuning-tasks", "1", "--tuning-seeds", "1", "--deciding-seeds", "1"]
X, Y = torch.rand(50, 64, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 10
KEYS = vmap(funcbio.key)(torch.arange(2))


def crowd_of(name, optimizer="adam", lr=0.01, **numbers):
    method = methods.method_named(name)
    values = {key: torch.full((2,), value) for key, value in ({"lr": lr} | numbers).items()}
    return Crowd(method, optimizer, KEYS, values, compile=False)


def batches(count):
    draw = vmap(Tasks("permuted", X, Y, 48, -(-count // 3)).draw, in_dims=(0, None))
    x, y = draw(KEYS, torch.tensor(0))
    return [(x[:, i], y[:, i]) for i in range(count)]


def reference(crowd, make, steps, penalty=lambda params: 0.0):
    """The second member by a plain loop of torch."""
    net = learner.network()
    net.load_state_dict({name: weight[1] for name, weight in crowd.members.params.items()})
    start = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    optimizer = make(net.parameters())
    for x, y in batches(steps):
        optimizer.zero_grad()
        pull = sum((w - start[name]).square().sum() for name, w in net.named_parameters())
        (F.cross_entropy(net(x[1]), y[1]) + penalty(pull)).backward()
        optimizer.step()
    return dict(net.named_parameters())


def stepped(crowd, steps):
    for x, y in batches(steps):
        crowd.step(x, y)
    return {name: weight[1] for name, weight in crowd.members.params.items()}


@pytest.mark.parametrize(
    ("name", "optimizer", "numbers", "make", "penalty"),
    [
        ("plain", "sgd", {"lr": 0.1}, lambda p: torch.optim.SGD(p, 0.1), lambda pull: 0.0),
        ("plain", "adam", {}, lambda p: torch.optim.Adam(p, 0.01), lambda pull: 0.0),
        ("L2", "adam", {"decay": 0.02}, lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.02), lambda pull: 0.0),
        ("L2 to the start", "adam", {"pull": 0.02}, lambda p: torch.optim.Adam(p, 0.01), lambda pull: 0.01 * pull),
    ],
)
def test_known_methods_are_what_torch_does(name, optimizer, numbers, make, penalty):
    crowd = crowd_of(name, optimizer, **numbers)
    expected = reference(crowd, make, 6, penalty)
    start = {key: weight[1].clone() for key, weight in crowd.members.params.items()}
    for key, weight in stepped(crowd, 6).items():
        torch.testing.assert_close(weight, expected[key].detach(), rtol=1e-3, atol=2e-5)
        assert not torch.allclose(weight, start[key], atol=1e-3)


def test_accuracy_is_that_before_learning():
    crowd = crowd_of("plain")
    (x, y), params = batches(1)[0], crowd.members.params
    before = functional_call(learner.network(), {name: weight[1] for name, weight in params.items()}, (x[1],))
    assert float(crowd.step(x, y)[1]) == pytest.approx(float((before.argmax(1) == y[1]).float().mean()))


def test_rates_on_the_gradient_cancel_in_adam_and_on_the_update_do_not():
    plain = stepped(crowd_of("plain"), 6)
    moved = {}
    for name in ("fuzzy rates, gradient", "fuzzy rates, update"):
        found = stepped(crowd_of(name, nu=1.0), 6)
        moved[name] = max(float((found[key] - plain[key]).abs().max()) for key in plain)
    assert moved["fuzzy rates, gradient"] < 0.1 * moved["fuzzy rates, update"]
    assert moved["fuzzy rates, update"] > 0.02


def test_where_rates_act_is_one_to_plain_sgd_so_it_is_trained_once():
    moved = []
    for name in ("fuzzy rates, gradient", "fuzzy rates, update"):
        numbers = {"lr": torch.full((2,), 0.1), "nu": torch.full((2,), 1.0)}
        moved.append(stepped(Crowd(methods.method_named(name), "sgd", KEYS, numbers, compile=False), 6))
    for name, weight in moved[0].items():
        torch.testing.assert_close(weight, moved[1][name])
    names = {optimizer: [method.name for method in methods.methods_of(optimizer)] for optimizer in methods.OPTIMIZERS}
    assert [name for name in names["adam"] if name not in names["sgd"]] == ["fuzzy rates, gradient"]


def test_spread_of_the_rates_is_each_members_own():
    crowd = Crowd(
        methods.method_named("fuzzy rates, update"),
        "adam",
        KEYS,
        {"nu": torch.tensor([0.1, 0.5])},
        compile=False,
    )
    spread = crowd.members.rate["2.weight"].log().std(dim=(1, 2))
    # The deviation of a deviation is 1 / sqrt(2 n) of it; n = 10,000.
    torch.testing.assert_close(spread, torch.tensor([0.1, 0.5]), rtol=5.0 / (2 * 10000) ** 0.5, atol=0.0)


def test_crystallization_dampens_down_to_its_floor():
    crowd = crowd_of("crystallization", floor=0.3)
    stepped(crowd, 9)
    rates = crowd.members.rate["0.weight"]
    assert float(rates.min()) == pytest.approx(0.3)
    assert float(rates.max()) == 1.0


def test_shrinking_mixes_in_a_fresh_start():
    kept, gone = crowd_of("shrink and perturb", shrink=0.0), crowd_of("shrink and perturb", shrink=1.0)
    params = kept.members.params
    for crowd in (kept, gone):
        crowd._keep_up("shrink")
    for name, weight in params.items():
        assert torch.equal(kept.members.params[name], weight)
        assert not torch.isclose(gone.members.params[name], weight).any(dim=-1).all()
        bound = (100 if name[0] != "0" else 64) ** -0.5
        assert float(gone.members.params[name].abs().max()) <= bound


def test_rejuvenation_replaces_weak_weights_and_what_adam_knows_of_them():
    crowd = crowd_of("rejuvenation", strength=8.0)
    for x, y in batches(UPKEEP_EVERY - 1):
        crowd.step(x, y)
    before = crowd.members.params["2.weight"]
    crowd._keep_up("rejuvenate")
    new = crowd.members.params["2.weight"] != before
    assert 0.01 < float(new.float().mean()) < 0.3
    assert float(before[new].abs().mean()) < 0.5 * float(before.abs().mean())
    assert not crowd.moments["exp_avg"]["2.weight"][new].any()
    assert crowd.moments["exp_avg_sq"]["2.weight"][~new].any()


def test_random_turnover_replaces_as_many_weights_wherever_they_are():
    shares, sizes = {}, {}
    for name in ("rejuvenation, L2 to the start", "random turnover, L2 to the start"):
        crowd = crowd_of(name, strength=8.0)
        before = crowd.members.params
        crowd._keep_up(crowd.method.upkeep)
        new = crowd.members.params["2.weight"] != before["2.weight"]
        shares[name] = float(new.float().mean())
        sizes[name] = float(before["2.weight"][new].abs().mean() / before["2.weight"].abs().mean())
        assert torch.equal(crowd.members.params["2.bias"], before["2.bias"])
    weak, random = shares.values()
    # 20,000 weights, of which about 5 % are replaced: the share's own standard error is under 0.0016.
    assert abs(weak - random) < 5 * 0.0016 * 2**0.5
    weak, random = sizes.values()
    assert weak < 0.5
    assert abs(random - 1.0) < 0.1


@pytest.mark.parametrize("name", ["shrink and perturb", "rejuvenation"])
def test_upkeep_comes_at_its_time(name):
    number = {"shrink": 0.5} if name.startswith("shrink") else {"strength": 8.0}
    plain, kept = crowd_of("plain"), crowd_of(name, **number)
    for index, (x, y) in enumerate(batches(UPKEEP_EVERY)):
        plain.step(x, y)
        kept.step(x, y)
        same = torch.equal(plain.members.params["0.weight"], kept.members.params["0.weight"])
        assert same == (index + 1 < UPKEEP_EVERY)


def test_permuted_tasks_show_every_image_once_in_an_order_of_pixels_of_their_own():
    row = Tasks("permuted", X, Y, 48, 1)
    tasks = [row.draw(funcbio.key(3), torch.tensor(number)) for number in (0, 1)]
    for x, y in tasks:
        assert x.shape == (3, BATCH, 64)
        shown = x.flatten(0, 1)
        match = (shown.sort(dim=1).values[:, None] == X.sort(dim=1).values[None]).all(dim=2).int().argmax(dim=1)
        assert len(match.unique()) == 48
        assert torch.equal(Y[match], y.flatten())
        order = torch.stack([(shown == X[match][:, pixel : pixel + 1]).all(dim=0) for pixel in range(64)])
        assert torch.equal(order.sum(0), torch.ones(64, dtype=torch.int64))  # One and the same for all images.
    assert not torch.equal(tasks[0][0], tasks[1][0])


def test_shuffled_tasks_keep_images_and_give_each_one_label():
    row = Tasks("shuffled", X, Y, 32, 3)
    labels = []
    for number in (0, 1):
        x, y = row.draw(funcbio.key(3), torch.tensor(number))
        images, place = x.flatten(0, 1).unique(dim=0, return_inverse=True)
        assert len(images) == 32
        assert torch.equal(torch.bincount(place), torch.full((32,), 3))
        own = torch.stack([y.flatten()[place == index] for index in range(32)])
        assert (own == own[:, :1]).all()
        labels.append((images, own[:, 0]))
    assert torch.equal(labels[0][0], labels[1][0])
    assert not torch.equal(labels[0][1], labels[1][1])


def test_a_member_of_a_crowd_sees_the_tasks_it_sees_alone():
    row = Tasks("shuffled", X, Y, 32, 2)
    x, y = vmap(row.draw, in_dims=(0, None))(KEYS, torch.tensor(5))
    alone = row.draw(KEYS[1], torch.tensor(5))
    assert torch.equal(x[1], alone[0])
    assert torch.equal(y[1], alone[1])


def test_measures_of_a_network_with_units_put_to_sleep():
    params = {name: torch.ones_like(p) for name, p in learner.network().named_parameters()}
    params["0.bias"][:30] = -1000.0
    rate = {name: torch.ones_like(p) if p.ndim > 1 else torch.ones(()) for name, p in params.items()}
    found = measures.measure(params, rate, X)
    assert float(found["dormant"]) == pytest.approx(30 / 200)
    assert float(found["weight_norm"]) == pytest.approx((64 * 100 + 100 * 100 + 100 * 10) ** 0.5, rel=1e-5)
    assert float(found["feature_rank"]) == pytest.approx(1.0, abs=1e-2)  # All units of a layer are the same.


def test_a_network_that_diverged_is_measured_too():
    params = {name: torch.full_like(p, torch.nan) for name, p in learner.network().named_parameters()}
    rate = {name: torch.ones_like(p) if p.ndim > 1 else torch.ones(()) for name, p in params.items()}
    assert measures.measure(params, rate, X)["feature_rank"].isnan()


@pytest.mark.slow
def test_tiny_run_searches_trains_writes_and_goes_on(tmp_path, capsys, monkeypatch):
    arguments = ["plasticity", *TINY, "--output", str(tmp_path)]
    assert command.main([*arguments, "--tune"]) == 0
    assert command.main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    found = json.loads((tmp_path / "tuning.json").read_text())
    content = json.loads((tmp_path / "results.json").read_text())
    assert not {*found["seeds"], *found["deciding_seeds"]} & set(content["runs"][0]["seeds"])
    best = tuning.chosen(found["search"])
    for run, row in zip(content["runs"], content["table"], strict=True):
        assert run["numbers"] == best[run["benchmark"]][run["optimizer"]][run["method"]]
        assert [len(seed) for seed in run["blocks"]["accuracy"]] == [2, 2]
        assert all(len(seed) == 2 for name in measures.MEASURES for seed in run["blocks"][name])
        assert row["last"]["mean"] == pytest.approx(sum(run["windows"]["last"]) / 2)
        if run["method"] != "plain":
            plain = results.beside(content["runs"], run, "plain")["windows"]["last"]
            assert row["against_plain"]["mean"] == pytest.approx(row["last"]["mean"] - sum(plain) / 2, abs=1e-6)
    for optimizer in methods.OPTIMIZERS:
        trained = {run["method"] for run in content["runs"] if run["optimizer"] == optimizer}
        assert trained == {method.name for method in methods.methods_of(optimizer)}
    assert [row["method"] for row in content["table"] if "against" in row][:2] == [
        "rejuvenation, L2 to the start",
        "random turnover, L2 to the start",
    ]
    tests = [
        test for row in content["table"] for test in (row, row.get("against", {})) if test is not row or "p" in row
    ]
    tests = [test for test in tests if test]
    assert len(tests) == 34 + 8
    assert all(test["q"] is test["p"] is None for test in tests)  # Two seeds show neither.
    assert all(b"<svg" in path.read_bytes() for path in tmp_path.glob("*.svg"))
    monkeypatch.setattr("funcbio.experiments.plasticity.run.train", None)  # Not called again.
    assert command.main(arguments) == 0
    with pytest.raises(SystemExit):
        command.main([*arguments, "--epochs", "3"])
    assert "output should be a new folder" in capsys.readouterr().err


def peak(*place):
    """A score that is highest at one place, in powers of ten."""
    return lambda points: [-sum((a - b) ** 2 for a, b in zip(point, place, strict=True)) for point in points]


@pytest.mark.parametrize("far", [0.0, 0.9, -1.2])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_search_finds_a_best_candidate_inside_however_many_numbers_there_are(count, far):
    spans = [searching.Span(-1.0, -6.0, 2.0), searching.Span(0.5, -4.0, 4.0), searching.Span(-2.5, -7.0, 0.0)][:count]
    place = [span.start + far * (-1.0) ** index for index, span in enumerate(spans)]
    scores = searching.explore(spans, peak(*place), 4)
    best = searching.ranked(scores)[0]
    assert searching.is_inside(best, scores, spans)
    assert max(abs(a - b) for a, b in zip(best, place, strict=True)) < 0.5
    assert len(scores) == 4 * searching.CANDIDATES
    for point in searching.finalists(scores, spans):
        assert searching.is_inside(point, scores, spans)


def test_the_search_goes_on_until_the_best_is_inside_or_at_its_limit():
    spans, seen = [searching.Span(0.0, -9.0, 9.0)] * 2, []

    def uphill(points):
        seen.extend(points)
        return [point[0] + 0.01 * point[1] for point in points]

    assert not searching.is_inside(searching.ranked(searching.explore(spans, uphill, 1))[0], dict.fromkeys(seen), spans)
    assert len(seen) == (1 + searching.MORE_ROUNDS) * searching.CANDIDATES
    near = [searching.Span(0.0, -9.0, 0.75), searching.Span(0.0, -9.0, 0.0)]
    scores = searching.explore(near, uphill, 2)
    assert searching.ranked(scores)[0] == (0.75, 0.0)
    assert len(scores) == 2 * searching.CANDIDATES
    assert len(set(seen)) == len(seen) - len(set(scores) & set(seen[: 4 * searching.CANDIDATES]))


@pytest.mark.parametrize("optimizer", methods.OPTIMIZERS)
def test_every_method_has_its_own_learning_rate_and_as_many_candidates(optimizer):
    for method in methods.methods_of(optimizer):
        assert method.numbers[0] == "lr"
        spans = methods.spans_of(method, optimizer)
        assert len(spans) == len(method.numbers)
        scores = searching.explore(spans, peak(*(span.start + 0.3 for span in spans)), 4)
        assert len({tuple(tuning.values(point)) for point in scores}) == 4 * searching.CANDIDATES
        if method.beside:
            assert set(methods.method_named(method.beside).numbers) < set(method.numbers)


def test_the_page_has_the_tables_of_its_numbers():
    content = json.loads((DOCS / "assets" / "plasticity.json").read_text())
    page = (DOCS / "results-plasticity.md").read_text()
    assert all(part in page for part in tables.markdown(content["table"]).strip().split("\n\n"))
    assert content["settings"] == numbers_of(Settings())
    for run in content["runs"]:
        if run["method"] == f"rejuvenation, {methods.START}":
            other = results.beside(content["runs"], run, f"random turnover, {methods.START}")
            pairs = [paired(run["windows"][window], other["windows"][window]) for window in ("all", "last")]
            cells = [spell(pair, scale=100.0, sign="+") for pair in pairs]
            title = f"{tables.TITLES[run['benchmark']]}, {tables.NAMES[run['optimizer']]}"
            assert f"\n| {title} | {' | '.join(cells)} |\n" in page
    found = json.loads((DOCS / "assets" / "plasticity-tuning.json").read_text())
    assert found == json.loads(Path(tuning.__file__).with_name(tuning.FILE).read_text())


def candidates(entry, rounds):
    """How many the rule gives a method: all rounds, and one more as long as the best is not inside."""
    limits = [tuple(map(methods.value_of, span)) for span in spans_in(entry)]
    for count in range(rounds, rounds + searching.MORE_ROUNDS):
        scores = {tuple(row[:-1]): row[-1] for row in entry["tried"][: count * searching.CANDIDATES]}
        if searching.is_inside(searching.ranked(scores)[0], scores, [searching.Span(*limit) for limit in limits]):
            return count * searching.CANDIDATES
    return (rounds + searching.MORE_ROUNDS) * searching.CANDIDATES


def spans_in(entry):
    return methods.spans_of(methods.method_named(entry["method"]), entry["optimizer"])


def test_names_of_lines_stay_apart_near_their_lines_and_within_the_figure():
    assert figures.apart([1.0, 5.0], 1.0, (0.0, 9.0)) == [1.0, 5.0]
    assert figures.apart([1.0, 5.0, 5.0], 1.0, (0.0, 9.0)) == [1.0, 4.5, 5.5]
    assert figures.apart([0.0, 0.0, 0.5], 1.0, (0.0, 9.0)) == [0.0, 1.0, 2.0]
    assert figures.apart([4.0, 8.8, 9.0], 1.0, (0.0, 9.0)) == [4.0, 8.0, 9.0]


def test_published_numbers_are_those_that_the_search_found(tmp_path):
    content = json.loads(Path(tuning.__file__).with_name(tuning.FILE).read_text())
    assert content["settings"] == numbers_of(Settings())
    assert not set(content["seeds"]) & set(content["deciding_seeds"])
    best = tuning.load_best(tmp_path)
    expected = [(benchmark, optimizer, method.name) for benchmark, optimizer, method in tuning.combinations()]
    assert [(entry["benchmark"], entry["optimizer"], entry["method"]) for entry in content["search"]] == expected
    for entry in content["search"]:
        *numbers, accuracy = max(entry["decided"], key=lambda row: row[-1])
        assert accuracy == max(row[-1] for row in entry["decided"])
        assert (
            dict(zip(entry["numbers"], numbers, strict=True))
            == best[entry["benchmark"]][entry["optimizer"]][entry["method"]]
        )
        assert len(entry["tried"]) == candidates(entry, content["settings"]["rounds"])
        for index, name in enumerate(entry["numbers"]):
            tried = [row[index] for row in entry["tried"]]
            assert min(tried) < numbers[index] < max(tried) or methods.is_limit(name, numbers[index])


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"search": [{}]}', '{"search": 3}', '{"search": [{"benchmark": []}]}']
)
def test_a_damaged_file_of_a_search_is_refused_by_name(tmp_path, content):
    (tmp_path / tuning.FILE).write_text(content)
    with pytest.raises(FileError, match=r"tuning\.json should "):
        tuning.load_best(tmp_path)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--tasks", "7"], "blocks should divide the 7 tasks"),
        (["--images", "15"], "images should be at least 16"),
        (["--permuted-images", "1798"], "at most 1797"),
        (["--compile", "maybe"], "compile should be one of yes, no; found 'maybe'"),
        (["--seeds", "1"], "seeds should be an integer from 2"),
    ],
)
def test_bad_option_gives_one_line(options, names, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["plasticity", *options])
    assert left.value.code == 2
    assert names in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "crystallization", "fuzzy rates, update", "rejuvenation"])
def test_compiled_steps_are_those_of_eager_ones(name):
    method = methods.method_named(name)
    starts = {knob: methods.value_of(methods.SPANS[knob].start) for knob in method.knobs}
    numbers = {knob: torch.full((2,), value) for knob, value in ({"lr": 0.01} | starts).items()}
    eager, compiled = (Crowd(method, "adam", KEYS, numbers, compile=compile) for compile in (False, True))
    found = [stepped(crowd, UPKEEP_EVERY) for crowd in (eager, compiled)]
    for key, weight in found[0].items():
        close = torch.isclose(weight, found[1][key], rtol=1e-3, atol=1e-4)
        assert float(close.float().mean()) > 0.99  # A threshold may fall otherwise for a few.
