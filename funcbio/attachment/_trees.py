"""What is attached, as the three trees of the pure features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from funcbio.attachment._turnover import Ages
from funcbio.base import BioState, Tree
from funcbio.bio_module import BioModule
from funcbio.initial import initial_activity
from funcbio.sharding import local, shard_like


def trees_of(bios: Sequence[BioModule], ages: Ages) -> tuple[Tree, Tree, BioState]:
    """Weights, gradients and state of some layers by name; nothing is copied but what has to be laid out."""
    named = {bio.synapse.weight: bio for bio in bios}
    params = {name: bio.weight.detach() for name, bio in named.items()}
    grads = {name: _grad(bio) for name, bio in named.items()}
    none = torch.zeros((), dtype=torch.bool)
    state = BioState(
        rate={name: bio.fuzzy_learning_rate_parameters for name, bio in named.items()},
        sign={name: _sign(bio) for name, bio in named.items()},
        activity={name: _activity(bio) for name, bio in named.items()},
        replaced={
            name: ages.replaced.get(name, none.to(weight.device).expand(weight.shape))
            for name, weight in params.items()
        },
        updates=local(bios[0].updates),
        age=dict(ages.steps) if ages.counts else (),
    )
    return params, grads, state


def _grad(bio: BioModule) -> Tensor:
    return torch.zeros_like(bio.weight) if bio.weight.grad is None else bio.weight.grad


def _sign(bio: BioModule) -> Tensor:
    sign = bio.held("sign")
    return bio.weight.new_ones(()) if sign is None else sign


def _activity(bio: BioModule) -> Tensor:
    if not bio.records_activity:
        return initial_activity(bio.weight, bio.synapse, bio.config)
    shape = bio.weight.shape
    return shard_like(bio.synapse.along_post(local(bio.activation_count), shape), bio.weight)
