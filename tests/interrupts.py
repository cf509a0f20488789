"""Ctrl-C at any line: runs something again and again, and stops it at one line of the library after the other."""

import sys
from pathlib import Path

import funcbio

ROOT = str(Path(funcbio.__file__).parent)


class _Stop:
    """A trace function that counts lines of the library, and raises KeyboardInterrupt at one of them."""

    def __init__(self, at=None):
        self.at, self.lines, self.where = at, 0, None

    def __call__(self, frame, *_):
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        return self.line

    def line(self, frame, event, _):
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                self.where = f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.line


def traced(act, at=None):
    """Runs ``act``, interrupted at its ``at``-th line of the library; returns the trace."""
    stop, before = _Stop(at), sys.gettrace()
    sys.settrace(stop)
    try:
        act()
    except KeyboardInterrupt:
        if stop.where is None:
            raise
    finally:
        sys.settrace(before)
    return stop


def interrupted_everywhere(make, act, check, every=1, most=10**6):
    """Interrupts at every line, or every so many, each time in a world of its own; returns how often.

    Args:
        make: Makes a world.
        act: What is interrupted, given the world.
        check: Given the world and the line where it was interrupted, asserts that nothing is half done.
        every: Distance of the lines that are tried.
        most: How many are tried, about; the distance is then larger.
    """
    world = make()
    act(world)  # What is looked up only once is looked up now.
    world = make()
    lines = traced(lambda: act(world)).lines
    tried = range(1, lines + 1, max(every, lines // most))
    for at in tried:
        world = make()
        stop = traced(lambda world=world: act(world), at)
        check(world, stop.where)
    return len(tried)
