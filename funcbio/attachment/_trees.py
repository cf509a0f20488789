"""The attached layers as the three trees of the pure features."""

from collections.abc import Sequence

import torch

from funcbio.attachment._turnover import Ages
from funcbio.base import BioState, Tree
from funcbio.objects._buffers import kept_state, places_of
from funcbio.objects._layer import BioLayer
from funcbio.objects._trees import state_of


def trees_of(bios: Sequence[BioLayer], ages: Ages) -> tuple[Tree, Tree, BioState]:
    """Returns weights, gradients and state of some layers by name, copying only where the layout has to change."""
    named = {bio.synapse.weight: bio for bio in bios}
    params = {name: bio.weight.detach() for name, bio in named.items()}
    grads = {n: torch.zeros_like(b.weight) if b.weight.grad is None else b.weight.grad for n, b in named.items()}
    kept = {name: torch.zeros((), dtype=torch.bool, device=weight.device) for name, weight in params.items()}
    replaced = {name: ages.replaced.get(name, kept[name].expand(weight.shape)) for name, weight in params.items()}
    age = dict(ages.steps) if ages.counts else ()
    state = state_of(params, named)._replace(replaced=replaced, age=age)
    return params, grads, state._replace(**kept_state(places_of(bios)))
