"""The tensors that a step changes, as trees for whoever reads them, and as one list for compiled steps."""

from typing import Any

from optree import tree_flatten, tree_unflatten
from torch import Tensor

from funcbio.sweeps._member import MemberTensors

READ = -1
"""Value of ``Flat.unchecked`` once the trees were read."""


class Flat:
    """Holds the tensors of members and the state of their optimizer.

    Args:
        members: The tensors of the members.
        moments: The optimizer's state.

    Attributes:
        unchecked: Steps since torch checked the tensors; ``READ`` if they were read since.
        looks: Sizes and types of the leaves when torch checked them.
    """

    def __init__(self, members: MemberTensors, moments: Any) -> None:
        self.trees: Any = (members, moments)
        self.leaves, self.structure = list[Any](), None
        self.unchecked, self.looks = READ, ()

    def read(self) -> tuple[MemberTensors, Any]:
        """Returns members and the optimizer's state; whoever reads them may run or change anything."""
        if self.trees is None:
            self.trees = tree_unflatten(self.structure, self.leaves)  # pyright: ignore[reportArgumentType]
        self.unchecked = READ
        return self.trees

    def replace(self, members: MemberTensors, moments: Any) -> None:
        """Replaces everything."""
        self.trees, self.unchecked = (members, moments), READ

    def flatten(self) -> list[Any]:
        """Returns the leaves."""
        self.read()
        self.leaves, self.structure = tree_flatten(self.trees)
        return list(self.leaves)

    def checked(self, looks: tuple[Any, ...]) -> None:
        """Notes that torch has checked the leaves that ``flatten`` returned, and how they look."""
        self.unchecked, self.looks = 0, looks

    def ahead(self) -> list[Tensor]:
        """Returns the leaves for the next step to replace; forgets the trees, so that old tensors are freed."""
        self.trees = None
        self.unchecked += 1
        return self.leaves
