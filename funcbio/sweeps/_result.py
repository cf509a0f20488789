"""The result of a sweep: one table of numbers, and the parameters of every member."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from funcbio import _seeds as statistics
from funcbio._seeds import extra
from funcbio.files._aside import write_aside
from funcbio.plot import _sweep_curves as figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


class SweepResult:
    """Holds the table of a sweep and the final parameters of its members.

    A member is one training run: a seed with a combination of hyper-parameters. A member whose value is not finite has
    diverged: the tables and figures count such members and give means and intervals over the others.

    Attributes:
        table: Columns by name: "member", "seed", the hyper-parameters, "step", then the metrics.
        hyper: Names of the hyper-parameters.
        params: Final parameters by dotted name, stacked: the first dimension counts the members. Tied ones stand here
            once, by the first of their names.
        buffers: Final buffers, likewise.
        names: Every name in a ``state_dict`` of the model, and that of its tensor in params or buffers.
        members: Number of members.
        seconds: Time of all training steps but the first of each kind, on all processes together.
        compile_seconds: Time of the first steps of each kind, in which compilation happens.
        member_steps: Number of steps of single members that ``seconds`` is the time of.
        compiled: What ``compile="auto"`` chose for each kind of members, and by what estimate; otherwise empty.

    Example:
        >>> table = {"member": [0, 1], "seed": [0, 1], "step": [9, 9], "loss": [0.5, 0.25]}
        >>> result = SweepResult(
        ...     table, hyper=(), params={"weight": torch.zeros(2, 4, 3)}, buffers={}
        ... )
        >>> result
        SweepResult(members=2, hyper=[], metrics=['loss'])
        >>> result.summary("loss")
           members  diverged   mean   low  high
        0        2         0  0.375  0.25   0.5
    """

    def __init__(
        self,
        table: Mapping[str, Sequence[Any]],
        hyper: Sequence[str],
        params: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        seconds: float = math.nan,
        compile_seconds: float = 0.0,
        member_steps: int = 0,
        names: Mapping[str, str] | None = None,
        compiled: Sequence[str] = (),
    ):
        first = ["member", "seed", *hyper, "step"]
        if list(table)[: len(first)] != first:
            raise ValueError(f"table should begin with the columns {first}; found {list(table)}")
        if len({len(column) for column in table.values()}) > 1:
            lengths = {name: len(column) for name, column in table.items()}
            raise ValueError(f"table should have columns of one length; found {lengths}")
        self.table = {name: list(column) for name, column in table.items()}
        self.hyper = tuple(hyper)
        self.params, self.buffers = dict(params), dict(buffers)
        self.seconds, self.compile_seconds, self.member_steps = seconds, compile_seconds, member_steps
        self.compiled = tuple(compiled)
        stacks = self.params | self.buffers
        self.names = {name: name for name in stacks} if names is None else dict(names)
        for name, first in self.names.items():
            if first not in stacks:
                raise ValueError(f"names should lead to parameters and buffers; found {first!r} for {name!r}")
        self.members = len(set(self.table["member"])) or max((len(stack) for stack in stacks.values()), default=0)
        for name, stack in stacks.items():
            if stack.shape[:1] != (self.members,):
                should = f"a first dimension of {self.members}, the number of members"
                raise ValueError(f"{name} should have {should}; found shape {tuple(stack.shape)}")

    def __repr__(self) -> str:
        """Names the number of members, the hyper-parameters and the metrics."""
        return f"SweepResult(members={self.members}, hyper={list(self.hyper)}, metrics={self.metrics})"

    @property
    def metrics(self) -> list[str]:
        """Lists the names of the metrics: the columns behind "step"."""
        return list(self.table)[len(self.hyper) + 3 :]

    def to_pandas(self) -> "DataFrame":
        """Returns the table as a DataFrame of its own; raises ImportError if pandas is missing."""
        return extra("pandas").DataFrame(self.table)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as CSV: the same table gives the same bytes, and numbers lose no digit.

        Args:
            path: The file; one that is there is replaced at the end, at once.

        Raises:
            OSError: If it cannot be written.

        Example:
            >>> import os, tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "table.csv")
            >>> table = {"member": [0], "seed": [3], "step": [9], "loss": [0.1]}
            >>> SweepResult(table, (), {}, {}).to_csv(path)
            >>> with open(path) as file:
            ...     print(file.read(), end="")
            member,seed,step,loss
            0,3,9,0.1
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.table)
        # The writer spells floats by repr.
        writer.writerows(zip(*self.table.values(), strict=True))
        write_aside(path, lambda file: file.write(text.getvalue().encode()))

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as Parquet, with the types of its columns.

        Args:
            path: The file; one that is there is replaced at the end, at once.

        Raises:
            ImportError: If pyarrow is missing.
            ValueError: If a column mixes types that Parquet keeps apart, as text and numbers; CSV takes them.
            OSError: If it cannot be written.
        """
        arrow, content = extra("pyarrow"), io.BytesIO()
        extra("pyarrow.parquet").write_table(arrow.table(self._arrow_columns(arrow)), content)
        write_aside(path, lambda file: file.write(content.getvalue()))

    def _arrow_columns(self, arrow: Any) -> dict[str, Any]:
        columns = {}
        for name, column in self.table.items():
            try:
                columns[name] = arrow.array(column)
            except (arrow.ArrowException, OverflowError):
                types = sorted({type(value).__name__ for value in column})
                raise ValueError(f"{name} should be of one type and 64 bits for Parquet; found {types}") from None
        return columns

    def member(self, i: int) -> dict[str, Tensor]:
        """Returns the final parameters and buffers of one member, copied.

        Args:
            i: Its number, from 0.

        Returns:
            Tensors by dotted name, for ``load_state_dict`` of the plain model: tied ones under all of their names.

        Raises:
            ValueError: If there is no such member.

        Example:
            >>> table = {"member": [0, 1], "seed": [0, 1], "step": [9, 9]}
            >>> params = {"weight": torch.eye(2)[:, None], "bias": torch.zeros(2, 1)}
            >>> result = SweepResult(table, (), params, {})
            >>> torch.nn.Linear(2, 1).load_state_dict(result.member(1))
            <All keys matched successfully>
        """
        statistics.require_one_of("members", range(self.members), member=i)
        tensors = {name: stack[i].clone().contiguous() for name, stack in (self.params | self.buffers).items()}
        return {name: tensors[first] for name, first in self.names.items()}

    def save_parameters(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes the final parameters and buffers of every member as safetensors.

        Args:
            folder: Gets one file for each member, ``member-0007.safetensors``; it is made if it is not there.

        Returns:
            The files in the order of the members.

        Raises:
            ImportError: If safetensors is missing.
            OSError: If they cannot be written.
        """
        safetensors, folder = extra("safetensors.torch"), Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        width = max(4, len(str(self.members - 1)))
        paths = [folder / f"member-{i:0{width}d}.safetensors" for i in range(self.members)]
        for i, path in enumerate(paths):
            # Safetensors refuses a tensor under two names.
            content = safetensors.save({name: tensor.clone() for name, tensor in self.member(i).items()})
            write_aside(path, lambda file, content=content: file.write(content))
        return paths

    def summary(self, metric: str, step: int | None = None) -> "DataFrame":
        """Returns mean and 95 % interval of a metric for every combination of hyper-parameters.

        The interval is a percentile bootstrap over seeds with a fixed generator: the same on every call. It is narrow
        for very few seeds: at ten it holds the true mean of a normal law in 90 of 100 cases.

        Args:
            metric: The metric.
            step: The step; the last one if None.

        Returns:
            A row for each combination: the hyper-parameters; "members", how many it has; "diverged", those of them
            whose value is not finite; "mean", "low" and "high" over the others. Ends are nan if fewer than two are
            left.

        Raises:
            ImportError: If pandas or scipy is missing.
            ValueError: If there is no such metric or step, or a combination has a seed twice.
        """
        return statistics.summary(self.table, self.hyper, metric, step)

    def compare(self, metric: str, by: str, baseline: Any, step: int | None = None) -> "DataFrame":
        """Compares every value of a hyper-parameter with a baseline, paired by seed.

        Args:
            metric: The metric.
            by: The hyper-parameter.
            baseline: Its value that the others are compared with.
            step: The step; the last one if None.

        Returns:
            A row for each other value, in each combination of the other hyper-parameters: those; the value and
            "baseline"; "pairs", the common seeds at which both are finite; "diverged", the common seeds at which they
            are not; "difference", the mean of value minus baseline over the pairs, with the ends "low" and "high" of
            its 95 % bootstrap interval; "p_value" of Wilcoxon's signed-rank test, not corrected for the number of
            rows: 1 if all differences are zero, nan without pairs.

        Raises:
            ImportError: If pandas or scipy is missing.
            ValueError: If there is no such metric, hyper-parameter, baseline or step, a combination has a seed twice,
                or two that are compared have no seed in common.

        Example:
            >>> table = {"member": [0, 1], "seed": [3, 3], "lr": [0.1, 0.5]}
            >>> table |= {"step": [9, 9], "loss": [0.5, 0.75]}
            >>> result = SweepResult(table, ["lr"], {}, {})
            >>> result.compare("loss", by="lr", baseline=0.1).difference.item()
            0.25
        """
        return statistics.compare(self.table, self.hyper, metric, by, baseline, step)

    def curves(self, metric: str, by: str | None = None) -> "Figure":
        """Draws a metric over the steps; see ``funcbio.plot._sweep_curves.curves``."""
        return figures.curves(self, metric, by)

    def heatmap(self, metric: str, x: str, y: str, step: int | None = None) -> "Figure":
        """Draws a metric over two hyper-parameters; see ``funcbio.plot._sweep_curves.heatmap``."""
        return figures.heatmap(self, metric, x, y, step)
