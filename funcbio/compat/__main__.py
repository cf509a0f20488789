"""Runs a program written for ``bio_transformations`` unmodified: ``python -m funcbio.compat script.py args``."""

import argparse
import os
import runpy
import sys

from funcbio.compat import install


def main() -> None:
    """Installs the drop-in and runs a script, or a module with ``-m``, as Python itself would."""
    parser = argparse.ArgumentParser(
        prog="python -m funcbio.compat",
        description="Run a program written for bio_transformations on funcbio, with the numbers of release 0.0.5.",
        usage="%(prog)s [-h] (script.py | -m module) [args ...]",
    )
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="run a module, as python -m does")
    parser.add_argument("script", nargs=argparse.REMAINDER, help="run a script; what follows are its arguments")
    arguments = parser.parse_args()
    program = arguments.module or arguments.script
    if not program:
        parser.error("a script or -m module should be given; found neither")
    install()
    sys.argv[:] = program
    if arguments.module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        if not getattr(sys.flags, "safe_path", False):  # With it, Python puts no folder of its own first.
            sys.path[0] = os.path.dirname(os.path.realpath(program[0]))
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
