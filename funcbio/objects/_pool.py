"""Activity of a model that several processes train, each on data of its own."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from funcbio.mechanisms import NO_ACTIVITY
from funcbio.objects._survey import bio_modules
from funcbio.tensors._sharding import local


@torch.no_grad()
def pool_activity(model: nn.Module, group: "dist.ProcessGroup | None" = None) -> None:
    """Replaces the activity that each process counted by the mean over all processes, rounded to whole counts.

    The mechanisms look at a unit's count relative to its layer's mean, so a mean serves them as well as a sum, and
    pooling twice changes nothing. All processes call it together, after the forward pass and before ``scale_grad``
    or ``update_fuzzy_learning_rates``: else each follows its own data, and replicas part.

    Args:
        model: A converted model, wrapped or not, that records activity.
        group: The processes with different data; None for all. Without processes, nothing happens.

    Raises:
        RuntimeError: If no layer records activity.

    Example:
        >>> net = BioConverter(record_activity=True)(torch.nn.Linear(3, 2))
        >>> pool_activity(net)
    """
    counts = [local(bio.activation_count) for bio in bio_modules(model) if bio.records_activity]
    if not counts:
        raise RuntimeError(NO_ACTIVITY)
    if dist.is_available() and dist.is_initialized():
        for count, mean in zip(counts, _means(counts, group), strict=True):
            count.copy_(mean)


def _means(counts: list[Tensor], group: "dist.ProcessGroup | None") -> tuple[Tensor, ...]:
    total = torch.cat(counts)
    dist.all_reduce(total, group=group)
    size = dist.get_world_size(group)
    return torch.div(total + size // 2, size, rounding_mode="floor").split([count.numel() for count in counts])
