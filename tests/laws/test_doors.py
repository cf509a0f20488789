"""Layers alone and together, a combined step, pure functions and vmap: the same to the bit, or the same error."""

import doors
import pytest
import torch
from doors import SpoiledError, Start, by_functions, by_layers, combined, made, mix, one_by_one, outcome, state_of
from optree import tree_leaves

import funcbio
from funcbio import chain, key, split
from funcbio.engine._options import OPTIONS

pytestmark = [  # Generated mixes often leave nothing to do.
    pytest.mark.filterwarnings("ignore::funcbio.IdleWarning"),
    pytest.mark.filterwarnings("ignore:.* should find weights that are trained:UserWarning"),
]

CHUNK = 250
FEW = range(300)
MANY = [range(start, start + CHUNK) for start in range(1000, 11_000, CHUNK)]
TRIED = []


@pytest.fixture(autouse=True)
def _few_numbers_ahead(monkeypatch):
    """Every model is a new one here: numbers of many calls to come would take most of the time."""
    monkeypatch.setattr(OPTIONS, "drawn_elements", 1 << 12)


@pytest.fixture(autouse=True)
def _counted(record_property):
    """Hands the number of mixes to the summary; see conftest."""
    before = len(TRIED)
    yield
    record_property("mixes of doors", len(TRIED) - before)


def compare(number):
    """Runs the mix of a number by every door."""
    chosen = mix(number)
    try:
        model = made(chosen)
    except SpoiledError:
        return
    TRIED.append(number)
    before, start = state_of(model), Start(model)
    expected = outcome(start, one_by_one, chosen.methods)
    found = outcome(start, combined, chosen.methods)
    assert found.error == expected.error
    if expected.error is not None:
        assert found.state == before
        return
    assert (found.masks, found.state) == (expected.masks, expected.state)
    alone = outcome(start, by_layers, chosen.methods)
    assert (alone.error, alone.masks, alone.state) == (None, expected.masks, expected.state)
    if chosen.overridden is None:
        pure = outcome(start, by_functions, chosen.methods)
        assert (pure.error, pure.masks, pure.state) == (None, expected.masks, expected.state)
        if number % 4 == 0 and not any(one.grads in doors.ODD_GRADS for one in chosen.layers):
            with start:
                transforms(model, chosen)


def transforms(model, chosen):
    """Whole trees against single leaves, chains against their features, vmap against a loop."""
    names = [bio.synapse.weight for bio in doors.bio_mods(model) if bio.synapse.observable and bio.records_activity]
    params, grads, state = funcbio.trees(model)
    if not names or not grads:
        return
    args = doors.widened((params, grads, state), names)
    features = doors.features(doors.bio_mods(model)[0].config)
    steps = [features[name] for name in chosen.methods if name != "enforce_dales_principle" or state.sign]
    k = key(chosen.seed)
    whole = chain(*steps)(*args, key=k)
    loose = args
    for step in steps:
        loose = step(*loose, key=k)
    same(whole, loose)
    for name in names[:2]:
        same(doors.only(whole, name), chain(*steps)(*doors.only(args, name), key=k))
    keys, worlds = split(k, 2), [args, doors.turned(args, 1)]
    call = lambda k, *args: chain(*steps)(*args, key=k)
    mapped = torch.vmap(call)(keys, *doors.stacked(worlds))
    same(mapped, doors.stacked([call(k, *args) for k, args in zip(keys, worlds, strict=True)]))


def same(first, second):
    assert [leaf.dtype for leaf in tree_leaves(first)] == [leaf.dtype for leaf in tree_leaves(second)]
    assert doors.results(first) == doors.results(second)


def all_of(numbers):
    """Compares mixes, and shows the first that fails."""
    for number in numbers:
        try:
            compare(number)
        except Exception as error:
            error.add_note(f"mix {number}: {mix(number)}") if hasattr(error, "add_note") else print(mix(number))
            raise


@pytest.mark.parametrize("numbers", [FEW[start : start + 100] for start in range(0, len(FEW), 100)], ids=str)
def test_every_door_leads_to_the_same(numbers):
    all_of(numbers)


@pytest.mark.slow
@pytest.mark.parametrize("numbers", MANY, ids=str)
def test_every_door_leads_to_the_same_at_length(numbers):
    all_of(numbers)
