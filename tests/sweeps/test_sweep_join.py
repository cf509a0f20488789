"""Several sweeps as one result: equal to the sweep of all of them, and refused where they are not of one kind."""

import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, Mechanism
from funcbio.sweeps import _settings
from funcbio.sweeps._result import SweepResult

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
LISTS = {"plain": [], "l2": ["l2_init"], "bio": ["fuzzy_learning_rates", Mechanism("rejuvenate_weights", every=2)]}


VOLUME = {"mechanisms": {"volume": ["volume_dependent_lr"]}}


def net():
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


def accuracy(output, target):
    return (output.argmax(-1) == target).float().mean()


def swept(*, data=(X, Y), **options):
    options = {"steps": 4, "batch_size": 8, "seeds": 2, "mechanisms": {"plain": []}, "chunk": 2} | options
    options = ({} if "lr" in options.get("grid", {}) else {"lr": 0.1}) | options
    return funcbio.sweep(net, F.cross_entropy, data, progress=False, record_every=2, **options)


def alike(one, other):
    assert one.table == other.table
    assert one.hyper == other.hyper
    for name in ("params", "buffers"):
        pairs = zip(getattr(one, name).items(), getattr(other, name).items(), strict=True)
        assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def parts_of(name, values):
    """A sweep of all values, and those of each alone."""
    return swept(**{name: values}), [swept(**{name: part}) for part in values]


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        ({"mechanisms": LISTS}, [{"mechanisms": {name: each}} for name, each in LISTS.items()]),
        ({"seeds": [3, 1, 8, 0]}, [{"seeds": [3, 1]}, {"seeds": [8, 0]}]),
        ({"grid": {"lr": [0.1, 0.3]}}, [{"grid": {"lr": [lr]}} for lr in (0.1, 0.3)]),
        ({"grid": {"momentum": [0.0, 0.5]}}, [{"grid": {"momentum": [m]}} for m in (0.0, 0.5)]),
        ({**VOLUME, "grid": {"base_lr": [0.1, 0.3]}}, [{**VOLUME, "grid": {"base_lr": [lr]}} for lr in (0.1, 0.3)]),
    ],
    ids=["mechanisms", "seeds", "numbers", "options", "configuration"],
)
def test_joined_parts_are_the_whole(whole, parts):
    first, *others = (swept(**part) for part in parts)
    alike(first.join(*others), swept(**whole))


def test_times_add_up_and_a_joined_result_is_joined_on():
    parts = [swept(seeds=[seed]) for seed in range(3)]
    joined = parts[0].join(parts[1]).join(parts[2])
    alike(joined, swept(seeds=3, chunk=1))
    assert joined.seconds == pytest.approx(sum(part.seconds for part in parts))
    assert joined.member_steps == sum(part.member_steps for part in parts)
    assert parts[0].join().table == parts[0].table


def test_results_keep_their_settings_through_pickle_label_and_best():
    first = swept(grid={"lr": [0.1, 0.3]}, seeds=2)
    for kept in (pickle.loads(pickle.dumps(first)), first.label(a=1), first.best("train_loss", "lr"), first.join()):
        assert kept.settings == first.settings
    other = swept(grid={"lr": [0.1, 0.3]}, mechanisms={"l2": ["l2_init"]}, seeds=2)
    both = first.best("train_loss", "lr").join(other.best("train_loss", "lr"))
    assert both.table["mechanisms"] == ["plain", "plain", "l2", "l2"]


TRIED = {
    "steps": {"steps": 6},
    "batch_size": {"batch_size": 10},
    "lr": {"lr": 0.2},
    "optimizer": {"optimizer": torch.optim.AdamW},
    "momentum": {"optimizer": partial(torch.optim.SGD, momentum=0.5)},
    "base_lr": {"config": BioConfig(base_lr=0.3)},
    "share": {"share": ["weights"]},
    "synapses": {"synapses": ["0.weight"]},
    "newborn": {"newborn": "zero"},
    "data": {"data": (X + 1.0, Y)},
}


@pytest.mark.parametrize(("name", "options"), TRIED.items(), ids=TRIED)
def test_other_settings_are_refused_by_name_unless_labelled(name, options):
    first, other = swept(), swept(seeds=[2], **options)
    message = "same steps" if name == "steps" else rf"result.label\({name}=\.\.\.\); found another {name}"
    with pytest.raises(ValueError, match=message):
        first.join(other)
    if name == "optimizer":
        labelled = [part.label(optimizer=kind, momentum="") for part, kind in ((first, "sgd"), (other, "adam"))]
        with pytest.raises(ValueError, match="found another"):  # AdamW has a weight decay by default.
            labelled[0].join(labelled[1])
    elif name != "steps":
        assert first.label(**{name: "a"}).join(other.label(**{name: "b"})).members == 3


def test_large_data_are_compared_by_some_of_their_elements(monkeypatch):
    monkeypatch.setattr(_settings, "MOST_ELEMENTS", 7)
    first = swept()
    assert first.join(swept(seeds=[2], data=(X.clone(), Y.clone()))).members == 3
    for other in ((X.flip(0), Y), (X, Y.flip(0)), (X[:39], Y[:39])):
        with pytest.raises(ValueError, match="found another data"):
            first.join(swept(seeds=[2], data=other))


@pytest.mark.parametrize("what", ["test", "metrics", "train_metrics"])
def test_other_measures_are_refused(what):
    options = {"test": {"test": (X, Y)}, "metrics": {"test": (X, Y), "metrics": {"accuracy": accuracy}}}
    options["train_metrics"] = {"train_metrics": {"accuracy": accuracy}}
    with pytest.raises(ValueError, match="results should be of the same metrics"):
        swept().join(swept(seeds=[2], **options[what]))
    first = swept(**options["metrics"])
    with pytest.raises(ValueError, match="found another test"):
        first.join(swept(seeds=[2], **options["metrics"] | {"test": (X[:20], Y[:20])}))


def test_lists_of_one_name_are_the_same():
    first = swept(mechanisms=LISTS)
    with pytest.raises(ValueError, match=r"found another mechanisms\['l2'\]"):
        first.join(swept(mechanisms={"l2": ["l2_init", "fuzzy_learning_rates"]}, seeds=[2]))
    with pytest.raises(ValueError, match=r"found another mechanisms\['plain'\].length: 0 and 1"):
        first.join(swept(mechanisms={"plain": ["l2_init"]}, seeds=[2]))
    with pytest.raises(ValueError, match="found another mechanisms"):
        swept(mechanisms=[]).join(swept(mechanisms=["l2_init"], seeds=[2]))


def test_lists_get_other_names_as_the_message_says():
    first, other = swept(mechanisms=LISTS), swept(mechanisms={"plain": ["l2_init"]}, seeds=[2])
    with pytest.raises(ValueError, match=r"told apart: result.label\(mechanisms={'plain': \.\.\.}\); found another"):
        first.join(other)
    both = first.join(other.label(mechanisms={"plain": "also l2"}))
    alike(both, first.join(swept(mechanisms={"also l2": ["l2_init"]}, seeds=[2])))
    with pytest.raises(ValueError, match=r"found another mechanisms\['also l2'\]"):
        both.join(swept(mechanisms={"also l2": []}, seeds=[3]))
    renamed = first.label(mechanisms={"plain": "l2", "l2": "plain"})
    with pytest.raises(ValueError, match=r"found another mechanisms\['l2'\]"):
        renamed.join(swept(mechanisms=LISTS, seeds=[2]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"plane": "a"}, r"mechanisms should be one of the lists of mechanisms 'plain', 'l2', 'bio'; found 'plane'"),
        ({"plain": "l2"}, r"mechanisms should be given different names; found \['l2', 'l2', 'bio'\]"),
        ({"plain": 3}, r"mechanisms should be named by texts; found 3"),
    ],
)
def test_new_names_of_lists_keep_the_lists_apart(names, message):
    table = {"member": [0, 1, 2], "seed": [0] * 3, "mechanisms": [*LISTS], "step": [1] * 3, "loss": [1.0] * 3}
    with pytest.raises(ValueError, match=message):
        SweepResult(table, ["mechanisms"], {}, {}).label(mechanisms=names)


@pytest.mark.parametrize("listed", [["l2_init"], ["volume_dependent_lr"], []], ids=["same", "other", "none"])
def test_a_list_that_gets_a_name_is_that_of_a_sweep_with_this_name(listed):
    named = swept(mechanisms={"a": ["l2_init"]})
    labelled = swept(mechanisms=listed, seeds=[2]).label(mechanisms="a")
    if listed == ["l2_init"]:
        alike(named.join(labelled), swept(mechanisms={"a": ["l2_init"]}, seeds=3))
    else:
        with pytest.raises(ValueError, match=r"found another mechanisms\['a'\]"):
            named.join(labelled)
    unnamed = swept(mechanisms=["l2_init"])
    assert unnamed.label(mechanisms="b").join(labelled).table["mechanisms"] == ["b"] * 4 + ["a"] * 2


def test_overlap_is_refused():
    first = swept(mechanisms=LISTS)
    with pytest.raises(ValueError, match=r"no run in common; found seed 1 at {'mechanisms': 'plain'} in two of them"):
        first.join(swept(seeds=[1, 2]))
    with pytest.raises(ValueError, match="no run in common; found seed 0"):
        first.join(first)
    assert first.label(part="a").join(first.label(part="b")).members == 2 * first.members


def test_other_columns_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"by result.label\(lr=\.\.\.\); found 'lr' in the first only"):
        swept(grid={"lr": [0.1, 0.3]}).join(swept(seeds=[2]))
    with pytest.raises(ValueError, match="found 'mechanisms' in the other only"):
        swept(mechanisms=[]).join(swept(seeds=[2]))


def test_results_without_settings_are_compared_by_their_tables():
    table = {"member": [0], "seed": [0], "step": [1], "loss": [1.0]}
    result = SweepResult(table, (), {"w": torch.zeros(1, 2)}, {})
    for other, message in (
        (SweepResult(table | {"step": [2], "seed": [1]}, (), {"w": torch.zeros(1, 2)}, {}), "same steps in the table"),
        (SweepResult(table | {"seed": [1]}, (), {"w": torch.zeros(1, 3)}, {}), "same parameters"),
        (SweepResult(table | {"seed": [1]}, (), {"v": torch.zeros(1, 2)}, {}), "same parameters"),
    ):
        with pytest.raises(ValueError, match=message):
            result.join(other)
    assert result.join(SweepResult(table | {"seed": [1]}, (), {"w": torch.ones(1, 2)}, {})).members == 2


@pytest.mark.parametrize("name", ["member", "seed", "step", "loss", "lr"])
def test_a_label_is_a_new_column(name):
    result = SweepResult({"member": [0], "seed": [0], "lr": [1], "step": [1], "loss": [1.0]}, ["lr"], {}, {})
    with pytest.raises(ValueError, match=f"label should have a new name, not that of a column; found '{name}'"):
        result.label(**{name: 1})
    with pytest.raises(ValueError, match="kind should be a number or a text; found None"):
        result.label(kind=None)
    assert list(result.label(kind="a").table) == ["member", "seed", "lr", "kind", "step", "loss"]


class Odd:
    """A loss that cannot be described."""

    __slots__ = ("call",)

    def __call__(self, output, target):
        return F.cross_entropy(output, target)

    def __reduce_ex__(self, protocol):
        raise TypeError("no")


def test_what_cannot_be_compared_is_said():
    of = lambda seed: funcbio.sweep(net, Odd(), (X, Y), steps=2, batch_size=8, seeds=[seed], progress=False)
    with pytest.warns(UserWarning, match=r"loss .* should be the same .*, which cannot be seen"):
        of(0).join(of(1))
