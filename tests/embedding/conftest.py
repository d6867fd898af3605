import pytest
import pytorch_lightning as pl

from helip.artifacts.shards import ShardIndex
from helip.ranks import TrainerSpec, predict_trainer
from tests.samples import write_shards


@pytest.fixture(scope="module")
def trainer() -> pl.Trainer:
    return predict_trainer(TrainerSpec("cpu", 1), progress=False)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> ShardIndex:
    return ShardIndex.build(write_shards(tmp_path_factory.mktemp("shards"), [10, 9, 11]))
