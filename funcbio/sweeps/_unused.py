"""Fields of the configuration that differ between members of a sweep, and that no mechanism of it reads."""

from collections.abc import Iterator, Sequence

from funcbio.base import listed
from funcbio.mechanisms import ROWS
from funcbio.sweeps._trials import Trial, table_value


def unused(trials: Sequence[Trial]) -> list[str]:
    """Returns which fields of the grid change nothing in any member, and what would read them."""
    used = {name for trial in trials for name in _read(trial)}
    reasons = []
    for name in trials[0].values:
        readers = [mechanism for mechanism, row in ROWS.items() if name in (*row.fields.values(), *row.starts_by)]
        differs = len({table_value(trial.values[name]) for trial in trials}) > 1
        if readers and name not in used and differs:
            reasons.append(
                f"grid[{name!r}] should be read by a mechanism, which {listed(readers)} may do; found none that does, "
                "so that it changes nothing"
            )
    return reasons


def _read(trial: Trial) -> Iterator[str]:
    """Yields the fields that change what the mechanisms of a member do, or the state that they start from."""
    for mechanism in trial.mechanisms:
        yield from mechanism.row.read(trial.config)
        # A function of the user's own may read any state.
        known = (mechanism.ours,) if mechanism.ours else ROWS.values()
        yield from (name for row in known for name in row.starts_by)
    if trial.config.apply_dales_principle:  # Weights start with their signs, whether these are kept or not.
        yield from ("dales_balance", *ROWS["enforce_dales_principle"].starts_by)
