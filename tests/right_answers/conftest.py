"""The small world of the pipeline's tests: shards, a tiny model, and the programs called in this process."""

from tests.programs.conftest import fresh, make_world, model_weights, shards, world

__all__ = ["fresh", "make_world", "model_weights", "shards", "world"]
