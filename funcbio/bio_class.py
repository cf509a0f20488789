"""Converted classes: their instances are converted once the outermost constructor has run."""

from typing import Any

from torch import nn


def bio_class(module_class: type[nn.Module], converter: Any) -> type[nn.Module]:
    """Makes a subclass whose instances are converted.

    The work is done by the metaclass, after every constructor, so that layers added by the constructor of a
    further subclass are converted too; copying and unpickling call no constructor and convert nothing twice.

    Args:
        module_class: The class to extend; it is not changed.
        converter: What converts every new instance.

    Returns:
        A class of the same name.
    """
    base: Any = vars(module_class).get("bio_original", module_class)
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}

    def construct(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        # In a decorated class, super(Net, self) names the new class and leads back here: go one further.
        if vars(self).pop("_bio_constructing", False):
            super(base, self).__init__(*args, **kwargs)
            return
        vars(self)["_bio_constructing"] = True
        base.__init__(self, *args, **kwargs)
        vars(self).pop("_bio_constructing", None)

    def make(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return converter.convert(type(base).__call__(cls, *args, **kwargs))

    metaclass: Any = type("BioMeta", (type(base),), {"__call__": make})
    guard: Any = type(base)(base.__name__, (base,), {**names, "__init__": construct})
    return metaclass(base.__name__, (guard,), {**names, "bio_original": base})
