"""``python -m funcbio invert``: trains, attacks, measures; shows and writes the results."""

import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.progress import TimeRemainingColumn
from torch import Tensor, vmap

import funcbio
from funcbio.experiments.frame.bar import Begin, Tick, bars
from funcbio.experiments.frame.experiment import Output, begin
from funcbio.experiments.frame.files import kept, rounded
from funcbio.experiments.frame.intervals import counted
from funcbio.experiments.frame.results import numbers_of, versions
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.frame.terminal import console
from funcbio.experiments.inversion import figures, tables
from funcbio.experiments.inversion.cells import REFERENCE, Aim, Trained, aimed, attack, cells_of, measured, reference
from funcbio.experiments.inversion.images import Images, load
from funcbio.experiments.inversion.nets import COMPILES, NETS
from funcbio.experiments.inversion.settings import Settings
from funcbio.experiments.inversion.victims import VICTIMS, Training

NAME = "inversion"
COMPILED_FROM = 150_000
"""Number of steps, over all attacks, from which compiling pays."""

GREYS = 255
"""Shades of the pixels in the results."""

PICTURES = ("shown", "original")
DRAWN = 4
"""Size of the batches whose pictures are saved and drawn; the nearest one if it was not run."""


def main(settings: Settings, *, path: Path | None) -> None:
    """Runs the experiment, or draws a file of results."""
    if path is None:
        run(settings)
    else:
        with kept(settings.output) as folder:
            draw(path, folder)


def run(settings: Settings) -> None:
    """Runs the experiment, or goes on with it; prints its tables and writes its files.

    Raises:
        SettingError: If a setting does not fit the data or the output cannot be written; before any training.
    """
    with begin(settings, _load) as (images, output):
        with bars(TimeRemainingColumn()) as new_bar:
            trained, parts = _train(settings, images, new_bar), []
            for size in settings.batch_sizes:
                aim = aimed(images, _keys(settings), size)
                for group, names in _groups().items():
                    make = partial(
                        _part, settings, trained, aim, names, partial(new_bar, f"{counted(size, 'image')}, {group}")
                    )
                    parts.append(output.load_or_run(f"batch-{size}-{group}", make))
                parts.append({"rows": [_reference(aim)]})
        drawn = min(settings.batch_sizes, key=lambda size: abs(size - DRAWN))
        rows = [_without_pictures(row, drawn) for part in parts for row in part["rows"]]
        content = {"settings": numbers_of(settings), "seeds": list(range(settings.seeds))}
        content |= {"versions": versions() | {"scikit-image": version("scikit-image")}, "networks": _networks(trained)}
        content |= {"shape": list(images.shape), "rows": rows, "differences": tables.differences(rows)}
        output.write(f"{NAME}.json", content)
        draw(output.folder / f"{NAME}.json", output.folder)


def draw(path: Path, folder: Path) -> None:
    """Prints the tables of a file of results and draws its figures into a folder.

    Raises:
        SettingError: If there is no such file.
    """
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingError(f"draw should be a file that this command wrote; found {str(path)!r} ({error})") from None
    output = Output(None, folder, console())
    output.show(*tables.tables(results))
    for kind, figure in figures.all_of(results).items():
        figures.save(figure, folder / f"{NAME}-{kind}.svg")
    output.end()


def _load(settings: Settings) -> Images:
    images = load(settings.data, settings.folder)
    _check(settings, images)
    return images


def _networks(trained: Trained) -> list[dict[str, Any]]:
    """Returns accuracy and loss of the networks of all seeds, for every kind and checkpoint."""
    return [
        {"victim": name, "epochs": epochs}
        | {measure: rounded(getattr(at, measure).tolist()) for measure in ("accuracy", "loss")}
        for name, (_, checkpoints) in trained.items()
        for epochs, at in checkpoints.items()
    ]


def _check(settings: Settings, images: Images) -> None:
    count = min(len(images.test_y), len(images.train_y))
    for name, value in (("batches", max(settings.batch_sizes)), ("train_batch", settings.train_batch)):
        if value > count:
            raise SettingError(f"{name} should be at most {count}, the number of images; found {value}")


def _groups() -> dict[str, list[str]]:
    """Returns names of networks that compute alike, so that they can be attacked at once, by name of the group."""
    groups: dict[str, list[str]] = {}
    for name, victim in VICTIMS.items():
        faster = f"-lr-x-{victim.speed:g}" if victim.speed != 1.0 else ""
        groups.setdefault(f"gamma-{victim.gamma}{faster}", []).append(name)
    return groups


def _keys(settings: Settings) -> Tensor:
    return vmap(funcbio.key)(torch.arange(settings.seeds))


def _train(settings: Settings, images: Images, new_bar: Begin) -> Trained:
    """Trains all kinds of networks, all seeds; it takes seconds, so it is done again when a run goes on."""
    net, last = NETS[settings.net](images.shape, images.classes), max(settings.checkpoints)
    tick, trained = new_bar("training", last * len(VICTIMS)), {}
    for name, victim in VICTIMS.items():
        training = Training(net, victim, images, settings)
        trained[name] = training, training.run(_keys(settings), tick)
    return trained


def _part(
    settings: Settings, trained: Trained, aim: Aim, names: list[str], new_bar: Callable[[int], Tick]
) -> dict[str, Any]:
    """Attacks all networks of one group with one size of batches."""
    cells = cells_of(names, settings.checkpoints)
    total = len(cells) * settings.seeds * settings.restarts * settings.iterations
    options = {name: getattr(settings, name) for name in ("iterations", "lr", "tv")}
    compiled = settings.net in COMPILES and total >= COMPILED_FROM
    reconstructions = attack(cells, trained, aim, settings.restarts, new_bar(total), compile=compiled, **options)
    return {"rows": [_row(*cell, aim, *measured(one, aim)) for cell, one in zip(cells, reconstructions, strict=True)]}


def _reference(aim: Aim) -> dict[str, Any]:
    row = _row(REFERENCE, None, "nothing", aim, *reference(aim))
    true = aim.images.unit(aim.images.test_x[aim.places[0]])
    return row | {"original": _grey(true)}


def _row(
    victim: str, epochs: int | None, leak: str, aim: Aim, scores: dict[str, list[float]], shown: Tensor
) -> dict[str, Any]:
    """Makes the row of one cell: a number for every seed, and the pictures of the first seed."""
    row = {"victim": victim, "epochs": epochs, "leak": leak, "batch": aim.places.shape[1]}
    return row | {name: rounded(values) for name, values in scores.items()} | {"shown": _grey(shown)}


def _without_pictures(row: dict[str, Any], drawn: int) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in PICTURES or row["batch"] == drawn}


def _grey(images: Tensor) -> list[str]:
    """Writes every image as hexadecimal digits, two for each value."""
    return [bytes(image).hex() for image in (images.clamp(0.0, 1.0) * GREYS).round().int().flatten(1).tolist()]
