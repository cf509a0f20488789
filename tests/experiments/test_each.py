"""Single mechanisms against plain networks: the whole at a tiny size, and the page from its numbers."""

import json

import pytest
from places import DOCS

from funcbio import __main__ as command
from funcbio.experiments.each import protocol, tables
from funcbio.experiments.each.settings import RATES, Settings
from funcbio.experiments.frame.intervals import interval, paired
from funcbio.experiments.frame.results import numbers_of
from funcbio.mechanisms import METHODS

TINY = ["--seeds", "3", "--tuning-seeds", "1", "--steps", "4", "--hidden", "8", "--rejuvenate-every", "2"]


def test_tiny_run_tunes_trains_writes_and_goes_on(tmp_path, capsys):
    arguments = ["each", *TINY, "--output", str(tmp_path)]
    assert command.main(arguments) == 0
    first = capsys.readouterr()
    assert first.err == ""
    results = json.loads((tmp_path / "results.json").read_text())
    assert b"<svg" in (tmp_path / "each.svg").read_bytes()
    for optimizer, rates in RATES.items():
        plain, *others = results[optimizer]
        assert plain["mechanism"] == "plain"
        assert {row["mechanism"] for row in others} == set(protocol.variants(Settings())) - {"plain"}
        for row in results[optimizer]:
            assert list(row["tried"]) == [f"{lr:g}" for lr in rates]
            assert row["tried"][f"{row['lr']:g}"] == max(row["tried"].values())
            assert row["accuracy"] == interval(row["seeds"])._asdict()
        for row in others:
            assert row["difference"] == paired(row["seeds"], plain["seeds"])._asdict()
            assert 0.0 < row["q"] <= 1.0
        assert len({tuple(row["seeds"]) for row in results[optimizer]}) > 4  # Mechanisms act.
    assert command.main(arguments) == 0
    assert capsys.readouterr().out == first.out
    with pytest.raises(SystemExit):
        command.main([*arguments, "--steps", "5"])
    assert "another" in capsys.readouterr().err


def test_every_mechanism_of_a_step_is_compared():
    acting = [one for variant in protocol.variants(Settings()).values() for one in variant.mechanisms]
    names = {one if isinstance(one, str) else one.feature for one in acting}
    spared = {"update_fuzzy_learning_rates", "rejuvenate_weights_old"}  # It moves the rates, no more; it is a variant.
    assert set(METHODS) - names == spared


def test_the_page_has_the_tables_of_its_numbers():
    results = json.loads((DOCS / "assets" / "each.json").read_text())
    page = (DOCS / "results-each.md").read_text()
    assert results["settings"] == numbers_of(Settings())
    assert all(tables.table(results, optimizer).markdown() in page for optimizer in RATES)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--seeds", "1"], "seeds should be an integer from 2"),
        (["--batch-size", "1200"], "--batch-size should be at most 1149"),
        (["--momentum", "0"], "momentum should be a number > 0"),
    ],
)
def test_bad_option_gives_one_line(options, names, capsys, tmp_path):
    with pytest.raises(SystemExit) as left:
        command.main(["each", "--output", str(tmp_path), *options])
    assert left.value.code == 2
    assert names in capsys.readouterr().err
