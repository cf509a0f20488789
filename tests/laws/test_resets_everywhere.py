"""Resets on every architecture: they change exactly the entries that a mask by hand says, and map over seeds."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import funcbio
from funcbio import key

sys.path.insert(0, str(Path(__file__).parents[1] / "anatomy"))

from architectures import ARCHITECTURES

INPUTS_FIRST = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Embedding, nn.EmbeddingBag)


def world(name):
    torch.manual_seed(0)
    net = ARCHITECTURES[name]
    model = net.make()
    table = funcbio.units(model, *net.example)
    params = {name: value.detach() for name, value in model.named_parameters()}
    wide = sorted(name for name, value in params.items() if value.ndim > 1)
    synapses = funcbio.synapses(model, [one for one in wide if funcbio_takes(model, one)])
    state = funcbio.init(params, key=key(0), synapses=synapses, units=table, keep=["redo"])
    for population, signal in state.units["signal"].items():
        state.units["signal"][population] = (torch.arange(len(signal)) % 2).float()  # Every second unit is silent.
    return model, net.answers, table, params, state


def funcbio_takes(model, name):
    """Whether a parameter can be a synapse: nothing that is computed, nor a norm's."""
    owner = model.get_submodule(name.rpartition(".")[0])
    return not isinstance(owner, nn.LayerNorm) and "bias" not in name.rpartition(".")[2]


def is_turned(model, name, rows, columns):
    """Whether the first dimension of a weight is that of the inputs."""
    weight, owner = model.get_parameter(name), model.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, INPUTS_FIRST):
        return True
    if weight.shape[0] != weight.shape[1]:
        return rows == weight.shape[1] if rows else columns == weight.shape[0]
    return type(owner).__name__ == "AddMm"


def by_hand(model, answers, params):
    """Masks of what belongs to, and what leaves, every second unit, of those that may be replaced."""
    masks = {name: torch.zeros(value.shape, dtype=torch.bool) for name, value in params.items()}
    for answer in answers.values():
        for unit in [unit for unit in answer.replaceable if unit % 2 == 0]:
            for name, owners in answer.parts.items():
                for entry, owner in enumerate(owners):
                    if owner == unit and name in params:
                        mark(
                            masks[name],
                            entry,
                            rows=True,
                            turned=params[name].ndim > 1 and is_turned(model, name, len(owners), 0),
                        )
            for name, (owners, alone) in answer.feeds.items():
                groups = getattr(model.get_submodule(name.rpartition(".")[0]), "groups", 1)
                for column, owner in enumerate(owners):
                    if owner == unit and alone[column]:
                        turned = is_turned(model, name, 0, len(owners))
                        mark(masks[name], column, rows=False, turned=turned, groups=groups)
    return masks


def mark(mask, at, *, rows, turned, groups=1):
    if mask.ndim == 1 or rows != turned:  # An entry of a vector, or a position along the first dimension.
        mask[at] = True
    elif groups == 1:
        mask[:, at] = True
    else:
        outputs, inputs = mask.shape[0] // groups, mask.shape[1]
        group = at // inputs
        mask[group * outputs : (group + 1) * outputs, at % inputs] = True


def dense(state, params):
    """Which entries were replaced, false where nothing could be."""
    return {n: m if m.ndim else torch.zeros(params[n].shape, dtype=torch.bool) for n, m in state.replaced.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_resets_change_exactly_what_a_mask_by_hand_says(name):
    model, answers, table, params, state = world(name)
    new, _, after = funcbio.redo(params, params, state, key=key(1), units=table, every=1, threshold=0.1)
    expected, replaced = by_hand(model, answers, params), dense(after, params)
    for leaf, mask in expected.items():
        assert torch.equal(replaced[leaf], mask), leaf
        assert torch.equal(new[leaf][~mask], params[leaf][~mask]), leaf
    chosen = {name: [u for u in answer.replaceable if u % 2 == 0] for name, answer in answers.items() if answer.feeds}
    assert {n: m.nonzero().flatten().tolist() for n, m in after.units["unit_new"].items()} == chosen


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_resets_map_over_seeds_to_the_bit(name):
    _, _, table, params, state = world(name)

    def reset(seed):
        return funcbio.redo(params, params, state, key=seed, units=table, every=1, threshold=0.1)[0]

    keys = torch.stack([key(seed) for seed in range(3)])
    together = torch.vmap(reset)(keys)
    for seed in range(3):
        alone = reset(keys[seed])
        assert all(torch.equal(together[leaf][seed], alone[leaf]) for leaf in params)
