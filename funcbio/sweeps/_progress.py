"""Progress: a bar where it can be redrawn, a line every half minute where there is no terminal."""

import builtins
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

SECONDS_BETWEEN_LINES = 30.0


def is_live() -> bool:
    """Returns True where a bar can be redrawn in its place: in a terminal and in a notebook, not in a file."""
    return sys.stderr.isatty() or hasattr(builtins, "__IPYTHON__")


def spell_seconds(seconds: float) -> str:
    """Writes a time in the largest unit of which it has about two or more.

    Example:
        >>> spell_seconds(45.2), spell_seconds(300), spell_seconds(10_000)
        ('45 s', '5 min', '2.8 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class Lines:
    """Writes on stderr, at most every half minute, how much is done and how long the rest will take.

    Args:
        name: What is being done.
        total: How much there is to do.
        unit: The unit that is counted, if the name does not say it.
        done: How much was done before.
    """

    def __init__(self, name: str, total: int, unit: str = "", done: int = 0) -> None:
        self.name, self.total, self.unit = name, total, f" {unit}" if unit else ""
        self.before, self.done, self.note = done, done, ""
        self.began = self.written = time.monotonic()

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Counts on, and writes a line if the last one is old enough; a note stays until the next one."""
        self.done, self.note = self.done + count, note or self.note
        now = time.monotonic()
        if now - self.written >= SECONDS_BETWEEN_LINES:
            self.written = now
            print(self.line(now - self.began), file=sys.stderr, flush=True)

    def line(self, passed: float) -> str:
        """Returns the line after some seconds."""
        share, new = self.done / max(self.total, 1), self.done - self.before
        parts = [f"{self.done:,} of {self.total:,}{self.unit} ({share:.0%})", *([self.note] if self.note else [])]
        parts.append(f"{spell_seconds(passed)} passed")
        if new > 0:
            parts.append(f"{spell_seconds(passed * (self.total - self.done) / new)} left")
        return f"{self.name}: {', '.join(parts)}"


@contextmanager
def bar(total: int, done: int, *, show: bool | None) -> Iterator[Callable[[int, float], None]]:
    """Shows member-steps done, their rate, the loss and the time left.

    Args:
        total: Member-steps in all.
        done: Those that were done before.
        show: Whether to show it, as lines where there is no terminal; None shows it in a terminal only.

    Yields:
        A function of the number of further member-steps done and the mean loss, nan if there is none.
    """
    if show and not is_live():
        lines = Lines("training", total, "member-steps", done)
        yield lambda count, loss: lines(count, f"loss {loss:.4g}" if loss == loss else "")
        return
    if show is False or find_spec("tqdm") is None:
        yield lambda _, __: None
        return
    from tqdm import tqdm

    disable = None if show is None else False
    with tqdm(total=total, initial=done, unit=" member-steps", unit_scale=True, disable=disable) as progress:

        def tick(count: int, loss: float) -> None:
            if loss == loss:
                progress.set_postfix(loss=f"{loss:.4g}", refresh=False)
            progress.update(count)

        yield tick
