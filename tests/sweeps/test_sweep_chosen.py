"""What was chosen stays known: through labels, further choices and joins, which pool no runs of different choices."""

import pytest
import torch

from funcbio.sweeps._result import SweepResult

RATES = (0.1, 0.3)


def trained(winners, seeds, *, other=(0.1,)):
    """A table in which some learning rate is the best for every method: the loss is 0 there and 1 elsewhere."""
    rows = [
        (seed, method, lr, reset, float(lr != winner) + float(reset != other[0]) + seed / 100)
        for method, winner in winners.items()
        for lr in RATES
        for reset in other
        for seed in seeds
    ]
    names = ("seed", "mechanisms", "lr", "reset", "loss")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    loss = columns.pop("loss")
    table = {"member": [*range(len(rows))], **columns, "step": [9] * len(rows), "loss": loss}
    params = {"w": torch.arange(float(len(rows)))}
    return SweepResult(table, ["mechanisms", "lr", "reset"], params, {})


def best(winners, seeds, over="lr", **options):
    return trained(winners, seeds, **options).best("loss", over=over)


def test_runs_of_different_choices_are_never_pooled():
    first, other = best({"a": 0.1, "b": 0.3}, range(4)), best({"a": 0.1, "b": 0.1}, range(4, 8))
    message = (
        r"results should be of the same choices, or told apart: result.label\(part=\.\.\.\); "
        r"found lr=0.3 and lr=0.1 at {'mechanisms': 'b', 'reset': 0.1}"
    )
    with pytest.raises(ValueError, match=message):
        first.join(other)
    apart = first.label(part=1).join(other.label(part=2))
    summary = apart.summary("loss")
    assert summary["members"].tolist() == [2] * 4
    assert list(zip(apart.chosen["part"], apart.chosen["mechanisms"], apart.chosen["lr"], strict=True)) == [
        (1, "a", 0.1),
        (1, "b", 0.3),
        (2, "a", 0.1),
        (2, "b", 0.1),
    ]
    third = best({"a": 0.3, "b": 0.1}, range(8, 12))
    with pytest.raises(ValueError, match=r"label\(part_2=\.\.\.\); found lr=0.1 and lr=0.3 at {'part': 1, 'mech"):
        apart.join(third.label(part=1))
    apart.join(third.label(part=3))


def test_choices_that_agree_stay_with_the_joined_result():
    first, other = best({"a": 0.1}, range(4)), best({"a": 0.1}, range(4, 12))
    joined = first.join(other)
    assert joined.chosen["lr"] == [0.1, 0.1]
    assert joined.chosen["runs"] == [2, 4]
    assert list(joined.chosen) == ["mechanisms", "reset", "lr", "runs", "diverged", "loss", "at_end"]
    assert joined.summary("loss")["members"].tolist() == [6]
    with pytest.raises(ValueError, match=r"found lr=0.1 and lr=0.3"):
        joined.join(best({"a": 0.3}, range(12, 16)))
    further = first.join(best({"b": 0.3}, range(4)))
    assert (further.chosen["mechanisms"], further.chosen["lr"]) == (["a", "b"], [0.1, 0.3])
    assert trained({"a": 0.1}, [0]).join(trained({"a": 0.1}, [1])).chosen == {}


def test_what_was_chosen_in_one_result_is_chosen_in_the_other_too():
    plain = trained({"a": 0.1}, range(4, 8))
    with pytest.raises(ValueError, match=r"choose in the first too, by result.best\(..., over='lr'\); found 'lr' in"):
        plain.join(best({"a": 0.1}, range(4)))
    with pytest.raises(ValueError, match=r"found 'lr' in the other only"):
        best({"a": 0.1}, range(4)).join(plain)
    assert plain.best("loss", over="lr").join(best({"a": 0.1}, range(4))).members == 4
    constant = trained({"a": 0.1}, range(4, 8))
    at = [number for number, lr in enumerate(constant.table["lr"]) if lr == 0.1]
    table = {name: [column[i] for i in at] for name, column in constant.table.items() if name != "lr"}
    bare = SweepResult(table | {"member": [*range(4)]}, ["mechanisms", "reset"], {"w": torch.ones(4)}, {})
    hint = r"choose in the other one too, by result.label\(lr=\.\.\.\).best\(..., over='lr'\); found 'lr' chosen in"
    with pytest.raises(ValueError, match=hint):
        best({"a": 0.1}, range(4)).join(bare)
    assert best({"a": 0.1}, range(4)).join(bare.label(lr=0.1).best("loss", over="lr")).members == 4


def test_a_further_choice_keeps_the_earlier_one():
    options = {"other": (0.5, 0.7)}
    twice = best({"a": 0.1, "b": 0.3}, range(8), **options).best("loss", over="reset")
    assert twice.chosen == {
        "mechanisms": ["a", "b"],
        "reset": [0.5, 0.5],
        "lr": [0.1, 0.3],
        "runs": [2, 2],
        "diverged": [0, 0],
        "loss": [0.045, 0.045],
        "at_end": ["lr, reset", "lr, reset"],
    }
    assert twice.table["seed"] == [6, 7, 6, 7]
    other = best({"a": 0.1, "b": 0.1}, range(8, 16), **options).best("loss", over="reset")
    with pytest.raises(ValueError, match=r"found lr=0.3 and lr=0.1 at {'mechanisms': 'b'}"):
        twice.join(other)
    at_once = best({"a": 0.1, "b": 0.3}, range(8, 16), ["lr", "reset"], **options)
    assert twice.join(at_once).chosen["lr"] == [0.1, 0.3, 0.1, 0.3]


def test_a_label_has_no_name_of_what_was_chosen():
    with pytest.raises(ValueError, match="label should have a new name, not that of a column; found 'lr'"):
        best({"a": 0.1}, range(4)).label(lr=0.5)
    renamed = best({"a": 0.1, "b": 0.3}, range(4)).label(mechanisms={"a": "c"})
    assert renamed.chosen["mechanisms"] == ["c", "b"]
    assert renamed.table["mechanisms"] == ["c"] * 2 + ["b"] * 2
