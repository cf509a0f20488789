"""The rows of tasks, one a file; each says which publication it follows."""

from collections.abc import Callable, Mapping

from funcbio.experiments.arena.tasks import classes, labels, pixels, regression
from funcbio.experiments.arena.tasks.images import Pool
from funcbio.experiments.arena.tasks.row import Row, Shown

ROWS: Mapping[str, Callable[[Pool], Row]] = {
    "pixels": pixels.row,
    "labels": labels.row,
    "classes": classes.row,
    "regression": regression.row,
    "labels-cnn": labels.row_of_cnn,
    "pixels-norm": pixels.row_with_norm,
}
"""What makes each row of tasks from a pool of images, by name."""

TITLES: Mapping[str, Shown] = {
    "pixels": pixels.SHOWN,
    "labels": labels.SHOWN,
    "classes": classes.SHOWN,
    "regression": regression.SHOWN,
    "labels-cnn": labels.SHOWN_CNN,
    "pixels-norm": pixels.SHOWN_NORM,
}
"""How the measure of each is shown."""

__all__ = ["ROWS", "TITLES", "Pool", "Row", "Shown"]
