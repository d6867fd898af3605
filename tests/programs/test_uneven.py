"""47 samples in 5 uneven shards, which would hang a trainer that splits shards over ranks."""

import json
from pathlib import Path

import pytest
import torch

from tests.data.streams import batches, unit_reader
from tests.programs.test_processes import folder_model as folder_model  # a fixture
from tests.programs.test_processes import run
from tests.samples import write_shards

SIZES = [17, 3, 0, 21, 6]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> list[Path]:
    return write_shards(tmp_path_factory.mktemp("uneven"), SIZES)


def test_every_rank_gets_a_hundred_full_batches(uneven: list[Path]) -> None:
    alone = batches(unit_reader(uneven), 100, 4)
    assert len(alone) == 100
    for world in (2, 4):
        ranks = [batches(unit_reader(uneven), 100, 4, rank=rank, world=world) for rank in range(world)]
        own = 4 // world
        for step, whole in enumerate(alone):
            assert all(len(rank[step]["row"]) == 2 * own for rank in ranks)
            targets = torch.cat([rank[step]["row"][:own] for rank in ranks])
            assert torch.equal(targets, whole["row"][:4])


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_train_a_hundred_steps(uneven: list[Path], folder_model: Path, tmp_path: Path, world: int) -> None:
    overrides = [
        "dataset=folder", f"dataset.path={uneven[0].parent}", "dataset.evaluators=[]", "encoders=clip", "helip.topk=5",
        f"model.name=local-dir:{folder_model}", "model.pretrained=null", "data.batch_size=8", "data.workers=1",
        "trainer=ddp_cpu", f"trainer.devices={world}", "train.max_steps=100", f"hydra.run.dir={tmp_path}/run",
        f"paths.artifacts={tmp_path}/artifacts", f"paths.runs={tmp_path}/runs",
    ]  # fmt: skip
    result = run("train.py", *overrides)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 100
