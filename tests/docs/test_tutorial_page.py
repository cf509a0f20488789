"""The tutorial of the documents, block by block: what it prints stands on the page, and what it says holds."""

import contextlib
import io
import re

import pytest
from places import DOCS

from funcbio import IdleWarning

PAGE = (DOCS / "tutorial.md").read_text()
BLOCK = re.compile(r"```python\n(?P<code>.*?)\n```\n(?:\n```text\n(?P<shown>.*?)```\n)?", re.DOTALL)
SECTIONS = PAGE.split("\n## ")[1:]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?%?")


def ran(code, names):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    return printed.getvalue()


def near(one, other):
    """Whether two numbers are the same but for what another machine or version of torch may change."""
    first, second = (float(text.rstrip("%")) for text in (one, other))
    room = 6 if one.endswith("%") else 0.06 if "." in one else 0.3 * abs(first) if abs(first) > 100 else 0
    return abs(first - second) <= room


def same(printed, shown):
    """Whether a block prints what the page shows: the same words, and numbers that are near."""
    if NUMBER.sub("#", printed) != NUMBER.sub("#", shown):
        return False
    return all(near(*pair) for pair in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True))


def rates(layer):
    return layer.bio_mod.fuzzy_learning_rate_parameters


def convert(names):
    assert names["model"] is names["net"]
    assert rates(names["model"].hidden).shape == names["model"].hidden.weight.shape


def set_up(names):
    assert "perhaps dampening_factor" in names["message"](lambda: names["BioConverter"](dampening=0.5))
    hidden = names["hidden"]
    assert all(hidden[:, unit].equal(hidden[:, unit // 3 * 3]) for unit in range(hidden.shape[1]))


def train(names):
    assert names["accuracy"](names["model"]) > 0.88
    assert sum(names["losses"][-23:]) < 0.5 * sum(names["losses"][:23])
    assert 0.01 < names["share"] < 0.2
    assert 0.03 < names["weight"].norm() / names["raw"][0].norm() < 0.1
    assert names["bias"].equal(names["raw"][1])
    with pytest.warns(IdleWarning, match="fuzzy_learning_rates should act on the update of Adam"):
        plain, method, attached = (names["weights"](way) for way in ("plain", "method", "attach"))
    assert (method - plain).norm() / plain.norm() < 1e-3
    assert (attached - plain).norm() / plain.norm() > 0.05


def choose(names):
    found, small = rates(names["model"].hidden), names["small"]
    assert abs(found.mean() - 1) < 0.02
    assert found[small].std() > 1.2 * found[~small].std()


def move(names):
    model = names["model"]
    assert (names["rates"][0] == 1).all()
    assert model.hidden.bio_mod.activation_count.shape == (48,)
    assert names["accuracy"](model) > 0.85
    assert "update_fuzzy_learning_rates should have rates that move" in str(names["caught"][0].message)
    counts = model.hidden.bio_mod.activation_count.clone()
    model.eval()(names["x"])
    assert model.hidden.bio_mod.activation_count.sum() > counts.sum()


def sign(names):
    assert names["wrong"] > 0
    assert names["violations"]() == 0
    assert names["accuracy"](names["model"]) > 0.8


def convolve(names):
    maps = names["maps"]
    assert names["accuracy"](names["model"]) > 0.85
    assert len({maps[:, channel].sum().item() for channel in range(8)}) == 4


CHECKS = (convert, set_up, train, choose, move, sign, convolve)


def test_the_tutorial_prints_what_it_shows_and_does_what_it_says():
    names, shown = {"__name__": "__main__"}, 0
    for number, section in enumerate(SECTIONS):
        for block in BLOCK.finditer(section):
            printed = ran(block["code"], names)
            assert same(printed, block["shown"] or ""), (printed, block["shown"])
            shown += bool(block["shown"])
        if number < len(CHECKS):
            CHECKS[number](names)
    assert shown == PAGE.count("```text") > 15
    assert len(SECTIONS) == 11


def test_the_tutorial_reads_as_a_program_and_not_as_a_test():
    assert "assert" not in PAGE
    assert all((DOCS / path).exists() for path in re.findall(r"\]\((assets/[^)]+)\)", PAGE))


@pytest.mark.parametrize(
    ("printed", "shown", "is_same"),
    [
        ("a 93%", "a 90%", True),
        ("a 93%", "a 80%", False),
        ("b 4", "b 5", False),
        ("0.10", "0.12", True),
        ("c", "d", False),
    ],
)
def test_near_numbers_and_the_same_words_are_the_same(printed, shown, is_same):
    assert same(printed, shown) == is_same
