"""Links from entries of the reference to one another, to torch and to optree; no network is asked for addresses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from griffe import Extension, Object

TORCH = "https://docs.pytorch.org/docs/stable"
OPTREE = "https://optree.readthedocs.io/en/latest"
OWN_PAGE = [
    "torch.compile",
    "torch.func.functional_call",
    "torch.func.grad",
    "torch.func.vmap",
    "torch.nn.Module",
    "torch.optim.SGD",
    "torch.quantile",
    "torch.vmap",
]
"""Names of torch with a page of their own."""
SHARED_PAGE = {
    "amp": ["torch.amp.GradScaler"],
    "distributed": ["torch.distributed.ProcessGroup"],
    "optim": ["torch.optim.Optimizer"],
    "data": ["torch.utils.data.TensorDataset"],
    "size": ["torch.Size"],
    "tensor_attributes": ["torch.device", "torch.dtype"],
    "tensors": ["torch.Tensor"],
}
"""Pages of torch that hold several names."""
DTYPES = ["torch.float32", "torch.int32"]
MODULES = {"torch": "torch", "torch.distributed": "distributed", "torch.nn": "nn", "torch.optim": "optim"}
OPTREE_NAMES = ["optree.tree_flatten", "optree.tree_leaves", "optree.tree_map", "optree.tree_unflatten"]

ENTRY = re.compile(r"^::: (funcbio\.\S+)$", re.MULTILINE)
QUOTED = re.compile(r"``([\w.]+)``")


def addresses() -> dict[str, str]:
    """Where torch and optree document a name, by the pattern of their sites."""
    pages = {name: f"generated/{name}" for name in OWN_PAGE}
    pages |= {name: page for page, names in SHARED_PAGE.items() for name in names}
    found = {name: f"{TORCH}/{page}.html#{name}" for name, page in pages.items()}
    found |= dict.fromkeys(DTYPES, found["torch.dtype"])
    found |= {name: f"{TORCH}/{page}.html#module-{name}" for name, page in MODULES.items()}
    return found | {name: f"{OPTREE}/ops.html#{name}" for name in OPTREE_NAMES}


def on_pre_build(config: Any, **others: Any) -> None:
    """Called by mkdocs: tells the plugin that resolves references where these names lead."""
    del others
    for name, address in addresses().items():
        config.plugins["autorefs"].register_url(name, address)


def entries() -> Iterator[str]:
    """Names that the reference documents."""
    for page in (Path(__file__).parent / "reference").glob("*.md"):
        yield from ENTRY.findall(page.read_text())


def targets() -> dict[str, str]:
    """What may stand in a docstring, and the name that it leads to; our classes are also known without the package."""
    ours = {name: name for name in entries()}
    classes = {name.removeprefix("funcbio."): name for name in ours if name.split(".")[1][0].isupper()}
    return {name: name for name in addresses()} | ours | classes


class Links(Extension):
    """Called by griffe for every object that it has read: makes links of names in docstrings."""

    def __init__(self) -> None:
        self.targets = targets()

    def on_instance(self, *, obj: Object, **others: Any) -> None:
        """Every quoted name that has an address becomes a reference to it."""
        del others
        if obj.docstring:
            obj.docstring.value = QUOTED.sub(self.link, obj.docstring.value)

    def link(self, quoted: re.Match[str]) -> str:
        """A reference, or what stands there if the name leads nowhere."""
        target = self.targets.get(quoted[1])
        return f"[`{quoted[1]}`][{target}]" if target else quoted[0]
