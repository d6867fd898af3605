"""A run that is killed in every stage and repeated: the same bytes, and no wrong pair."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.faults.injected import dying, in_child
from tests.faults.recorder import recording, wrong_pairs
from tests.faults.runs import TRAINING, leftovers, no_wrong_pairs, outcome
from tests.programs.conftest import World

BEFORE = signal.getsignal(signal.SIGTERM)


def final_weights(temporary: object, path: object) -> bool:
    return str(path).endswith("final.pt")


def metadata(temporary: object, path: object) -> bool:
    return str(path).endswith("results.json")


# stage, place, call, condition: at that call of that place the process dies, just before it is carried out
STAGES: list[tuple[str, str, int, Callable[..., bool]]] = [
    ("shard scan", "helip.artifacts.shard_scan.scan_shard", 3, lambda *_: True),
    ("shard index, half written", "helip.artifacts.shards.write_sums", 1, lambda *_: True),
    ("embedding, first batch", "helip.artifacts.embeddings.EmbeddingStore.write", 1, lambda *_: True),
    ("embedding, in between", "helip.artifacts.embeddings.EmbeddingStore.write", 2, lambda *_: True),
    ("embedding, all but the end", "helip.artifacts.embeddings.write_sums", 1, lambda *_: True),
    ("mining, plan", "helip.mining.miner.read_plan", 1, lambda *_: True),
    ("mining, in between", "helip.mining.block_store.BlockStore.write", 3, lambda *_: True),
    ("mining, half assembled", "helip.mining.block_store.write_meta", 1, lambda *_: True),
    ("evaluation before", "helip.evaluation.clip_embed.ClipEmbed.part", 1, lambda *_: True),
    ("training, first step", "helip.training.module.HelipModule.training_step", 1, lambda *_: True),
    ("training, in between", "helip.training.module.HelipModule.training_step", 4, lambda *_: True),
    ("training, a checkpoint", "pytorch_lightning.Trainer.save_checkpoint", 1, lambda *_: True),
    ("training, the last checkpoint", "pytorch_lightning.Trainer.save_checkpoint", 3, lambda *_: True),
    ("evaluation after", "helip.evaluation.clip_embed.ClipEmbed.part", 2, lambda *_: True),
    ("export, half written", "os.replace", 1, final_weights),
    ("results, half written", "os.replace", 1, metadata),
]
QUICK = (1, 3, 7, 14)  # a shard index, embeddings, hard pairs, an export; training and mining have other tests


def train(world: World, record: Path) -> int:
    with recording(world.shards, record):
        return world.run("train", *TRAINING).status


def killed(world: World, how: signal.Signals, stages: list) -> None:
    """Each run dies one stage later; the last one finishes."""
    record = world.folder / "record"
    for stage, place, call, when in stages:

        def die(place: str = place, call: int = call, when: Callable[..., bool] = when) -> int:
            with dying(place, how, call, when):
                return train(world, record)

        stopped = in_child(die)
        # SIGTERM inside the fit writes a checkpoint first
        inside_fit = "training" in stage or stage == "evaluation after"
        wanted = (-how, 128 + how) if how == signal.SIGTERM and inside_fit else (-how,)
        assert stopped in wanted, f"{stage}: {stopped}"
    with recording(world.shards, record):
        finished = world.run("train", *TRAINING)
    assert finished.status == 0, finished.err


def check(world: World, unbroken: dict[str, bytes]) -> None:
    assert outcome(world) == unbroken
    assert leftovers(world.folder) == []
    no_wrong_pairs(world, world.folder / "record")


def test_sigterm_ends_what_comes_after_the_training(unbroken) -> None:
    """For example the next job of a sweep, which a remaining signal handler would let run on."""
    assert signal.getsignal(signal.SIGTERM) == BEFORE


def test_killed_in_one_place_of_every_stage(make_world, unbroken, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    killed(world, signal.SIGKILL, [STAGES[number] for number in QUICK])
    check(world, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("stage", STAGES, ids=[stage[0] for stage in STAGES])
def test_killed_in_each_place(make_world, unbroken, tmp_path: Path, stage, how: signal.Signals) -> None:
    world = make_world(tmp_path)
    killed(world, how, [stage])
    if (world.folder / "record").exists():
        check(world, unbroken)
    assert outcome(world) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_all_places_one_after_the_other(make_world, unbroken, tmp_path: Path, how: signal.Signals) -> None:
    world = make_world(tmp_path)
    # SIGTERM writes a checkpoint at once, so a resumed run writes no third checkpoint
    stages = [stage for stage in STAGES if "last checkpoint" not in stage[0]]
    if how == signal.SIGTERM:  # after the checkpoint of the last step there is no training to end
        stages = [stage for stage in stages if stage[0] != "training, a checkpoint"]
    killed(world, how, stages)
    check(world, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_evaluation_that_is_killed(make_world, unbroken, tmp_path: Path, how: signal.Signals) -> None:
    """It leaves nothing that the next run could reuse by mistake."""
    world = make_world(tmp_path)
    expected = world.run("evaluate")

    def die() -> int:
        with dying("helip.embedding.embedder.Embedder.predict_step", how):
            return world.run("evaluate").status

    assert in_child(die) == -how
    again = world.run("evaluate")
    assert again.status == 0
    assert (again.folder / "metrics.md").read_text() == (expected.folder / "metrics.md").read_text()


def test_the_recorder_sees_a_wrong_pair(make_world, tmp_path: Path) -> None:
    """The control: an index with rows moved by one, as in fault 1 of the released scripts."""
    world = make_world(tmp_path)
    record = tmp_path / "record"
    assert train(world, record) == 0
    (index,) = (world.folder / "artifacts/folder/hard_pairs").glob("*/meta.json")
    pairs, wrong = wrong_pairs(record, index.parent, 5)
    assert pairs == 6 * 4 and wrong == []
    rows = np.load(index.parent / "rows.npy")
    np.save(index.parent / "rows.npy", np.roll(rows, 1, axis=0))
    _, wrong = wrong_pairs(record, index.parent, 5)
    assert len(wrong) > pairs / 2
    (line, *_) = record.read_text().splitlines()
    assert '"key": "0000' in line and '"shard": "0000' in line
    assert os.path.getsize(record) > 0
