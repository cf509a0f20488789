"""The table of units as text, which a reader can check by eye."""

from collections.abc import Sequence
from itertools import groupby

from torch import Tensor

from funcbio.anatomy._population import NONE, SEVERAL, Edge, Part, Population

MOST = 8
"""How many runs of channels a row shows."""
SIGNS = {NONE: "-", SEVERAL: "mixed"}


def table(populations: Sequence[Population], unknown: Sequence[str]) -> str:
    """Returns a row for every layer and each weight that its units reach, and what could not be seen.

    ``0..63`` stands for units in a row, ``each 49 times`` for channels that lie side by side, as behind a convolution
    and a flattening, ``-`` for a channel that none of the units reaches, ``mixed`` for one that several reach.
    ``alone`` says that nothing else arrives on these channels.
    """
    blocks = [_block(one) for one in populations] or ["no units"]
    sentences = "\n".join(["unknown:", *(f"  {sentence}" for sentence in unknown)])
    return "\n".join([*blocks, sentences] if unknown else blocks)


def _block(population: Population) -> str:
    """Returns the rows of one layer: where its units go, what else belongs to them, and which may be replaced."""
    head = f"{population.name} ({population.size}) "
    width = max([len(edge.weight) for edge in population.edges], default=0) + 1
    rows = [f"-> {edge.weight + ':':<{width}} {_arrives(edge)}" for edge in population.edges]
    rows = rows or ["-> no weight"]
    rows += [f" + {row}" for row in _entries(population.parts)]
    rows.append(f"   can be replaced: {int(population.replaceable.sum())} of {population.size}")
    return "\n".join((head if at == 0 else " " * len(head)) + row for at, row in enumerate(rows))


def _arrives(edge: Edge) -> str:
    """Returns which unit each channel is, and whether anything else arrives there."""
    owned, alone = int((edge.owner >= 0).sum()), int(edge.exclusive.sum())
    if not owned:
        return runs(edge.owner)
    some = f"alone in {alone} of {owned}" if alone else "with others"
    return f"{runs(edge.owner)} | {'alone' if alone == owned else some}"


def _entries(parts: Sequence[Part]) -> list[str]:
    """Returns the entries of norms, and rows in another order than that of the units, by module."""
    rows: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        if part.role not in ("incoming", "bias") or part.unit.tolist() != [*range(len(part.unit))]:
            rows.setdefault((part.name.rpartition(".")[0] or part.name, runs(part.unit)), []).append(part.role)
    return [f"{name} ({', '.join(dict.fromkeys(roles))}): {shown}" for (name, shown), roles in rows.items()]


def runs(owner: Tensor) -> str:
    """Returns the units of channels, runs of them in short: ``0..1 each 2 times, -, 4`` for 0, 0, 1, 1, -1, 4."""
    rows = [(unit, len([*same])) for unit, same in groupby(owner.tolist())]
    if len(rows) == 1 and rows[0][0] in SIGNS:
        return SIGNS[rows[0][0]]
    shown = [_times([*same]) for _, same in groupby(_steps(rows))]
    shown = shown if len(shown) <= MOST else [*shown[: MOST - 1], "...", shown[-1]]
    return ", ".join(shown)


def _steps(rows: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Joins units that follow each other, all equally often, into first, last and how often each."""
    joined: list[tuple[int, int, int]] = []
    for unit, times in rows:
        follows = bool(joined) and unit > 0 and joined[-1][1:] == (unit - 1, times)
        if follows:
            joined[-1] = (joined[-1][0], unit, times)
        else:
            joined.append((unit, unit, times))
    return joined


def _times(same: Sequence[tuple[int, int, int]]) -> str:
    """Returns equal runs in a row in short."""
    first, last, each = same[0]
    if first == last:
        one = f"{'' if each == 1 else f'{each} times '}{SIGNS.get(first, first)}"
    else:
        one = f"{first}..{last}{'' if each == 1 else f' each {each} times'}"
    return ", ".join([one] * len(same)) if len(same) < 3 else f"{one}, {len(same)} times over"
