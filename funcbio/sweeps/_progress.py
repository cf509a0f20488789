"""The progress bar; nothing where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def bar(total: int, *, show: bool | None) -> Iterator[Callable[[int, float], None]]:
    """Shows member-steps done, their rate, the loss and the time left.

    Args:
        total: Member-steps in all.
        show: Whether to show it; None if the output is a terminal.

    Yields:
        A function to be told how many more were done, and the mean loss, nan if it is not known.
    """
    if show is False or find_spec("tqdm") is None:
        yield lambda _, __: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=" member-steps", unit_scale=True, disable=None if show is None else False) as shown:

        def tick(count: int, loss: float) -> None:
            if loss == loss:
                shown.set_postfix(loss=f"{loss:.4g}", refresh=False)
            shown.update(count)

        yield tick
