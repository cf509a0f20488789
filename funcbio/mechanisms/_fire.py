"""FIRE: every weight matrix is replaced by a nearly orthogonal one."""

import math

from torch import Tensor

from funcbio._checks import COUNT_OR_NONE, require
from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel
from funcbio.tensors._arithmetic import unit
from funcbio.tensors._kept import is_watched


def orthogonalise(weight: Tensor, *, iterations: int) -> Tensor:
    """Returns a weight whose matrix, at every tap of a convolution, is nearly orthogonal, by Newton-Schulz steps."""
    if weight.ndim < 2 or not weight.numel():
        return weight
    rows, columns = weight.shape[:2]
    taps = weight.reshape(rows, columns, -1).movedim(-1, 0)
    x = unit(taps if rows <= columns else taps.mT, (1, 2))  # The smaller product is cheaper.
    for _ in range(iterations):
        x = 1.5 * x - 0.5 * (x @ x.mT @ x)
    x = (x if rows <= columns else x.mT) * (math.sqrt(rows / columns) / taps.shape[0])
    return x.movedim(0, -1).reshape(weight.shape)


FIRE = Kernel(
    orthogonalise,
    ("weight",),
    ("weight",),
    limits={"iterations": COUNT_OR_NONE},
    by_leaf=True,
    elementwise=False,
)


def fire(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None, iterations: int = 10
) -> tuple[Tree, Tree, BioState]:
    r"""Replaces every weight matrix by a nearly orthogonal one: an event between tasks, not a step.

    $$X_0 = \frac{W}{\lVert W \rVert_F}, \qquad X_{i+1} = \frac{3}{2} X_i - \frac{1}{2} X_i X_i^\top X_i, \qquad
    W \leftarrow \frac{1}{n} \sqrt{\frac{d_{out}}{d_{in}}}\, X_I.$$

    So all singular values come close to $\sqrt{d_{out} / d_{in}} / n$ while the singular vectors stay. A convolution
    has a matrix of its own, outputs by inputs, at each of the $n$ taps of its kernel; else $n = 1$. A singular value
    that is small beside the norm grows by 1.5 a step at most, 58-fold in ten steps, so that square matrices keep
    some small ones. A matrix of zeros stays one. The first axis counts as that of the outputs.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``; passed on.
        state: Any state with a ``rate`` tree shaped like ``params``; returned as it is.
        key: Not used.
        iterations: Number of steps $I$, an integer of 0 or more; at 0 only the length of the matrix changes.

    Returns:
        The new ``params``, and ``grads`` and ``state`` as given.

    Raises:
        ValueError: If the trees differ in structure or ``iterations`` is no integer of 0 or more.

    Example:
        >>> params = {"w": torch.tensor([[3.0, 0.0], [0.0, 4.0]])}
        >>> fire(params, params, BioState(rate=params), iterations=1)[0]["w"]
        tensor([[0.7920, 0.0000],
                [0.0000, 0.9440]])

    References:
        Han et al., FIRE: Frobenius-Isometry Reinitialization for Balancing the Stability-Plasticity Tradeoff,
        ICLR (2026), arXiv:2602.08040.
    """
    fixed = not (isinstance(iterations, Tensor) and is_watched())
    require("iterations", iterations, "an integer within vmap and other transforms, whose operations it counts", fixed)
    return run_kernel(FIRE, params, grads, state, key=key, iterations=iterations)
