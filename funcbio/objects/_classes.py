"""Converted classes: their instances are converted once the outermost constructor has run."""

import copy
import copyreg
import sys
from functools import reduce
from typing import Any
from weakref import WeakValueDictionary

from torch import nn

from funcbio.bio_config import BioConfig

_made: WeakValueDictionary[Any, type[nn.Module]] = WeakValueDictionary()


def bio_class(module_class: type[nn.Module], converter: Any) -> type[nn.Module]:
    """Makes a subclass whose instances are converted.

    The work is done by the metaclass, after every constructor, so that layers added by the constructor of a
    further subclass are converted too; copying and unpickling call no constructor and convert nothing twice.
    The converter is taken as it is now. The same class with an equal converter gives the same class again: so a
    pickle finds its class, also in another process.

    Args:
        module_class: The class to extend; it is not changed.
        converter: What converts every new instance.

    Returns:
        A class of the same name.
    """
    base: Any = vars(module_class).get("bio_original", module_class)
    identity = (base, type(converter), repr(sorted(map(_whole, vars(converter).items()))))
    if identity not in _made:
        _made[identity] = _make_class(base, copy.copy(converter))
    return _made[identity]


def _whole(attribute: tuple[str, Any]) -> tuple[str, str]:
    """Returns an attribute of a converter with all that tells it from others: a configuration prints less."""
    name, value = attribute
    return name, repr((type(value), vars(value)) if isinstance(value, BioConfig) else value)


def _make_class(base: Any, converter: Any) -> type[nn.Module]:
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
    copyreg.pickle(metaclass, _reduce_class)
    return metaclass(base.__name__, (guard,), {**names, "bio_original": base, "bio_converter": converter})


def _reduce_class(cls: Any) -> Any:
    """Pickles a converted class by its name if that leads to it, else by its base class and converter."""
    try:
        named_class = reduce(getattr, cls.__qualname__.split("."), sys.modules[cls.__module__])
    except (AttributeError, KeyError):
        named_class = None
    if named_class is cls or "bio_original" not in vars(cls):
        return cls.__qualname__
    return bio_class, (cls.bio_original, cls.bio_converter)
