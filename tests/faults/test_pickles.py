"""No pickle is read from an index, embeddings, arrays or a checkpoint: each of these would write a file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helip.artifacts.embeddings import EmbeddingStore
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError
from helip.models.checkpoints import read_checkpoint
from tests.faults.artefacts import make_index, make_shards, make_store
from tests.faults.pickles import Malicious, as_array, as_pickle


@pytest.mark.parametrize("write", [as_array, as_pickle])
@pytest.mark.parametrize(
    ("make", "load", "name"),
    [
        (make_index, HardPairIndex.load, "rows"),
        (make_index, HardPairIndex.load, "scores"),
        (make_store, EmbeddingStore, "image"),
        (make_store, EmbeddingStore, "state"),
        (make_shards, ShardIndex.load, "offset"),
    ],
)
def test_an_artefact_with_a_pickle_is_refused(tmp_path: Path, write, make, load, name: str) -> None:
    make(tmp_path / "artefact")
    write(tmp_path / "artefact" / f"{name}.npy", tmp_path / "trace")
    with pytest.raises(HelipError, match="cannot be read"):
        load(tmp_path / "artefact")
    assert not (tmp_path / "trace").exists()


def test_a_checkpoint_with_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Malicious(tmp_path / "trace")}, tmp_path / "new.ckpt")
    torch.save(Malicious(tmp_path / "trace"), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    as_pickle(tmp_path / "plain.pt", tmp_path / "trace")
    for name in ("new.ckpt", "old.pt", "plain.pt"):
        with pytest.raises(HelipError, match=r"holds a posix.mkdir beside its weights|cannot be read as a checkpoint"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "trace").exists()


def test_the_pickles_are_malicious(tmp_path: Path) -> None:
    """The control: an unsafe reader runs them."""
    as_array(tmp_path / "a.npy", tmp_path / "trace")
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert (tmp_path / "trace").exists()
