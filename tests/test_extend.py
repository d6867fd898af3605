"""examples/extend: one of each open part, added from outside the package, runs."""

import csv
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.hard_pairs import HardPairIndex
from helip.cli import ROOT
from helip.data.plans.contract import PlanData, planned_step
from helip.errors import HelipError
from helip.formats import convert
from helip.mining.miner import mine_hard_pairs
from helip.mining.plan import own_search
from tests.programs.conftest import MODEL, Result, World, call, compose, make_world, model_weights, shards, world

__all__ = ["make_world", "model_weights", "shards", "world"]
EXTEND = ROOT / "examples/extend"
CONF = ["--config-dir", str(EXTEND / "conf")]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))


@pytest.fixture(scope="module")
def trained(world: World) -> Result:
    """Shards in a .zip, mined by own encoders and an own search, and a training with all other parts."""
    archive = world.folder / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for shard in sorted(world.shards.glob("*.tar")):
            file.write(shard, shard.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        return call(
            "train", world.folder / "runs", *CONF, "dataset=folder", "paths=zip", f"dataset.path=zip://{archive}",
            "dataset.parts.train=0:3", "+dataset.parts.val=3:4", "encoders=coarse", "search=text_first",
            "search.depth=5", "helip=paper", "helip.schedule=harder", "helip.margin=joint", "train.loss=aligned",
            "train.loss.weight=0.5", "callbacks=weight_norm", "evaluation=aligned", "trainer=clipped",
            "data.batch_size=8", "data.workers=0", "helip.topk=5", "train.max_steps=2", "train.log_every=1",
            "train.advise=false", "train.evaluate=end", f"model.name={MODEL}", f"model.pretrained={world.weights}",
            *(place for place in world.places if not place.startswith("trainer")),
        )  # fmt: skip


def test_a_training_of_own_parts(trained: Result, world: World) -> None:
    assert trained.status == 0, trained.err
    metrics = json.loads((trained.folder / "results.json").read_text())["metrics"]
    assert all(0 <= column["aligned/above_floor"] <= 1 for column in metrics.values())
    with open(trained.folder / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss") or row.get("weight_norm")]
    assert any(float(row["weight_norm"] or 0) > 0 for row in rows)
    assert any("alignment" in name and row[name] for row in rows for name in row)


def test_the_hard_pairs_are_those_of_the_own_search(trained: Result, world: World, tmp_path: Path) -> None:
    assert trained.status == 0, trained.err
    (meta,) = (world.folder / "artifacts").glob("*/hard_pairs/*/meta.json")
    index = HardPairIndex.load(meta.parent)
    assert index.meta["search"]["backend"] == index.meta["settings"]["backend"] == "extend.backend.TextFirst"
    assert index.meta["statistics"]["recall"]["value"] > 0.5
    convert.main(["extend.to_lines", str(meta.parent), str(tmp_path / "pairs.jsonl")])
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == len(index.rows)
    assert [line["partners"] for line in lines] == [[n for n in row if n >= 0] for row in index.rows.tolist()]


def test_a_plan_is_tested_without_an_image() -> None:
    from extend.plan import Consecutive  # type: ignore[import-not-found]

    valid = np.ones(20, bool)
    valid[7] = False
    plan = Consecutive().bind(PlanData(valid, np.array([0, 20]), batch_size=4, seed=3))
    rows = np.concatenate([planned_step(plan, step)[0] for step in range(19)])  # 4 epochs of 19 rows
    assert (np.bincount(rows, minlength=20) == 4 * valid).all()
    assert np.isin(np.diff(np.flatnonzero(valid).searchsorted(rows[:19])), (1, -18)).all()
    config = compose("train", f"hydra.searchpath=[file://{EXTEND}/conf]", "plan=consecutive")
    assert config["helip"]["plan"] == {"_target_": "extend.plan.Consecutive"}


def test_candidates_near_enough_are_the_true_hard_pairs() -> None:
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(60, 8)), rng.normal(size=(60, 8))
    found = mine_hard_pairs(image, text, k=16, backend="extend.backend.TextFirst")  # 4 k are all rows
    exact = mine_hard_pairs(image, text, k=16, backend="exact")
    assert (found.rows == exact.rows).all() and found.meta["statistics"]["recall"]["value"] == 1
    with pytest.raises(HelipError, match=r"backend=extend\.nothing\.There cannot be imported"):
        mine_hard_pairs(image, text, k=4, backend="extend.nothing.There")
    with pytest.raises(HelipError, match=r"search\.backend=a\.b\.C cannot be imported"):
        own_search("a.b.C")


def test_the_partner_rule_moves_from_easy_to_hard() -> None:
    from extend.schedule import Harder  # type: ignore[import-not-found]

    live, rng = np.arange(10), np.random.default_rng(0)
    for progress, window in ((0, {8, 9}), (0.5, {4, 5}), (1, {0, 1})):
        order = Harder().order(live, None, progress, 2, rng)
        assert set(order[:2]) == window and sorted(order) == list(live)


def test_each_file_is_short_and_in_the_table() -> None:
    said = (EXTEND / "README.md").read_text()
    for file in EXTEND.glob("*.py"):
        assert len(file.read_text().splitlines()) < 40, file
        assert f"({file.name})" in said
    for node in (EXTEND / "conf").rglob("*.yaml"):
        for module in re.findall(r"_target_: extend\.(\w+)\.", node.read_text()):
            assert (EXTEND / f"{module}.py").is_file(), node
