"""The progress bar of a sweep: in a terminal, and only there."""

import fcntl
import os
import struct
import subprocess
import sys
import termios

CODE = """
import torch, funcbio
torch.set_num_threads(1)
x = torch.randn(16, 3)
funcbio.sweep(lambda: torch.nn.Linear(3, 1), torch.nn.functional.mse_loss, (x, x[:, :1]),
              steps=300, batch_size=8, lr=0.1, seeds=4, record_every=50)
"""


def test_a_terminal_shows_rate_loss_and_time_left():
    leader, follower = os.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", CODE], stderr=follower, stdout=follower)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:  # The terminal is gone with the process.
        pass
    os.close(leader)
    assert process.wait() == 0
    last = shown.decode().replace("\r", "\n").strip().split("\n")[-1]
    assert "100%" in last
    assert "1.20k/1.20k" in last
    assert "member-steps/s, loss=" in last
    assert "<00:00" in last


def test_a_file_or_a_pipe_gets_nothing():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
