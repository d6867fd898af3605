"""Shards of six topics and the training list of them, made once for each file of tests."""

from pathlib import Path

import pytest

from helip.artifacts.shards import ShardIndex
from helip.formats.shards_to_csv import shards_to_csv
from tests.formats.released import topical_shards


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> ShardIndex:
    return topical_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def training_list(index: ShardIndex, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("list") / "toy"
    shards_to_csv(index, out, "toy")
    return out / "toy.csv"
