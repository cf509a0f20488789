"""The device that the tests of this folder run on: a GPU, or the one that ``FUNCBIO_TEST_DEVICE`` names."""

import os
import warnings
from contextlib import contextmanager

import pytest
import torch

DEVICE = torch.device(os.environ.get("FUNCBIO_TEST_DEVICE") or "cuda")
REASON = "needs a CUDA device"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason=REASON)


def require_device():
    """Skips the rest of a file where the device is a GPU and there is none."""
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip(REASON, allow_module_level=True)


@contextmanager
def no_waiting(device):
    """Makes it an error, on a GPU, that the CPU waits for it; on the meta device reading a number is one anyway."""
    if torch.device(device).type != "cuda":
        yield
        return
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch says that it does not find every kind of waiting.
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
