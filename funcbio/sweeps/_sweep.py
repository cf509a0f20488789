"""``sweep``: many seeds and hyper-parameters in one run."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from funcbio._checks import brief, is_among, is_count, is_number, large_hint, names_arguments, plain_integer, require
from funcbio.anatomy._synapses import Choice
from funcbio.anatomy._units import Units
from funcbio.bio_config import DEFAULT_BIO_CONFIG, IN_CONFIG, BioConfig, require_config
from funcbio.files._owner import owned
from funcbio.functional._idle import warn
from funcbio.functional._presets import Preset
from funcbio.functional._stateless import state_names
from funcbio.sweeps import _ranks
from funcbio.sweeps._choice import choose
from funcbio.sweeps._engine import compiles
from funcbio.sweeps._fingerprint import fingerprint
from funcbio.sweeps._folds import as_folds
from funcbio.sweeps._given import as_grid, as_rate, as_seeds, as_tensors
from funcbio.sweeps._idle import idle_members
from funcbio.sweeps._job import Data, Job
from funcbio.sweeps._learning import require_learning
from funcbio.sweeps._modes import modes_taken_off
from funcbio.sweeps._optimizers import OF_OPTIMIZERS, recipe, require_named
from funcbio.sweeps._progress import bar
from funcbio.sweeps._rehearsal import rehearse, types_explained
from funcbio.sweeps._result import SweepResult
from funcbio.sweeps._settings import settings_of
from funcbio.sweeps._stack import build
from funcbio.sweeps._starts import same_starts
from funcbio.sweeps._store import Store, Trained
from funcbio.sweeps._stream import Stream
from funcbio.sweeps._training import train
from funcbio.sweeps._trials import Trial, as_variants, make_trials, table_value


@names_arguments(IN_CONFIG | OF_OPTIMIZERS)
def sweep(
    model: Callable[[], nn.Module],
    loss: Callable[..., Tensor],
    data: Data | TensorDataset,
    *,
    steps: int,
    batch_size: int = 64,
    optimizer: Any = torch.optim.SGD,
    lr: float | None = None,
    newborn: str | None = None,
    no_decay: Collection[str] = (),
    mechanisms: Any = (),
    config: BioConfig = DEFAULT_BIO_CONFIG,
    seeds: int | Iterable[int] = 10,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] = (),
    share: Collection[str] = (),
    test: Sequence[Tensor] | TensorDataset | None = None,
    folds: Iterable[tuple[Any, Any]] | None = None,
    metrics: Mapping[str, Callable[..., Tensor]] | None = None,
    train_metrics: Mapping[str, Callable[..., Tensor]] | None = None,
    record_every: int | None = None,
    synapses: Choice = None,
    units: Units | None = None,
    compile: bool | Literal["auto"] = False,
    chunk: int | None = None,
    device: torch.device | str | None = None,
    output: str | os.PathLike[str] | None = None,
    save_seconds: float = 30.0,
    progress: bool | None = None,
) -> SweepResult | None:
    """Trains one member for every seed and combination of hyper-parameters, all of them at once by vmap.

    Everything random in a member derives from ``funcbio.key(seed)``: initial weights, rate factors, signs, the order of
    examples, the noise of mechanisms and dropout. So a member does not depend on which others train beside it, on
    their number, order or chunk: draws are the same to the last bit, weights up to rounding.

    Args:
        model: Makes the network, without arguments: ``lambda: Net(hidden=128)``.
        loss: ``loss(output, target)``, a mean over the batch.
        data: Tensors of one length, inputs and target: ``(x, y)``, or arrays of numpy (float64 becomes torch's default
            type), or a ``TensorDataset``. Or a function that makes a batch: ``data(key)``,
            with a key for every step; or ``data(key, step)`` for data that change over time, with one key for all steps
            of a member, and the number of the step as a tensor. ``batch_size`` counts for tensors only.
        steps: Training steps.
        batch_size: Examples in a batch; every epoch has a new order, and leaves out what does not fill a batch.
        optimizer: A class of ``torch.optim`` whose elements do not depend on one another (SGD, Adam, AdamW, RMSprop,
            Adagrad, Adadelta, Adamax, NAdam, RAdam), a ``functools.partial`` of one, or a functional one: an object
            with ``init(params)`` and ``update(grads, state, params=params)``.
        lr: Learning rate; by default that of the optimizer. It scales the updates of a functional optimizer.
        newborn: How the optimizer goes on with weights that rejuvenation replaces: "zero", "mean" or "exact", as in
            ``attach``; None keeps the moments of the old weights.
        no_decay: What weight decay leaves alone, by names of parameters or modules or parts of their paths: ``["bias",
            "norm1"]``.
        mechanisms: Names, functions or ``Mechanism`` objects, in the order in which they act; or several such lists by
            name, to be compared: ``{"plain": [], "bio": ["crystallize"]}``; names stand in the table. A preset, alone
            or by name, brings its configuration.
        config: The configuration.
        seeds: How many, or which: a list, range, array or tensor.
        grid: Values for every hyper-parameter, to train all combinations of them; or a list of combinations. Names
            are fields of the configuration, "lr", "weight_decay", options of the optimizer, "mechanisms". Numbers of
            the configuration, "lr" and "weight_decay" train together; other values make groups.
        share: What is the same for all members: some of "weights", "rates", "batches", "noise".
        test: Tensors like ``data``, to measure on.
        folds: Instead of ``test``, pairs of row numbers of the data, to train and to measure on: what ``split`` of a
            splitter of scikit-learn gives. Every combination is trained on all of them, in a column "fold".
        metrics: ``metric(output, target)`` by name, averaged over the test data; the loss is always measured.
        train_metrics: The same, of every batch before the step that learns from it, averaged since the last record.
        record_every: Steps between two rows of the table; by default only the last step has one.
        synapses: Which parameters are synapses; see ``funcbio.synapses``.
        units: The table of the network's units, from ``funcbio.units``, for mechanisms on units; None makes it with the
            first examples.
        compile: Whether to compile the whole step; worth it from some thousand steps on, a few hundred from torch's
            disk cache. "auto" compiles if that pays by an estimate, which ``SweepResult.compiled`` tells.
        chunk: Members that train at once; by default as many as fit into the free memory.
        device: Where to train; by default on the GPU if there is one.
        output: A folder for the state, the table and the final parameters, for one run at a time. The same call with
            the same folder goes on where it was stopped, however it was stopped.
        save_seconds: Time between two savings of the state.
        progress: Whether to show a progress bar; None if the output is a terminal. Where there is none, True writes a
            line every half minute.

    Returns:
        The results. Under ``torchrun`` members are split over the processes; those other than the first return None.

    Raises:
        ValueError: If an argument is not as it should be, before anything is trained; also if another run works in the
            folder, or it holds another sweep.
        FileError: If a file in the folder is damaged, or belongs elsewhere.
        ConfigError: If a value of the configuration is not.

    Example:
        >>> x = torch.randn(64, 4)
        >>> result = sweep(
        ...     lambda: torch.nn.Linear(4, 1),
        ...     torch.nn.functional.mse_loss,
        ...     (x, x.sum(1, keepdim=True)),
        ...     steps=3, batch_size=16, lr=0.1, mechanisms=["fuzzy_learning_rates"], seeds=2,
        ...     grid={"fuzzy_learning_rate_factor_nu": [0.1, 0.3]},
        ... )
        >>> result.table["fuzzy_learning_rate_factor_nu"], result.table["seed"]
        ([0.1, 0.1, 0.3, 0.3], [0, 1, 0, 1])
    """
    config = _config(mechanisms, config)
    optimizer_recipe = recipe(optimizer, as_rate(lr), newborn, no_decay)
    tensors, test_tensors = as_tensors("data", data), as_tensors("test", test)
    row_folds, variants = as_folds(folds, tensors, test_tensors), as_variants(mechanisms)
    trials = make_trials(as_seeds(seeds), as_grid(grid), variants, config, optimizer_recipe, len(row_folds))
    steps, batch_size, record_every, chunk = map(plain_integer, (steps, batch_size, record_every, chunk))
    should = f"a number >= 0{large_hint(save_seconds)}"
    require("save_seconds", save_seconds, should, is_number(save_seconds) and save_seconds >= 0)
    require("compile", compile, "True, False or 'auto'", isinstance(compile, bool) or is_among(compile, ["auto"]))
    require("units", units, "a table made by funcbio.units", units is None or isinstance(units, Units))
    require("output", output, "a path, or None", output is None or isinstance(output, str | os.PathLike))
    require("chunk", chunk, "an integer >= 1", chunk is None or is_count(chunk))
    with _ranks.group(), modes_taken_off():
        chosen_device = _ranks.process_device() if device is None else _device(device)
        job = Job(
            model=model,
            loss=loss,
            data=tensors,
            steps=steps,
            batch_size=batch_size,
            recipe=optimizer_recipe,
            trials=trials,
            shared=share if isinstance(share, str) else tuple(share),
            test=test_tensors,
            metrics={} if metrics is None else metrics,
            train_metrics={} if train_metrics is None else train_metrics,
            record_every=steps if record_every is None else record_every,
            synapses=synapses,
            compile=compile if compile == "auto" else compile and compiles(chosen_device),
            device=chosen_device,
            folds=row_folds,
            units=units,
        )
        store = Store(None if output is None else Path(output), save_seconds)
        return _run(job, store, chunk, progress)


def _run(job: Job, store: Store, chunk: int | None, progress: bool | None) -> SweepResult | None:
    """Trains while this run owns the output folder, if there is one."""
    folder, stack = store.folder, ExitStack()
    try:
        if folder is not None:
            _ranks.by_first(lambda: stack.enter_context(owned(folder)))
        _check_stream(job)
        _warn_of_no_effect(job)
        settings = settings_of(job) if _ranks.rank() == 0 else {}  # Before functions can change while they run.
        result = _trained(job, store, chunk, progress)
        if result is not None:
            result.settings = settings
            if folder is not None:
                result.to_csv(folder / "table.csv")
        return result
    finally:
        stack.close()


def _warn_of_no_effect(job: Job) -> None:
    """Warns of mechanisms and fields without effect, and of seeds that start alike."""

    def reasons() -> list[str]:
        network = build(job.model, job.trials[0], job.shared)
        require_named(job.recipe, network)
        return [*idle_members(job, network), *same_starts(job, network)]

    warnings = _ranks.by_first(reasons)
    if _ranks.rank() == 0:
        warn(warnings)


def _check_stream(job: Job) -> None:
    """Raises ValueError if batches of a stream cannot be made over members and steps, before anything is written."""
    if not job.numbered:
        return
    keys = torch.stack([trial.key("batches", job.shared) for trial in job.trials[:2]]).to(job.device)
    try:
        Stream(job.make, keys).made(0, 1)
    except Exception as error:
        if isinstance(error, ValueError) and f"{error}".startswith("data should"):
            raise
        reason = f"{error}".strip().split("\n")[0]
        should = "a function that torch.vmap can run over keys and steps, which are tensors and make all draws"
        raise ValueError(f"data should be {should}; found {type(error).__name__}: {reason}") from error


def _trained(job: Job, store: Store, chunk: int | None, progress: bool | None) -> SweepResult | None:
    """Trains the chunks of this process; the first one returns the results of all."""
    with types_explained(job):
        chunks = _plan(job, store, chunk)
    mine = list(chunks.items())[_ranks.rank() :: _ranks.world()]
    done = {name: trained for name, _ in mine if (trained := store.finished(name)) is not None}
    remaining = [(name, members) for name, members in mine if name not in done]
    with types_explained(job):
        for _, members in remaining:
            rehearse(job, members, saves=store.folder is not None)
    total = sum(len(members) for _, members in mine) * job.steps
    before = sum(len(members) for name, members in mine if name in done) * job.steps
    with bar(total, before, show=progress if _ranks.rank() == 0 else False) as tick:
        done |= {name: train(job, members, name, store, tick) for name, members in remaining}
    results = _ranks.gathered(done)
    if results is None:
        return None
    return collect(job, chunks, {name: trained for part in results for name, trained in part.items()})


def _config(mechanisms: Any, config: BioConfig) -> BioConfig:
    """Returns the configuration: the one given, or that of a preset; raises ValueError if there would be two."""
    require_config(config)
    if not isinstance(mechanisms, Preset):
        return config
    given = config not in (DEFAULT_BIO_CONFIG, mechanisms.config)
    require("config", config, "left out for a preset, which has a configuration", not given)
    return mechanisms.config


def _device(device: torch.device | str) -> torch.device:
    """Returns a device; raises ValueError if torch does not know it, or cannot use it here."""
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device should be one that torch knows; found {brief(device)}") from None
    try:
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = f"{error}".split("\n")[0]
        raise ValueError(
            f"device should be one that torch can use here; found {brief(device)}: {reason:.200}"
        ) from error
    return chosen


def _plan(job: Job, store: Store, chunk: int | None) -> dict[str, list[Trial]]:
    """Lays the members out in chunks; all ranks, and all starts of one sweep, in the same ones."""
    kinds: dict[str, list[Trial]] = {}
    for trial in job.trials:
        kinds.setdefault(trial.kind, []).append(trial)
    share = -(-len(job.trials) // _ranks.world())

    def plan() -> dict[str, Any]:
        require_learning(job)
        size = min(share, *map(job.members_at_once, kinds.values())) if chunk is None else chunk
        if job.compile != "auto":
            return {"chunk": size}
        choices = choose(job, [*kinds.values()], size, _ranks.world(), saves=store.folder is not None)
        return {"chunk": size, "compile": choices}

    content, sweep = _ranks.by_first(lambda: store.open(lambda: fingerprint(job), plan))
    _take(job, content.get("compile", []), kinds.values())
    parts = [part for members in kinds.values() for part in _even(members, content["chunk"])]
    chunks = {f"chunk-{number:04d}": part for number, part in enumerate(parts)}
    store.take(sweep, {name: [trial.index for trial in part] for name, part in chunks.items()})
    return chunks


def _take(job: Job, choices: Sequence[Any], kinds: Iterable[Sequence[Trial]]) -> None:
    """Takes what ``choose`` has chosen, now or when the folder was new."""
    job.choices.extend(why for _, why in choices)
    able = any(compile for compile, _ in choices) and compiles(job.device)
    for (compile, _), trials in zip(choices, kinds, strict=False):
        job.kind(trials[0]).compile = compile and able


def _even(members: list[Trial], most: int) -> list[list[Trial]]:
    """Cuts a list into as few parts as possible, all of one size but the last: every new size has to be compiled."""
    size = -(-len(members) // -(-len(members) // most))
    return [members[at : at + size] for at in range(0, len(members), size)]


def collect(job: Job, chunks: Mapping[str, Sequence[Trial]], results: Mapping[str, Trained]) -> SweepResult:
    """Puts the results of all chunks into one table and one tree, in order of member."""
    hyper, parts = list(job.trials[0].values), list(results.values())
    metrics = [name for name in parts[0].rows[0] if name not in ("step", "mean")]
    rows: list[tuple[Any, ...]] = []
    places: dict[int, tuple[Trained, int]] = {}
    for name, members in chunks.items():
        for position, trial in enumerate(members):
            places[trial.index] = results[name], position
            start = (trial.index, trial.seed, *(table_value(trial.values[n]) for n in hyper))
            rows += [(*start, row["step"], *(row[n][position] for n in metrics)) for row in results[name].rows]
    rows.sort(key=lambda row: (row[0], row[2 + len(hyper)]))
    columns = ["member", "seed", *hyper, "step", *metrics]
    ordered = [places[trial.index] for trial in job.trials]
    names = state_names(build(job.model, job.trials[0], job.shared))
    return SweepResult(
        dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)),
        hyper,
        {
            n: torch.stack([part.params[n][at] for part, at in ordered])
            for n in dict.fromkeys(names.values())
            if n in parts[0].params
        },
        {
            n: torch.stack([part.buffers[n][at] for part, at in ordered])
            for n in parts[0].buffers
            if n in names.values()
        },
        seconds=sum(part.seconds for part in parts),
        compile_seconds=sum(part.compile_seconds for part in parts),
        member_steps=sum(part.timed for part in parts),
        names=names,
        compiled=job.choices,
    )
