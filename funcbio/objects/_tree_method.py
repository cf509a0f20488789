"""Methods of a converted model that act on all of its parameters, as trees."""

from typing import Any

import torch
from torch import Tensor

from funcbio.mechanisms import ROWS, Row
from funcbio.objects._checks import NO_GRADIENTS
from funcbio.objects._finite import finite_gradients
from funcbio.objects._kept import Bare, check_part, trained_parts
from funcbio.objects._layer import BioLayer
from funcbio.objects._on_trees import run_on_trees
from funcbio.objects._survey import Overview, Survey


class TreeMethod:
    """Runs a mechanism of the table on all trained parameters of a converted model, biases and norms included.

    Args:
        overview: The overview of the converted model.
        name: Name of the mechanism.
    """

    def __init__(self, overview: Overview, name: str) -> None:
        self.overview, self.name = overview, name
        self.__doc__ = f"Runs ``{name}`` on every trained parameter; see ``funcbio.{name}``."

    def __repr__(self) -> str:
        """Returns the call and the kind of model that it acts on."""
        return f"<{self.name}() of {type(self.overview.model).__name__}>"

    @property
    def row(self) -> Row:
        """Returns the row of the table."""
        return ROWS[self.name]

    def __call__(self) -> dict[str, Tensor] | None:
        """Runs the mechanism; returns which weights it replaced, by name, if it replaces any.

        Raises:
            RuntimeError: If it needs gradients and there are none, or it cannot run on a parameter as it is.
        """
        survey = self.overview.look()
        parts = self._parts(survey)
        for part in parts:
            check_part(part, self.row)
        finite = not self.row.needs_grad or bool(finite_gradients(survey.modules))
        replaced = run_on_trees(parts, self.row) if parts and finite else {}
        return self._masks(parts, replaced) if self.row.replaces else None

    def _parts(self, survey: Survey) -> list[BioLayer | Bare]:
        layers = survey.layers()
        every = trained_parts(self.overview.model, layers)
        chosen = [part for part in every if part.has_gradient() or not self.row.reads_gradient(part.config)]
        if every and not chosen:
            raise RuntimeError(f"{NO_GRADIENTS}: call backward() before {self.name}()")
        if not every:
            self.overview.warn_of_nothing(f"{self.name}()")
        return chosen

    @staticmethod
    def _masks(parts: list[Any], replaced: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns a mask for every layer, also for those in which nothing was replaced."""
        layers = [part for part in parts if isinstance(part, BioLayer)]
        none = {bio.synapse.weight: torch.zeros_like(bio.weight, dtype=torch.bool) for bio in layers}
        return {name: replaced[name] if name in replaced and replaced[name].ndim else none[name] for name in none}
