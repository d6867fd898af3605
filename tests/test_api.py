"""The examples of docs/api.md run, and their comments are true."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import helip
from helip.errors import HelipError
from tests.samples import write_shards

EXAMPLES = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL
)


def run(example: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(compile(example, "docs/api.md", "exec"), names)
    return names


def test_hard_pairs_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = run(EXAMPLES[0], tmp_path, monkeypatch)
    assert names["index"].rows.shape == (500, 10) and names["index"].rows.dtype == np.int32
    assert (names["again"].rows == names["index"].rows[:, :5]).all()


def test_rows_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_shards(tmp_path, [5, 4])
    shards = run(EXAMPLES[1], tmp_path, monkeypatch)["shards"]
    assert len(shards) == 9 and shards.where(7) == "00001.tar, key 000010002 (row 7)"


def test_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = run(EXAMPLES[2], tmp_path, monkeypatch)
    assert torch.isfinite(names["total"])


def test_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_shards(tmp_path, [5, 4])
    names = run(EXAMPLES[3], tmp_path, monkeypatch)
    batch = names["batch"]
    assert len(names["loader"]) == 5 and batch["target"].tolist() == [0, 1, 0, 1]
    rows = batch["row"].tolist()
    assert all(partner in names["pairs"].rows[target] for target, partner in zip(rows[:2], rows[2:], strict=True))
    other = names["pairs"]
    other.meta["fingerprint"] = "other"
    with pytest.raises(HelipError, match="mined on other shards"):
        helip.hard_pair_loader(names["shards"], other, torch.as_tensor, torch.as_tensor, batch_size=4, steps=1)


def test_the_public_names_are_documented_and_load():
    for name in helip.__all__:
        assert getattr(helip, name).__doc__
        assert any(name in example for example in EXAMPLES)
    with pytest.raises(AttributeError):
        helip.nothing  # noqa: B018
