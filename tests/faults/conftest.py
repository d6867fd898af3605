"""The small world of tests/programs, and the faults."""

from tests.faults.injected import small_disk as small_disk
from tests.programs.conftest import make_world as make_world
from tests.programs.conftest import model_weights as model_weights
from tests.programs.conftest import shards as shards
from tests.programs.test_processes import folder_model as folder_model
