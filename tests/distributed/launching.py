"""Programs on several processes of this machine."""

import subprocess
import sys

import pytest
from places import environment


def launched(program, *args, processes=2, timeout=240):
    """Runs a program under torchrun on the loopback interface; fails with all it has printed if one process fails."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    env = environment(OMP_NUM_THREADS="1", PYTHONWARNINGS="default")
    if sys.platform == "linux":
        env["GLOO_SOCKET_IFNAME"] = "lo"
    run = subprocess.Popen(
        [*start, "--local-addr=127.0.0.1", str(program), *args],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        run.terminate()  # The launcher then ends its processes.
        output, _ = run.communicate(timeout=60)
        pytest.fail(f"{program.stem} took more than {timeout} seconds\n{output}")
    assert run.returncode == 0, output
    return output
