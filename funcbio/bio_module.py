"""BioModule: the mechanisms of one layer, as an object attached to it."""

from torch import Tensor

from funcbio.functional._observe import run_once
from funcbio.mechanisms import METHODS
from funcbio.objects._layer import BioLayer
from funcbio.tensors._sharding import whole


class BioModule(BioLayer):
    """Holds one layer's rate factors, signs and counters, and runs the mechanisms on the layer in place.

    Every method is the pure function of the same name, applied to the one-leaf trees of this layer's weight.

    Args:
        parent: The layer, or a callable that returns it.
        config: The configuration.
        synapse: Description of the layer's weight within its model; None for a layer on its own.
        key: Key of all draws; None makes one from torch's global generator.
        features: Further features to offer as methods, by name; see ``BioConverter.expose``.

    Attributes:
        exposed_functions: Names of the methods that a converter also puts on the model. A subclass may extend it.
        summed_functions: Those of them that change nothing and return a number; the model's method returns the sum.
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

    exposed_functions: tuple[str, ...] = (*METHODS, "l1_reg")
    summed_functions: tuple[str, ...] = ("l1_reg",)

    def rejuvenate_weights(self) -> Tensor:
        """Replaces weak weights and returns which, as a bool tensor; see ``funcbio.rejuvenate_weights``."""
        return self.run_and_finish("rejuvenate_weights")

    def rejuvenate_weights_old(self) -> Tensor:
        """Replaces weak weights by the rule of the paper's experiments; a name of earlier code."""
        return self.run_and_finish("rejuvenate_weights_old")

    def crystallize(self) -> None:
        """Dampens the rate of settled and jumpy weights; see ``funcbio.crystallize``."""
        self.run("crystallize")

    def fuzzy_learning_rates(self) -> None:
        """Scales the gradient by the rate factors; see ``funcbio.fuzzy_learning_rates``."""
        self.run("fuzzy_learning_rates")

    def volume_dependent_lr(self) -> None:
        """Scales the gradient by volume, to about a tenth; see ``funcbio.volume_dependent_lr``."""
        self.run("volume_dependent_lr")

    def scale_grad(self) -> None:
        """Scales the gradient by recorded activity; see ``funcbio.scale_grad``."""
        self.run("scale_grad")

    def update_fuzzy_learning_rates(self, x: Tensor | None = None) -> None:
        """Moves the rate factors on, if ``fuzzy_lr_dynamic``; see ``funcbio.update_fuzzy_learning_rates``.

        Args:
            x: The layer's input, used only if no forward pass was recorded since the last update.
        """
        if not self.moves():
            return
        if x is not None and self.lacks_observation():
            run_once(self.get_parent(), x)
        self.run_and_finish("update_fuzzy_learning_rates")

    def enforce_dales_principle(self) -> None:
        """Sets weights of the wrong sign to zero; see ``funcbio.enforce_dales_principle``."""
        self.run("enforce_dales_principle")

    def l1_reg(self) -> Tensor:
        """Returns the sum of the absolute rate factors."""
        return whole(self.fuzzy_learning_rate_parameters.abs().sum())


BioLayer.documented = BioModule
