"""Two and more processes: each test starts a program of ``workers`` under torchrun and passes if it passes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
from launching import launched
from places import DOCS

WORKERS = Path(__file__).with_name("workers")
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this build of torch has no processes to talk to"
)


def launch(worker, *args, **options):
    launched(WORKERS / f"{worker}.py", *args, **options)


@pytest.mark.slow
def test_a_failing_process_fails_the_test():
    with pytest.raises(AssertionError, match="differs between processes"):
        launch("failing")


def test_plain_tensors_do_not_pay_for_distributed_ones():
    code = """
import sys, torch, funcbio
params = {"w": torch.ones(3, 2)}
state = funcbio.init(params, key=funcbio.key(0))
funcbio.rejuvenate_weights(params, params, state, key=funcbio.key(1))
funcbio.BioConverter()(torch.nn.Linear(2, 2)).rejuvenate_weights()
print([name for name in ("torch.distributed.tensor", "torch.distributed.fsdp") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_pure_functions_on_shards_equal_the_whole():
    launch("pure", "odd", "by rows")


@pytest.mark.slow
def test_mechanisms_on_all_parameters_equal_the_whole_or_are_refused():
    launch("neighbours")


@pytest.mark.slow
def test_replicas_pool_what_units_sent_and_replace_the_same():
    launch("units")


@pytest.mark.slow
@pytest.mark.parametrize("world", ["odd", "mlp", "cnn", "transformer", "gru", "large"])
def test_the_pure_functions_on_all_kinds_of_parts_equal_the_whole(world):
    launch("pure", world)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["odd", "cnn"])
def test_the_pure_functions_on_a_grid_of_four_processes_equal_the_whole(world):
    launch("pure", world, processes=4, timeout=400)


@pytest.mark.slow
def test_pulls_and_projections_on_shards_equal_the_whole():
    launch("pulls")


def test_replicas_stay_the_same_without_a_word_of_ours():
    launch("ddp", "resnet")


@pytest.mark.slow
def test_replicas_of_other_models_stay_the_same():
    launch("ddp", "mlp", "transformer", "gru")


@pytest.mark.slow
def test_a_model_under_fully_shard_equals_one_process():
    launch("fsdp", "temporal", "mlp")


@pytest.mark.slow
@pytest.mark.parametrize("net", ["mlp", "resnet", "transformer", "gru"])
def test_models_and_distributions_under_fully_shard_equal_one_process(net):
    launch("fsdp", "temporal,activity,weight_adaptive", net)


@pytest.mark.slow
def test_attached_optimizers_on_shards_equal_one_process_and_keep_replicas():
    launch("attaching")


@pytest.mark.slow
def test_tensor_parallel_layers_equal_one_process():
    launch("parallel")


@pytest.mark.slow
def test_the_examples_of_the_page_run():
    launch("document", str(DOCS / "distributed.md"))


@pytest.mark.slow
def test_sharded_tensor_parallel_layers_equal_one_process():
    launch("parallel", processes=4)


@pytest.mark.slow
def test_checkpoints_of_sharded_models_go_on(tmp_path):
    launch("checkpoint", str(tmp_path), "some")


@pytest.mark.slow
def test_checkpoints_of_every_kind_are_read_by_every_kind(tmp_path):
    launch("checkpoint", str(tmp_path), "all")
