"""The drop-in: programs written for ``bio_transformations`` run on this library, with the numbers of release 0.0.5.

In a program: ``import funcbio.compat; funcbio.compat.install()`` before the first ``import bio_transformations``.
From outside, for a program that stays as it is: ``python -m funcbio.compat script.py args``.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from funcbio.compat import release

__all__ = ["install"]

NAME = "bio_transformations"
SETTINGS = ("BioConfig", "DEFAULT_BIO_CONFIG", "Distribution")
PARTS = {
    "bio_config": SETTINGS,
    "bio_module": ("BioModule", *SETTINGS),
    "bio_converter": ("BioConverter", "BioModule", *SETTINGS),
}
"""The modules of the release, and the names that could be imported from each."""


def install() -> None:
    """Makes ``import bio_transformations`` mean this library; calling it again changes nothing.

    Raises:
        RuntimeError: If the real package is imported already.

    Example:
        >>> from funcbio import compat
        >>> compat.install()  # doctest: +SKIP
        >>> import bio_transformations  # doctest: +SKIP
    """
    present = sys.modules.get(NAME)
    if hasattr(present, "funcbio_compat"):
        return
    if present is not None:
        raise RuntimeError(
            f"funcbio.compat.install() should be called before {NAME} is imported; found it imported from "
            f"{getattr(present, '__file__', 'an unknown place')}"
        )
    package = _module(NAME, [name for names in PARTS.values() for name in names])
    package.__path__ = []  # Marks a package; its parts are in sys.modules.
    package.__dict__["funcbio_compat"] = True
    package.__dict__["__version__"] = release.VERSION
    for part, names in PARTS.items():
        module = _module(f"{NAME}.{part}", names)
        setattr(package, part, module)
        sys.modules[module.__name__] = module
    sys.modules[NAME] = package


def _module(name: str, exported: list[str] | tuple[str, ...]) -> ModuleType:
    module = ModuleType(name, f"{name}, as funcbio computes it.")
    module.__spec__ = ModuleSpec(name, loader=None, is_package=name == NAME)
    for item in exported:
        setattr(module, item, getattr(release, item))
    return module


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted(__all__)
