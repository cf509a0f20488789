"""Ctrl-C at any line: runs something again and again, and stops it at one line of the library after the other."""

import sys
from pathlib import Path

import funcbio

ROOT = str(Path(funcbio.__file__).parent)


class _Stop:
    """A trace function that counts lines of the library, and raises KeyboardInterrupt at one of them.

    Args:
        at: How many lines come before that one, itself included.
    """

    def __init__(self, at=None):
        self.at, self.lines, self.where = at, 0, None
        self.first, self.last = {}, {}  # When each line of the source was met.

    def __call__(self, frame, *_):
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        return self.line

    def line(self, frame, event, _):
        if event == "line":
            self.lines += 1
            place = frame.f_code.co_filename, frame.f_lineno
            self.first.setdefault(place, self.lines)
            self.last[place] = self.lines
            if self.lines == self.at:
                self.where = f"{Path(place[0]).relative_to(ROOT)}:{place[1]}"
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


def interrupted_everywhere(make, act, check, every=1):
    """Interrupts at every line, where it is first met and where it is last, each time in a world of its own.

    Args:
        make: Makes a world.
        act: What is interrupted, given the world.
        check: Given the world and the line where it was interrupted, asserts that nothing is half done.
        every: Of so many of these moments one is tried.

    Returns:
        How many were tried.
    """
    world = make()
    act(world)  # What is looked up only once is looked up now.
    world = make()
    whole = traced(lambda: act(world))
    moments = sorted({*whole.first.values(), *whole.last.values()})[::every]
    for at in moments:
        world = make()
        stop = traced(lambda world=world: act(world), at)
        check(world, stop.where)
    return len(moments)
