"""Mechanisms and fields of the configuration that would have no effect in some members of a sweep."""

from torch import nn

from funcbio.anatomy._synapses import synapses
from funcbio.functional._idle import idle_fields, idle_mechanisms
from funcbio.sweeps._job import Job
from funcbio.sweeps._periods import late
from funcbio.sweeps._unused import unused


def idle_members(job: Job, network: nn.Module) -> list[str]:
    """Returns why mechanisms and fields of the configuration would not affect a network, every reason once."""
    described = synapses(network, job.synapses)
    trained = sum(network.get_parameter(name).requires_grad for name in described)
    optimizer = job.recipe.make if isinstance(job.recipe.make, type) else type(job.recipe.make)
    reasons = dict.fromkeys([*_no_decay(job), *unused(job.trials)])
    for trial in {trial.kind: trial for trial in job.trials}.values():
        idle = idle_mechanisms(trial.mechanisms, trial.config, trained=trained, optimizer=optimizer)
        reasons.update(dict.fromkeys([*idle, *idle_fields(trial.config, described.values())]))
    for trial in job.trials:  # Periods may differ between members that train together.
        reasons.update(dict.fromkeys(late(job, trial)))
    return [*reasons]


def _no_decay(job: Job) -> list[str]:
    decays = any("weight_decay" in trial.numbers for trial in job.trials)
    if decays or not job.recipe.no_decay:
        return []
    return ["no_decay should be given with weight_decay, in the optimizer or the grid; found no weight decay"]
