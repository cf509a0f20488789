"""Fields of the configuration that differ between members of a sweep, and that no mechanism of it reads."""

from collections.abc import Iterator, Sequence

from funcbio.base import listed
from funcbio.functional._init import RATES, SIGNS
from funcbio.mechanisms import ROWS
from funcbio.sweeps._trials import Trial

APPLYING = "fuzzy_learning_rates"
"""What reads the rates that are drawn at the start."""


def unused(trials: Sequence[Trial]) -> list[str]:
    """Returns which fields of the grid change nothing in any member, and what would read them."""
    used = {name for trial in trials for name in _used(trial)}
    own = any(one.ours is None for trial in trials for one in trial.mechanisms)
    reasons = []
    for name in trials[0].values:
        readers = [mechanism for mechanism, row in ROWS.items() if name in row.fields.values()]
        readers += [APPLYING] if name in RATES else ["apply_dales_principle=True"] if name in SIGNS else []
        may_be_read = own and name in RATES  # A function of the user's own may read the state, not the configuration.
        if readers and name not in used and not may_be_read:
            reasons.append(
                f"grid[{name!r}] should be read by a mechanism, which {listed(readers)} would; found none that "
                "does, so that it changes nothing"
            )
    return reasons


def _used(trial: Trial) -> Iterator[str]:
    """Yields the fields that some mechanism of a member reads, or what is drawn for it at the start."""
    for mechanism in trial.mechanisms:
        yield from mechanism.row.fields.values()
        yield from RATES if mechanism.ours is ROWS[APPLYING] else ()
    yield from SIGNS if trial.config.apply_dales_principle else ()
