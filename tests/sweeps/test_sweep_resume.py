"""A sweep that is stopped goes on where it was, alone and on several processes; nothing is lost."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import funcbio

PROGRAM = Path(__file__).with_name("sweeping.py")


def run(*arguments, processes=1):
    program = [PROGRAM, *map(str, arguments)]
    command = [sys.executable, *program]
    if processes > 1:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command += program
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Table and folder of a sweep that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return (folder / "table.csv").read_bytes()


def test_a_table_has_a_row_for_every_member_and_recorded_step(whole):
    lines = whole.decode().splitlines()
    assert lines[0] == "member,seed,mechanisms,lr,step,train_loss,test_loss,test_accuracy"
    assert len(lines) == 1 + 2 * 2 * 5 * 4
    assert [line.split(",")[4] for line in lines[1:5]] == ["7", "14", "21", "24"]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("die_at", [1, 3, 20, 24, 26, 40])
def test_killed_while_saving_and_started_again_it_writes_the_same_table(whole, die_at, tmp_path):
    killed = run(tmp_path, die_at)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "table.csv").exists()
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "table.csv").read_bytes() == whole
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_killed_at_any_moment_again_and_again_it_writes_the_same_table(whole, tmp_path):
    random.seed(1)
    for _ in range(12):
        process = subprocess.Popen([sys.executable, PROGRAM, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(random.uniform(1.5, 6.0))
        process.kill()
        process.communicate()
    assert run(tmp_path).returncode == 0
    assert (tmp_path / "table.csv").read_bytes() == whole


@pytest.mark.sampled(2)
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_share_the_members_and_the_first_has_all_results(whole, processes, tmp_path):
    done = run(tmp_path, processes=processes)
    assert done.returncode == 0, done.stderr
    printed = re.findall("none|result", done.stdout)  # Lines of several processes may run into one another.
    assert sorted(printed) == ["none"] * (processes - 1) + ["result"]
    assert (tmp_path / "table.csv").read_bytes() == whole


@pytest.mark.slow
def test_members_of_a_lost_process_are_taken_up_by_others(whole, tmp_path):
    done = run(tmp_path, 9, 1, processes=2)
    assert done.returncode != 0
    assert not (tmp_path / "table.csv").exists()
    done = run(tmp_path, processes=3)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "table.csv").read_bytes() == whole


def test_a_folder_of_another_sweep_is_refused_and_left_alone(tmp_path):
    x = torch.randn(8, 3)
    arguments = {"steps": 2, "batch_size": 4, "seeds": 2, "output": tmp_path}
    funcbio.sweep(lambda: torch.nn.Linear(3, 1), torch.nn.functional.mse_loss, (x, x[:, :1]), lr=0.1, **arguments)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for change in ({"lr": 0.2}, {"lr": 0.1, "config": funcbio.BioConfig(base_lr=0.3)}, {"lr": 0.1, "steps": 3}):
        with pytest.raises(ValueError, match="output should be a new folder, or that of the same sweep; found another"):
            funcbio.sweep(
                lambda: torch.nn.Linear(3, 1), torch.nn.functional.mse_loss, (x, x[:, :1]), **{**arguments, **change}
            )
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_finished_sweep_is_read_not_trained_again(tmp_path):
    x, made = torch.randn(8, 3), []

    def make():
        made.append(1)
        return torch.nn.Linear(3, 1)

    arguments = {"steps": 2, "batch_size": 4, "seeds": 12, "lr": 0.1, "chunk": 6, "output": tmp_path}
    one = funcbio.sweep(make, torch.nn.functional.mse_loss, (x, x[:, :1]), **arguments)
    made.clear()
    two = funcbio.sweep(make, torch.nn.functional.mse_loss, (x, x[:, :1]), **arguments)
    assert len(made) < 12
    assert two.table == one.table
    assert all(torch.equal(one.params[name], two.params[name]) for name in one.params)
