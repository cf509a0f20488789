"""How a program is compiled: into a package that other processes can load, or by torch for this process."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from funcbio.engine._compiling import with_own_code
from funcbio.engine._example import SECOND, SIZES, example
from funcbio.engine._program import GROUPS, LAYERS, MOST, Program

COMPILER: dict[str, Any] = {"realize_opcount_threshold": 40}
"""How long an expression may grow before the compiler gives it a name: fewer, and one loop becomes several; more, and
compiling takes longer, because an expression is gone through once for each of its uses."""
AHEAD = {
    **COMPILER,
    "cpp.dynamic_threads": True,
    "aot_inductor.precompile_headers": False,
    "aot_inductor.enable_line_tables": False,
}
"""For a package: it has to run on as many threads as the process has that loads it. Precompiled headers take eight
seconds to save two in each program; line tables are two thirds of a file."""
MOST_SIZE = 1 << 28
Runner = Callable[[list[Tensor]], Sequence[Tensor]]
Made = TypeVar("Made")


class CheckError(RuntimeError):
    """Says that a package computes other numbers than the rules."""


class _Module(nn.Module):
    """Stands for a program where torch asks for a module."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def forward(self, *inputs: Tensor) -> Any:
        """Runs the program."""
        return self.program(*inputs)


def build(program: Program, device: str, path: Path) -> None:
    """Compiles a program into a package, and checks it.

    Raises:
        CheckError: If the package computes other numbers than the rules.
    """
    import torch._inductor as inductor

    axes = {name: torch.export.Dim(name, min=2, max=MOST_SIZE) for name in (GROUPS, LAYERS, MOST)}
    sizes = tuple({at: axes[s] for at, s in enumerate(one.shape) if isinstance(s, str)} for one in program.inputs())

    def work() -> None:
        inputs = tuple(tensor.to(device) for tensor in example(program, SIZES))
        exported = torch.export.export(_Module(program), inputs, dynamic_shapes=(sizes,), strict=False)
        inductor.aoti_compile_and_package(exported, package_path=str(path), inductor_configs={**AHEAD})
        check(program, open_package(path), device)

    without_modes(work)


def open_package(path: Path) -> Runner:
    """Loads a package."""
    loader: Any = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)  # pyright: ignore[reportAttributeAccessIssue]
    return loader.boxed_run


def check(program: Program, run: Runner, device: str) -> None:
    """Compares a package with the rules at another size than it was made at.

    Raises:
        CheckError: If its numbers are others, by more than rounding.
    """
    inputs = [tensor.to(device) for tensor in example(program, SECOND)]
    expected = [tensor.clone() for tensor in inputs]
    found = [*inputs, *run([*inputs])]  # Programs without results return something, too.
    expected += program(*expected) or ()
    for one, other in zip(found, expected, strict=False):
        near = torch.isclose(one.double(), other.double(), rtol=1e-2, atol=1e-5, equal_nan=True)
        if float(near.double().mean()) < 0.999:  # At thresholds, rounding decides.
            raise CheckError("its package computes other numbers than the rules")


def compile_here(program: Program, device: str) -> Runner:
    """Returns the program as torch compiles it for this process, at once: nothing has changed if torch cannot."""

    def flat(*inputs: Tensor) -> Any:
        return program(*inputs)

    compiled = torch.compile(with_own_code(flat), fullgraph=True, options=COMPILER)  # pyright: ignore[reportArgumentType]

    def first() -> None:
        inputs = [tensor.to(device) for tensor in example(program, SIZES)]
        for one, tensor in zip(program.inputs(), inputs, strict=True):
            for axis in [at for at, size in enumerate(one.shape) if isinstance(size, str)]:
                torch._dynamo.mark_dynamic(tensor, axis)
        compiled(*inputs)

    without_modes(first)
    return lambda inputs: compiled(*inputs) or ()


def without_modes(work: Callable[[], Made]) -> Made:
    """Does work outside of every mode of torch, whatever the call is in: on a new thread if need be.

    Modes belong to their thread. On the caller's own, an interrupt ends the work at once; otherwise when it is done.
    """
    plain = not (torch._C._is_torch_function_mode_enabled() or torch.is_inference_mode_enabled() or _casts())
    if plain:
        return _quietly(work)
    made: list[Made] = []
    errors: list[BaseException] = []
    done = Event()  # An interrupt in ``join`` makes threads look as if they had ended.

    def guarded() -> None:
        try:
            made.append(_quietly(work))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    thread = Thread(target=guarded)
    try:
        thread.start()
        done.wait()
    finally:
        if thread.ident is not None:
            done.wait()  # It writes into a folder that is removed next.
    if errors:
        raise errors[0]
    return made[0]


def _casts() -> bool:
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


@torch.no_grad()
def _quietly(work: Callable[[], Made]) -> Made:
    """Does work without showing that torch uses what it deprecates itself."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):  # Others' warnings pass: filters hold for all threads.
            warnings.simplefilter("ignore", kind)
        return work()
