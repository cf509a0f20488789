"""The result of a sweep: one table of numbers, and the parameters of every member."""

import csv
import io
import math
import os
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from funcbio import _seeds as statistics
from funcbio._checks import brief, is_listing, require_path
from funcbio._seeds import extra
from funcbio.files._aside import write_aside
from funcbio.plot import _sweep_curves as figures
from funcbio.sweeps import _best, _chosen, _join, _labels

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
        settings: Descriptions of what all members have in common, such as the data and the loss, by which ``join``
            compares; empty if the result does not come from ``sweep``.
        chosen: What ``best`` chose, otherwise empty; a row for each choice. Columns by name: the other
            hyper-parameters; the chosen ones; "runs", how many runs chose; "diverged", those of them that did; the
            mean of the metric over the others; "at_end", the names of those whose value is the smallest or largest
            that was tried, so that a better one may lie beyond.

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
        settings: Mapping[str, Any] | None = None,
        chosen: Mapping[str, Sequence[Any]] | None = None,
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
        self.settings = dict(settings or {})
        self.chosen = {name: list(column) for name, column in (chosen or {}).items()}
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
        require_path("path", path)
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
        require_path("path", path)
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
        require_path("folder", folder)
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
        frame = statistics.summary(self.table, self.hyper, metric, step)
        return import_module("funcbio.sweeps._frames").Whole(frame)  # Only now: it imports pandas.

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
            rows: 1 if all differences are zero, nan without pairs. It prints as a table, cut by no width.

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
        frame = statistics.compare(self.table, self.hyper, metric, by, baseline, step)
        comparison = import_module("funcbio.sweeps._frames").Comparison(frame)  # Only now: it imports pandas.
        at = max(self.table["step"]) if step is None else step
        comparison.attrs = {"metric": metric, "by": by, "baseline": figures.spell(baseline), "step": at}
        return comparison

    def best(
        self,
        metric: str,
        over: str | Sequence[str],
        *,
        seeds: int | Collection[int] | None = None,
        folds: int | Collection[int] | None = None,
        goal: str | None = None,
        step: int | None = None,
    ) -> "SweepResult":
        """Chooses hyper-parameters on some seeds or folds, and returns the runs of the others at the chosen values.

        A choice on the runs that are reported would favour the method with more values to choose from: the best of
        many is lucky. So some runs choose and are left out of the result, and ``best(...).compare(...)`` is a fair
        comparison of methods, each at its own best values. Each combination of the other hyper-parameters has its own
        choice, the same for all folds: the value at which the fewest choosing runs diverged, of these the one of the
        best mean.

        Seeds differ in weights, batches and noise, and share the examples that are measured on. To choose on other
        examples too, train with ``folds=``.

        Args:
            metric: The metric that chooses.
            over: The hyper-parameter that is chosen, or several, chosen together.
            seeds: The seeds that choose: how many of the first, or which; by default the first half.
            folds: Instead of seeds, the folds that choose.
            goal: "min" or "max"; None takes it from the end of the name: loss, error, mse and mae are to be small,
                accuracy, acc, auc and f1 large.
            step: The step at which they choose; the last one if None.

        Returns:
            The other runs at the chosen values, without the columns ``over``. Its ``chosen`` says what was chosen, and
            whether at an end of the values that were tried. Times are left out.

        Raises:
            ValueError: If there is no such metric, hyper-parameter, seed, fold or step; if seeds or folds are all of
                them; if the goal is not clear; if the choosing runs differ from value to value; or if there are no
                further runs at the chosen value.

        Example:
            >>> table = {"member": [*range(6)], "seed": [0, 1, 2] * 2}
            >>> table |= {"lr": [0.1] * 3 + [0.5] * 3, "step": [9] * 6}
            >>> table |= {"loss": [0.5, 0.6, 0.7, 0.9, 0.8, 0.1]}
            >>> result = SweepResult(table, ["lr"], {}, {}).best("loss", over="lr", seeds=2)
            >>> result.table["seed"], result.table["loss"], result.chosen["lr"]
            ([2], [0.7], [0.1])
        """
        names: tuple[Any, ...] = tuple(over) if is_listing(over) else (over,)
        found = _best.best(self.table, self.hyper, metric, names, seeds=seeds, folds=folds, goal=goal, step=step)
        number = {member: at for at, member in enumerate(found.members)}
        rows = [at for at, member in enumerate(self.table["member"]) if member in number]
        table = {name: [column[at] for at in rows] for name, column in self.table.items() if name not in names}
        return SweepResult(
            table | {"member": [number[member] for member in table["member"]]},
            [name for name in self.hyper if name not in names],
            {name: stack[found.members] for name, stack in self.params.items()},
            {name: stack[found.members] for name, stack in self.buffers.items()},
            names=self.names,
            settings=self.settings,
            chosen=_chosen.carried(found.chosen, self.chosen, self.hyper),
        )

    def join(self, *others: "SweepResult") -> "SweepResult":
        """Returns the runs of several sweeps as one result: of other mechanisms, seeds or values of the grid.

        Args:
            *others: Results of sweeps with the same hyper-parameters and settings: data, loss, steps, everything but
                the columns of the table. ``label`` adds a column to those that have none, or that differ on purpose.

        Returns:
            All runs, with members numbered on in the order of the results. Times are added up.

        Raises:
            TypeError: If one of them is no result.
            ValueError: If hyper-parameters, settings, metrics, recorded steps or shapes of parameters differ, if
                ``best`` chose other values for the same hyper-parameters, or if a seed was run with the same
                hyper-parameters in two of them.

        Example:
            >>> x = torch.randn(64, 4)
            >>> of = lambda **how: sweep(
            ...     lambda: torch.nn.Linear(4, 1),
            ...     torch.nn.functional.mse_loss,
            ...     (x, x.sum(1, keepdim=True)),
            ...     steps=3,
            ...     progress=False,
            ...     **how,
            ... )
            >>> first = of(mechanisms={"plain": []}, seeds=2)
            >>> further = of(mechanisms={"l2": ["l2_init"]}, seeds=2)
            >>> first.join(further).table["mechanisms"]
            ['plain', 'plain', 'l2', 'l2']
        """
        for other in others:
            if not isinstance(other, SweepResult):
                hint = ": give them one by one, join(*results)" if isinstance(other, list | tuple) else ""
                raise TypeError(f"others should be results of sweep; found {brief(other)}{hint}")
        return SweepResult(**_join.joined([self, *others]))

    def label(self, **labels: float | str | bool | Mapping[str, str]) -> "SweepResult":
        """Returns the result with further hyper-parameters, each the same for all runs; to tell joined results apart.

        Args:
            **labels: Values by name. A label of the name of an argument of ``sweep`` lets that argument differ. Lists
                of mechanisms that have names get others by ``mechanisms={"old": "new"}``.

        Raises:
            ValueError: If a name is that of a column, of the table or of ``chosen``, a value is neither a number nor a
                text, or two lists of mechanisms would have one name.

        Example:
            >>> table = {"member": [0, 1], "seed": [0, 1], "step": [9, 9], "loss": [0.5, 0.25]}
            >>> sgd, adam = SweepResult(table, (), {}, {}), SweepResult(table, (), {}, {})
            >>> sgd.label(optimizer="sgd").join(adam.label(optimizer="adam")).table["optimizer"]
            ['sgd', 'sgd', 'adam', 'adam']
        """
        content = {name: value for name, value in vars(self).items() if name != "members"}
        return SweepResult(**content | _labels.labelled(self, labels))

    def curves(self, metric: str, by: str | None = None) -> "Figure":
        """Draws a metric over the steps; see ``funcbio.plot._sweep_curves.curves``."""
        return figures.curves(self, metric, by)

    def heatmap(self, metric: str, x: str, y: str, step: int | None = None) -> "Figure":
        """Draws a metric over two hyper-parameters; see ``funcbio.plot._sweep_curves.heatmap``."""
        return figures.heatmap(self, metric, x, y, step)
