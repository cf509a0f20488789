"""BioModule: the mechanisms of one layer, as an object attached to it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from funcbio import rng
from funcbio.base import BioState, Key
from funcbio.bind import ROWS
from funcbio.bio_config import DEFAULT_BIO_CONFIG, BioConfig, Distribution
from funcbio.initial import initial_activity, initial_rate, initial_sign
from funcbio.mechanisms import check_divides, count_active, split_output
from funcbio.observe import unit_dim
from funcbio.synapses import Synapse, synapses

NO_GRADIENTS = "No gradients found for the weights"
NO_DALE = "Can not enforce dales principle without apply_dales_principle set True"
NO_ACTIVITY = "No activity recorded: set record_activity=True in the configuration"


class BioModule(nn.Module):
    """Holds one layer's rate factors, signs and counters, and runs the mechanisms on the layer in place.

    Every method is the pure function of the same name, applied to the one-leaf trees of this layer's weight.

    Args:
        parent: The layer, or a callable that returns it.
        config: The configuration.
        synapse: Description of the layer's weight within its model; None for a layer on its own.
        key: Key of all draws; None makes one from torch's global generator.

    Attributes:
        exposed_functions: Names of the methods that a converter also puts on the model. A subclass may extend it.
        fuzzy_learning_rate_parameters: Buffer, the rate factors, shaped like the weight.
        activation_count: Buffer, int64 count of active outputs of each unit; only where activity is recorded.
        sign: Buffer, Dale signs, broadcasting with the weight; only under Dale's principle.
        key: Buffer, int32 key of the next draw.

    Raises:
        ConfigError: If a value of the configuration is out of its limits.
        ValueError: If ``weight_splitting_Gamma`` does not divide the layer's units.

    Example:
        >>> layer = torch.nn.Linear(3, 2)
        >>> bio = BioModule(layer, BioConfig(fuzzy_lr_distribution="baseline"))
        >>> bio.l1_reg()
        tensor(6.)
    """

    exposed_functions: tuple[str, ...] = (
        "rejuvenate_weights",
        "crystallize",
        "fuzzy_learning_rates",
        "volume_dependent_lr",
        "update_fuzzy_learning_rates",
        "enforce_dales_principle",
        "scale_grad",
        "l1_reg",
        "rejuvenate_weights_old",
    )
    fuzzy_learning_rate_parameters: Tensor
    updates: Tensor
    activation_count: Tensor
    observations: Tensor
    key: Tensor

    def __init__(
        self,
        parent: nn.Module | Callable[[], nn.Module],
        config: BioConfig = DEFAULT_BIO_CONFIG,
        *,
        synapse: Synapse | None = None,
        key: Key | None = None,
    ) -> None:
        super().__init__()
        layer = parent if isinstance(parent, nn.Module) else parent()
        # In a tuple the layer is no child of its own child, and copies and pickles point to the copied layer.
        self._parent = (layer,)
        self.config = config
        self.synapse = lone_synapse(layer, config) if synapse is None else synapse
        weight = self._weight()
        check_splitting(self.synapse, weight, config)
        key = rng.key(fresh_seed(), device=weight.device) if key is None else key.to(weight.device)
        self.register_buffer("key", key.clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=weight.device))
        with torch.no_grad():
            self.register_buffer("fuzzy_learning_rate_parameters", initial_rate(key, weight, self.synapse, config))
            if config.records_activity:
                units = self.synapse.post_units(weight.shape)
                count = torch.zeros(units, dtype=torch.int64, device=weight.device)
                self.register_buffer("activation_count", count)
                self.register_buffer("observations", torch.zeros_like(self.updates))
            if config.apply_dales_principle:
                self.register_buffer("sign", initial_sign(key, weight, self.synapse, config))
                self._run("apply_dales_principle")

    def get_parent(self) -> nn.Module:
        """Returns the layer."""
        return self._parent[0]

    def rejuvenate_weights(self) -> Tensor:
        """Replaces weak weights and returns which, as a bool tensor; see ``funcbio.rejuvenate_weights``."""
        return self._run("rejuvenate_weights").replaced[self.synapse.weight]

    def rejuvenate_weights_old(self) -> Tensor:
        """Replaces weak weights by the rule of the paper's experiments; a name of earlier code."""
        return self._run("rejuvenate_weights", variant="uniform").replaced[self.synapse.weight]

    def crystallize(self) -> None:
        """Dampens the rate of settled and jumpy weights; see ``funcbio.crystallize``."""
        if not self._weight().requires_grad:
            raise RuntimeError("Weights do not require gradients")
        self._run("crystallize")

    def fuzzy_learning_rates(self) -> None:
        """Scales the gradient by the rate factors; see ``funcbio.fuzzy_learning_rates``."""
        self._run("fuzzy_learning_rates")

    def volume_dependent_lr(self) -> None:
        """Scales the gradient by volume, to about a tenth; see ``funcbio.volume_dependent_lr``."""
        self._run("volume_dependent_lr")

    def scale_grad(self) -> None:
        """Scales the gradient by recorded activity; see ``funcbio.scale_grad``."""
        if not self.config.records_activity:
            raise RuntimeError(NO_ACTIVITY)
        self._run("scale_grad")

    def update_fuzzy_learning_rates(self, x: Tensor | None = None) -> None:
        """Moves the rate factors on, if ``fuzzy_lr_dynamic``; see ``funcbio.update_fuzzy_learning_rates``.

        Args:
            x: The layer's input, used only if no forward pass was recorded since the last update.
        """
        if not self.config.fuzzy_lr_dynamic:
            return
        if x is not None and self.lacks_observation():
            run_once(self.get_parent(), x)
        self._run("update_fuzzy_learning_rates")
        if self.config.records_activity:
            self.observations.zero_()

    def enforce_dales_principle(self) -> None:
        """Sets weights of the wrong sign to zero; see ``funcbio.enforce_dales_principle``."""
        if not self.config.apply_dales_principle:
            raise AttributeError(NO_DALE)
        self._run("enforce_dales_principle")

    def l1_reg(self) -> Tensor:
        """Returns the sum of the absolute rate factors."""
        return self.fuzzy_learning_rate_parameters.abs().sum()

    def lacks_observation(self) -> bool:
        """Whether rates follow activity and no forward pass was recorded since the last update."""
        follows = self.config.fuzzy_lr_distribution == Distribution.ACTIVITY
        return follows and not self.observations.any()

    def has_gradient(self) -> bool:
        """Whether the layer's weight is trained and has a gradient."""
        return self._weight().requires_grad and self._weight().grad is not None

    def forward(self, output: Tensor) -> Tensor:
        """Counts the active units of the layer's output, and splits its weights."""
        dim = unit_dim(self.fuzzy_learning_rate_parameters)
        if self.config.records_activity:
            self.activation_count.add_(count_active(output, dim=dim))
            self.observations.add_(1)
        if self.synapse.readout:
            return output
        activation = self.config.weight_splitting_activation_function
        return split_output(output, self.config.weight_splitting_Gamma, activation=activation, dim=dim)

    def extra_repr(self) -> str:
        """Shows the distribution of the rates."""
        return f"distribution={self.config.fuzzy_lr_distribution.value}"  # pyright: ignore[reportAttributeAccessIssue]

    def _weight(self) -> nn.Parameter:
        weight = self.get_parent().weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def _state(self, weight: Tensor) -> BioState:
        name, none = self.synapse.weight, weight.new_ones(())
        count = initial_activity(weight, self.synapse, self.config)
        if self.config.records_activity:
            count = self.synapse.along_post(self.activation_count, weight.shape)
        return BioState(
            rate={name: self.fuzzy_learning_rate_parameters},
            sign={name: getattr(self, "sign", none)},
            activity={name: count},
            updates=self.updates,
        )

    @torch.no_grad()
    def _run(self, name: str, **hyper: Any) -> BioState:
        """Runs a row of the table on this layer and writes back what the feature changed."""
        row, weight, leaf = ROWS[name], self._weight(), self.synapse.weight
        if row.needs_grad and weight.grad is None:
            raise RuntimeError(f"{NO_GRADIENTS} of {leaf}")
        grad = weight.grad if row.needs_grad and weight.grad is not None else weight.new_zeros(())
        before = {leaf: weight}, {leaf: grad}, self._state(weight)
        params, grads, state = row.bound(self.config, **hyper)(*before, key=self.key)
        written = (
            (weight, params[leaf]),
            (grad, grads[leaf]),
            (self.fuzzy_learning_rate_parameters, state.rate[leaf]),
            (self.updates, state.updates),
        )
        for target, value in written:
            if value is not target:
                target.copy_(value)
        if row.draws:
            self.key.copy_(rng.fold_in(self.key, "next"))
        return state


def check_splitting(synapse: Synapse, weight: Tensor, config: BioConfig) -> None:
    """Raises ValueError if the layer would be split and its units make no whole groups."""
    if config.weight_splitting_Gamma > 1 and not synapse.readout:
        check_divides(config.weight_splitting_Gamma, synapse.post_units(weight.shape), synapse.weight)


def lone_synapse(layer: nn.Module, config: BioConfig) -> Synapse:
    """Describes a layer outside a model; its depth is the one the configuration states, if any."""
    (synapse,) = synapses(layer).values()
    if config.fuzzy_lr_layer_index < 0 or config.fuzzy_lr_total_layers < 1:
        return synapse
    return replace(synapse, index=config.fuzzy_lr_layer_index, total=config.fuzzy_lr_total_layers)


@torch.no_grad()
def run_once(model: nn.Module, x: Any) -> None:
    """Runs a model once for its activity, in evaluation mode so that nothing else of it changes."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        model(x)
    finally:
        for module in training:
            module.training = True


def fresh_seed() -> int:
    """Takes one seed from torch's global generator, the only use we make of it."""
    return int(torch.randint(2**62, ()))
