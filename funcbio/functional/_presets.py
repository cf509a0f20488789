"""Presets: mechanisms with settings that the library's own comparison supports, and no others."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, overload

from funcbio._checks import is_count, plain_integer, plain_number, require, require_within, unlike_default
from funcbio.bio_config import BioConfig
from funcbio.mechanisms import ROWS
from funcbio.mechanisms._placed import Mechanism

__all__ = ["Preset", "keep_plasticity"]

WIDTH = 100
"""Columns of a printed preset."""

EVIDENCE = (
    "with pull=0.02, threshold=0.02, every=16 in small networks on digits, Adam, 24 seeds, learning rates tuned: "
    "18.3 [18.0, 18.6] points more than plain training where pixels are permuted every 50 steps, 22.5 [22.0, 23.0] "
    "where labels are shuffled, 27.0 [26.3, 27.8] where classes come two at a time. Its numbers were chosen near "
    "the best ones of the first two rows. Layer norms in the network with l2_init alone did about as well or better. "
    "With SGD, layer norms with l2_init or decay were ahead of it. Nothing is shown for large networks."
)
"""What the arena showed of ``keep_plasticity``."""

UNMEASURED = "not measured with these numbers; "

PAGE = "docs/results-arena.md"


@dataclass(frozen=True, repr=False)
class Preset(Sequence[Mechanism]):
    """Holds mechanisms with their configuration, which ``attach``, ``sweep`` and the callbacks take instead of a list.

    It is a sequence of its mechanisms. A list made of it, as ``[*preset, "crystallize"]``, has no configuration, and is
    refused without ``config=preset.config``, or one made from that.

    Attributes:
        name: The call that made it.
        mechanisms: The mechanisms.
        config: Their configuration.
        does: What it does, in words.
        evidence: What was measured, where, and what was not.
        page: The page that holds the evidence.

    Example:
        >>> preset = presets.keep_plasticity(quiet=True)
        >>> len(preset), preset.config.rejuvenation_variant
        (2, 'swr')
    """

    name: str
    mechanisms: tuple[Mechanism, ...]
    config: BioConfig
    does: str
    evidence: str
    page: str

    def __post_init__(self) -> None:
        """Notes on every mechanism what it was made for."""
        made = tuple(replace(mechanism, made_for=self.config) for mechanism in self.mechanisms)
        object.__setattr__(self, "mechanisms", made)

    @property
    def fields(self) -> dict[str, Any]:
        """Returns the fields of the configuration that are not the defaults."""
        return unlike_default(self.config)

    @overload
    def __getitem__(self, index: int) -> Mechanism: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mechanism]: ...

    def __getitem__(self, index: Any) -> Any:
        """Returns a mechanism."""
        return self.mechanisms[index]

    def __hash__(self) -> int:
        """Returns a number that equal presets share."""
        return hash(self.name)

    def __len__(self) -> int:
        """Counts the mechanisms."""
        return len(self.mechanisms)

    def __repr__(self) -> str:
        """Says what the preset does, and what that rests on."""
        lines = [f"does: {self.does}", f"evidence: {self.evidence}", f"page: {self.page}"]
        fill = partial(textwrap.fill, width=WIDTH, initial_indent="  ", subsequent_indent="    ")
        return "\n".join([self.name, *map(fill, lines)])


MEASURED = (0.02, 0.02, 16)
"""Pull, threshold and period of ``keep_plasticity`` that the arena measured."""


def keep_plasticity(
    *, pull: float = MEASURED[0], threshold: float = MEASURED[1], every: int = MEASURED[2], quiet: bool = False
) -> Preset:
    """Returns a preset for networks that go on learning from data that change, and prints what it does.

    Weights that hardly matter start anew, and all are pulled to where they started. Weights of linear and
    convolutional layers start anew, others only where ``synapses=`` of a converter names them: recurrent weights,
    projections of attention, embeddings. An embedding that shares its weight with a linear layer counts as that layer.

    Args:
        pull: Strength of the pull to the start; see ``l2_init``.
        threshold: Every so many steps a weight starts anew if |gradient times weight| is at most this share of its
            layer's mean; see ``rejuvenate_weights``, variant "swr".
        every: Steps between two such events.
        quiet: Whether to print nothing.

    Returns:
        The preset, which prints what it does and what that rests on.

    Raises:
        ValueError: If a number is out of its limits.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
        ... )
        >>> optimizer = torch.optim.Adam(net.parameters(), lr=0.002)
        >>> handle = attach(optimizer, net, presets.keep_plasticity(quiet=True))
        >>> [mechanism.name for mechanism in handle.mechanisms]
        ['l2_init', 'rejuvenate_weights']
    """
    pull, threshold, every = plain_number(pull), plain_number(threshold), plain_integer(every)
    require("every", every, "an integer >= 1", is_count(every))
    strength, fraction = ROWS["l2_init"].limits["strength"], ROWS["rejuvenate_weights"].limits["fraction"]
    require_within({"pull": strength, "threshold": fraction}, {"pull": pull, "threshold": threshold})
    config = BioConfig(l2_init_strength=pull, rejuvenation_variant="swr", rejuvenation_fraction=threshold)
    preset = Preset(
        f"keep_plasticity({pull=}, {threshold=}, {every=})",
        (Mechanism("l2_init"), Mechanism("rejuvenate_weights", every=every)),
        config,
        f"pulls parameters to their start (l2_init, {pull:g}) and every {every} steps replaces weights whose "
        f"|gradient times weight| is at most {threshold:g} of their layer's mean (rejuvenate_weights, swr).",
        EVIDENCE if (pull, threshold, every) == MEASURED else UNMEASURED + EVIDENCE,
        PAGE,
    )
    if not quiet:
        print(preset)
    return preset


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted(__all__)
