"""The small world of tests/pipeline, and the faults."""

from tests.faults.injected import small_disk as small_disk
from tests.pipeline.conftest import make_world as make_world
from tests.pipeline.conftest import model_weights as model_weights
from tests.pipeline.conftest import shards as shards
from tests.pipeline.test_processes import folder_model as folder_model
