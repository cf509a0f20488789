"""The progress bar; none where the output is no terminal."""

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
        A function of the number of further member-steps done and the mean loss, nan if there is none.
    """
    if show is False or find_spec("tqdm") is None:
        yield lambda _, __: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=" member-steps", unit_scale=True, disable=None if show is None else False) as progress:

        def tick(count: int, loss: float) -> None:
            if loss == loss:
                progress.set_postfix(loss=f"{loss:.4g}", refresh=False)
            progress.update(count)

        yield tick
