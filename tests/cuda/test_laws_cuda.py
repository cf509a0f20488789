"""Every law once more, on tensors of another device: the functions of ``tests/laws``, with that as torch's default.

What the laws of bad input and of idle mechanisms look at is not on a device.
"""

import pytest
import test_doors
import test_extremes
import test_laws
import torch
from devices import DEVICE, require_device

from funcbio.engine._options import OPTIONS

require_device()
MODULES = (test_laws, test_extremes, test_doors)
LAWS = [(name, law) for module in MODULES for name, law in vars(module).items() if name.startswith("test_")]
globals().update(LAWS)
pytestmark = test_doors.pytestmark


@pytest.fixture(autouse=True)
def _on_the_device(monkeypatch):
    """Makes tensors there by default, and the keys that were made before."""
    monkeypatch.setattr(OPTIONS, "drawn_elements", 1 << 12)  # As in the laws of the doors.
    for module in (test_laws, test_extremes):
        monkeypatch.setattr(module, "KEY", module.KEY.to(DEVICE))
    torch.set_default_device(DEVICE)
    yield
    torch.set_default_device(None)


def test_no_law_hides_another():
    assert len(dict(LAWS)) == len(LAWS) > 30
    assert torch.ones(()).device.type == test_laws.model_world("mlp")[0]["0.weight"].device.type == DEVICE.type
