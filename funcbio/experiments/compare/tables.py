"""The tables and sentences that the terminal shows at the end."""

from collections.abc import Sequence

from funcbio.experiments.compare.history import INTERFACES, NAMES, SLOW, History, share_slow
from funcbio.experiments.compare.tune import SEEDS, Tried
from funcbio.experiments.frame.intervals import Interval, counted, interval, over, paired, reading, spell
from funcbio.experiments.frame.table import Table


def spell_goal(epochs: Sequence[int | None]) -> str:
    """Writes the epochs to the goal over the runs that reached it, and below how many did."""
    reached = [epoch for epoch in epochs if epoch is not None]
    return f"{spell(interval(reached))}\n{len(reached)} of {len(epochs)} reached"


def result_table(histories: Sequence[History], *, test_images: int, epochs: int) -> Table:
    """Makes the table of the comparison, one row for every interface and network."""
    seeds = " or ".join(over(count) for count in dict.fromkeys(len(history.seeds) for history in histories))
    caption = f"Mean {seeds} on {test_images} test images, after {counted(epochs, 'epoch')}."
    title = "Plain and bio-inspired networks on handwritten digits"
    headings, rows = ("interface", "network", "lr", "test accuracy, %", "epochs to 90 %", "time"), []
    for history in histories:
        accuracy = spell(interval(history.final.double().tolist()), scale=100.0)
        cells = f"{history.lr:g}", accuracy, spell_goal(history.epochs_to_goal), f"{history.seconds:.1f} s"
        rows.append([history.interface, NAMES[history.variant], *cells])
    return Table(headings, rows, {"title": title, "caption": caption}, ("lr", "time"), keys=2)


def differences(histories: Sequence[History]) -> dict[str, Interval]:
    """Returns, for every interface, the final test accuracy of bio minus plain, paired by seed."""
    finals = {(history.interface, history.variant): history.final.double().tolist() for history in histories}
    return {name: paired(finals[name, "bio"], finals[name, "plain"]) for name in INTERFACES}


def difference_lines(histories: Sequence[History]) -> list[str]:
    """Writes the paired differences, each with a sentence that reads it."""
    runs = {history.interface: len(history.seeds) for history in histories}
    return [
        f"{name}: bio-inspired minus plain {spell(difference, scale=100.0, sign='+')} points over {runs[name]} seeds: "
        f"{reading(difference)}."
        for name, difference in differences(histories).items()
    ]


def rate_lines(histories: Sequence[History]) -> list[str]:
    """Writes, for every interface, how many synapses of the bio-inspired network learn slowly in the end."""
    return [
        f"{history.interface}: {share_slow(history.rate_end) * 100.0:.0f} % of the bio-inspired network's synapses "
        f"end with a rate factor of {SLOW} or less."
        for history in histories
        if history.variant == "bio"
    ]


def tuning_table(rows: Sequence[Tried]) -> Table:
    """Makes the table of the search for learning rates."""
    caption = f"Mean {over(len(SEEDS))} on the validation images."
    cells = [
        [NAMES[row.variant], f"{row.lr:g}", spell(row.accuracy, scale=100.0), "best" if row.chosen else ""]
        for row in rows
    ]
    headings = ("network", "lr", "validation accuracy, %", "")
    return Table(headings, cells, {"title": "Learning rates", "caption": caption}, ("lr",))
