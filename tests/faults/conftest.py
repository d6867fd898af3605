"""The small world of tests/programs, and the faults."""

import pytest

from tests.faults.injected import small_disk as small_disk
from tests.faults.runs import TRAINING, outcome
from tests.programs.conftest import make_world as make_world
from tests.programs.conftest import model_weights as model_weights
from tests.programs.conftest import shards as shards
from tests.programs.test_processes import folder_model as folder_model


@pytest.fixture(scope="module")
def unbroken(make_world, tmp_path_factory) -> dict[str, bytes]:
    world = make_world(tmp_path_factory.mktemp("unbroken"))
    assert world.run("train", *TRAINING).status == 0
    return outcome(world)
