"""A compiled step of one set of mechanisms: called by way of torch's checks, or directly where they would pass."""

from collections.abc import Callable
from contextlib import suppress
from types import FunctionType
from typing import Any

import torch
from optree import tree_leaves, tree_map
from torch import Tensor

from funcbio.engine._compiling import with_own_code
from funcbio.sweeps._direct import Call, Direct, direct
from funcbio.sweeps._flat import Flat
from funcbio.sweeps._stack import replaced


class Graph:
    """Compiles a step, and finds out from two calls how to make the later ones directly.

    A call is made directly only if torch has checked two calls of the same compiled code, in which every tensor had
    the same part, and one of them was the last step but for other direct ones.

    Args:
        step: A function of members, the optimizer's state, batch and keys.
        backend: Name of the compiler.

    Attributes:
        found: How the last call that torch checked was made; None if it cannot be made directly.
        proven: The same, if it was made like the one before.
    """

    def __init__(self, step: FunctionType, backend: str = "inductor") -> None:
        self.backend = backend
        self.compiled = torch.compile(with_own_code(step), backend=self._compile, fullgraph=True, dynamic=False)
        self.found: Direct | None = None
        self.proven: Direct | None = None
        self.call: Call | None = None

    def __call__(self, flat: Flat, batch: Any, keys: Tensor) -> Tensor:
        """Makes one step and returns the losses."""
        inputs = [*tree_leaves(batch), keys]
        if self.proven is not None and self.proven.fits(flat, inputs):
            return self.proven(flat, inputs)
        return self._checked(flat, batch, keys, inputs)

    def rehearse(self, members: Any, moments: Any, batch: Any, keys: Tensor) -> None:
        """Compiles, by running a step on copies."""
        self.compiled(members, tree_map(torch.clone, moments), batch, keys)
        self.call = None

    def _checked(self, flat: Flat, batch: Any, keys: Tensor, inputs: list[Any]) -> Tensor:
        """Makes a step that torch checks."""
        before, (members, moments) = flat.flatten(), flat.read()
        changes, moments, loss = self.compiled(members, moments, batch, keys)
        flat.replace(replaced(members, changes), moments)
        call, structure, self.call = self.call, flat.structure, None
        after = flat.flatten()
        found = None
        if call is not None and structure == flat.structure:
            found = direct(call, before, after, inputs, loss)
        self.proven, self.found = (found if found == self.found else None), found
        if self.proven is not None:
            flat.checked(self.proven.looks)
        return loss

    def _compile(self, module: Any, examples: Any) -> Callable[..., Any]:
        """Compiles a graph for torch, into a function that notes what it was called with."""
        run = self._built(module, examples)

        def noted(*arguments: Any) -> Any:
            results = run(*arguments)
            self.call = Call(run, arguments, results)
            return results

        return noted

    def _built(self, module: Any, examples: Any) -> Callable[..., Any]:
        """Returns what the compiler makes of a graph: on a CPU one file of C++, which is built faster than many."""
        build: Any = torch._dynamo.lookup_backend(self.backend)
        if self.backend == "inductor" and all(e.device.type == "cpu" for e in examples if isinstance(e, Tensor)):
            with suppress(Exception):
                return build(module, examples, config_patches={"cpp_wrapper": True})
        return build(module, examples)
