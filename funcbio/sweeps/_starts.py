"""A check that seeds differ in their initial weights."""

from torch import Tensor, nn

from funcbio.sweeps._job import Job
from funcbio.sweeps._stack import build

SHARE = "share=['weights']"


def same_starts(job: Job, network: nn.Module) -> list[str]:
    """Returns why initial weights would not differ between seeds; an empty list if they differ, or are shared.

    Args:
        job: The sweep.
        network: The first member's network, as the factory has just returned it.

    Raises:
        ValueError: If the reason is that the factory returns one and the same network.
    """
    first = job.trials[0]
    other = next((trial for trial in job.trials if trial.seed != first.seed), None)
    if other is None or "weights" in job.shared:
        return []
    before = _weights(network)
    again = build(job.model, other, job.shared)
    after = _weights(again)
    if not before or before.keys() != after.keys() or not all(before[name].equal(after[name]) for name in before):
        return []
    if again is network:
        raise ValueError(
            f"model should make a new network whenever it is called, unless {SHARE} says that all seeds start alike; "
            "found one network returned twice"
        )
    return [
        f"model should draw other weights for every seed, unless {SHARE} says that all seeds start alike; found the "
        f"same weights for the seeds {first.seed} and {other.seed}"
    ]


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in network.named_parameters() if weight.requires_grad}
