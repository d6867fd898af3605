"""mine.py: the mined pairs, their folder, and when they are found again."""

import json
import re
import shutil
from pathlib import Path

import numpy as np

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.mining.reference import hard_pairs
from helip.programs.requests import mining_request
from tests.programs.conftest import TRAIN, VAL, Result, World, settings
from tests.samples import picture, sample, write_shards, write_tar


def indices(world: World, dataset: str = "folder") -> list[Path]:
    return sorted(path.parent for path in (world.folder / "artifacts" / dataset / "hard_pairs").glob("*/meta.json"))


def test_mining_prints_tables_and_draws_a_sheet(world: World, mined: Result) -> None:
    for part in (
        "mining folder: 32 rows, about",
        "What each rule removed",
        "with 5 hard pairs",
        "embeddings",
        "search",
    ):
        assert part in mined.out
    assert f"contact sheet: {mined.folder}/hard_pairs.png" in mined.out
    assert (mined.folder / "hard_pairs.png").stat().st_size > 10_000


def mined_folder(mined: Result) -> Path:
    """The index of a run; other tests mine into the same world."""
    return Path(json.loads((mined.folder / "mining.json").read_text())["hard_pairs"])


def test_the_hard_pairs_are_those_of_brute_force(world: World, mined: Result) -> None:
    """From the stored embeddings; the evaluation part is neither target nor partner."""
    index = HardPairIndex.load(mined_folder(mined))
    assert index.rows.shape == (TRAIN + VAL, TRAIN - 1)  # search.depth is 100, cut to the number of other rows
    (store,) = (world.folder / "artifacts/folder/embeddings").glob("clip-*/meta.json")
    image, text = (np.load(store.parent / f"{name}.npy")[:TRAIN] for name in ("image", "text"))
    rows, scores, _, _ = hard_pairs(image, text, TRAIN - 1)
    assert (np.asarray(index.rows[:TRAIN]) == rows).all()
    assert np.allclose(index.scores[:TRAIN], scores, atol=1e-6)
    assert (np.asarray(index.rows[TRAIN:]) == -1).all()
    shard_index = ShardIndex.build(sorted(world.shards.glob("*.tar")))
    assert index.meta["fingerprint"] == shard_index.fingerprint


def test_the_same_command_finds_the_index(world: World, mined: Result) -> None:
    before = mined_folder(mined)
    written = (before / "rows.npy").stat().st_mtime_ns
    again = world.run("mine", "helip.topk=3")  # a smaller topk needs nothing new
    assert again.status == 0 and "found, nothing was mined" in again.out and "Predicting" not in again.out
    assert (before / "rows.npy").stat().st_mtime_ns == written


def test_other_settings_are_another_index_of_the_same_embeddings(world: World, mined: Result) -> None:
    embeddings = next((world.folder / "artifacts/folder/embeddings").glob("clip-*/image.npy"))
    written = embeddings.stat().st_mtime_ns
    names = set(indices(world))
    result = world.run("mine", "helip.score=text")
    (new,) = set(indices(world)) - names
    assert result.status == 0 and new.name.startswith("text-") and "Predicting" not in result.out
    assert embeddings.stat().st_mtime_ns == written
    assert "did not fit" not in result.out


def test_an_index_of_other_shards_names_both_fingerprints(fresh: World, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    other = tmp_path / "other"
    write_shards(other, [12, 10, 10, VAL], first=100)
    assert fresh.run("mine", f"paths.index={folder}", f"dataset.path={other}").status == 0
    theirs = json.loads((folder / "meta.json").read_text())["fingerprint"]
    ours = ShardIndex.build(sorted(fresh.shards.glob("*.tar"))).fingerprint
    for program in ("mine", "train"):
        result = fresh.run(program, f"paths.index={folder}")
        assert result.status == 1
        (sentence,) = result.errors
        assert theirs[:8] in sentence and ours[:8] in sentence and str(folder) in sentence


def test_an_index_of_ones_own(fresh: World, tmp_path: Path) -> None:
    """paths.index: the files of the public format, refused under other settings, deepened only by mine.py."""
    folder = tmp_path / "own"
    own = f"paths.index={folder}"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    refused = fresh.run("mine", own)
    assert refused.status == 1 and "thesis.txt" in refused.err, refused.err
    assert "name a new or an empty one" in refused.err
    assert not list((fresh.folder / "artifacts").rglob("embeddings"))  # before the work
    (folder / "thesis.txt").unlink()
    assert fresh.run("mine", own, "search.depth=6").status == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS", "meta.json", "rows.npy", "scores.npy", "scores_image.npy", "scores_text.npy",
    ]  # fmt: skip
    bf16 = "trainer.precision=bf16-mixed"
    other = fresh.run("mine", own, "helip.min_similarity=0.5", bf16)
    assert other.status == 1
    assert "min_similarity" in other.errors[0] and "[0.0, 0.0] there, [0.5, 0.5] here" in other.errors[0]
    assert 'embedding.precision ("32-true" there, "bf16-mixed" here)' in other.errors[0]
    shallow = fresh.run("train", own, "helip.topk=9", bf16)  # a training may have another precision
    assert shallow.status == 1
    assert (
        "stores 6 partners per row, but topk=9" in shallow.errors[0] and "mine.py search.depth=9" in shallow.errors[0]
    )
    deeper = fresh.run("mine", own, "helip.topk=9", "search.depth=9")
    assert deeper.status == 0 and HardPairIndex.load(folder).depth == 9


def test_topk_deeper_than_what_is_stored_is_mined_by_itself(fresh: World) -> None:
    assert fresh.run("mine", "search.depth=4", "helip.topk=4").status == 0
    (folder,) = indices(fresh)
    assert HardPairIndex.load(folder).depth == 4
    result = fresh.run("mine", "search.depth=4", "helip.topk=7")
    assert result.status == 0 and indices(fresh) == [folder] and HardPairIndex.load(folder).depth == 7


def test_above_the_limit_training_names_the_nearest_index(world: World, mined: Result) -> None:
    result = world.run("train", "mine.auto_limit=10", "helip.near_duplicate=0.9", "helip.min_similarity=0.3")
    assert result.status == 1
    (sentence,) = result.errors
    assert "32 rows are more than mine.auto_limit=10" in sentence and "run mine.py" in sentence
    assert "/hard_pairs/joint-" in sentence and "/hard_pairs/text-" not in sentence
    assert "search.near_duplicate ([0.98, 0.98] there, [0.9, 0.9] here)" in sentence
    # other tests mine stricter indexes into the same world, which are as near
    assert re.search(r"search\.min_similarity \(\[0\.\d+, 0\.\d+\] there, \[0\.3, 0\.3\] here\)", sentence)


def test_a_damaged_neighbour_is_no_candidate(world: World, mined: Result) -> None:
    neighbour = world.folder / "artifacts/folder/hard_pairs/joint-00000000"
    neighbour.mkdir()
    (neighbour / "meta.json").write_text("{")
    result = world.run("train", "mine.auto_limit=10", "helip.near_duplicate=0.9")
    shutil.rmtree(neighbour)
    assert result.status == 1 and "the nearest index is" in result.errors[0]


def shard_of_twelve(folder: Path, bad: int) -> None:
    """The first `bad` images are zeros of the same length, as after an interrupted copy."""
    entries = [(str(n), sample(n)) for n in range(12)]
    for _, members in entries[:bad]:
        members["jpg"] = bytes(len(members["jpg"]))
    write_tar(folder / "0.tar", entries)


def test_repaired_rows_are_mined_again(fresh: World, tmp_path: Path) -> None:
    """An index of the readable rows is mined again after a repair; training does not write into the user's folder."""
    data, own = tmp_path / "data", tmp_path / "own"
    changes = [f"dataset.path={data}", "dataset.parts.train=':'", "~dataset.parts.val", "dataset.evaluators=[]"]
    shard_of_twelve(data, 4)
    assert fresh.run("mine", *changes).status == 0
    failed = fresh.run("mine", *changes, "data.on_error=fail")
    assert failed.status == 1 and re.search(r"0\.tar, key 0 \(row 0\).*data\.on_error=skip", failed.errors[0])
    (folder,) = indices(fresh)
    older = HardPairIndex.load(folder)
    assert older.meta["embedded"] == 8 and (older.counts() > 0).sum() == 8
    shutil.copytree(folder, own)
    shard_of_twelve(data, 0)
    refused = fresh.run("train", *changes, f"paths.index={own}")
    assert refused.status == 1 and "rows can be read now that had no embedding" in refused.errors[0]
    again = fresh.run("mine", *changes)
    assert again.status == 0 and "embeddings: 8 rows exist, 4 to embed" in again.out
    newer = HardPairIndex.load(folder)
    assert newer.meta["embedded"] == 12 and (newer.counts() > 0).all()
    assert "found, nothing was mined" in fresh.run("mine", *changes).out


def test_hard_pairs_of_a_shard_that_was_replaced_are_mined_again(fresh: World, tmp_path: Path) -> None:
    """The new shard has the same sizes and fingerprint, but the old index does not fit it."""
    data = tmp_path / "data"
    changes = [f"dataset.path={data}", "dataset.parts.train=':'", "~dataset.parts.val", "dataset.evaluators=[]"]

    def write(first: int) -> None:
        samples = [(f"k{n}", {"bmp": picture(first + n, 24, "BMP"), "txt": b"%05d" % (first + n)}) for n in range(12)]
        write_tar(data / "0.tar", samples)

    write(0)
    assert fresh.run("mine", *changes).status == 0
    (folder,) = indices(fresh)
    before = HardPairIndex.load(folder).meta
    shutil.copytree(folder, tmp_path / "own")
    write(40)
    refused = fresh.run("train", *changes, f"paths.index={tmp_path}/own")
    assert refused.status == 1 and "or their shards were replaced: run mine.py" in refused.errors[0]
    again = fresh.run("mine", *changes)
    assert again.status == 0 and "12 rows could not be read before, or are of shards that were replaced" in again.out
    after = HardPairIndex.load(folder).meta
    assert after["fingerprint"] == before["fingerprint"] and after["content"] != before["content"]
    assert "found, nothing was mined" in fresh.run("mine", *changes).out
    refused = fresh.run("mine", *changes, f"reuse={tmp_path}/own", "helip.near_duplicate=0.9")
    assert refused.status == 1 and "was mined on shards that were replaced since" in refused.errors[0]


def test_what_names_embeddings() -> None:
    """The order of caption sources and the precision are part of the identity, probabilities are not."""

    def identity(*overrides: str) -> dict:
        return mining_request(settings("mine", *overrides)).settings()["embedding"]

    first = identity("data.caption={txt: 0.2, llava: 0.8}")
    assert first["caption"] == ["txt", "llava"] and first == identity("data.caption={txt: 0.7, llava: 0.3}")
    assert identity("data.caption={llava: 0.8, txt: 0.2}")["caption"] == ["llava", "txt"]
    plain = identity("trainer=cpu")
    assert plain["caption"] == "txt" and plain["precision"] == "32-true"
    assert identity("trainer=cpu", "trainer.precision=bf16-mixed")["precision"] == "bf16-mixed"


def test_a_part_of_the_shards_can_be_lost_or_added(make_world, shards: Path, tmp_path: Path) -> None:
    """Added shards: embeddings of the old ones are taken over, only the new rows are computed."""
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    (data / "00003.tar").unlink()
    grown = make_world(tmp_path, [f"dataset.path={data}", "dataset.parts.train=':'", "~dataset.parts.val"])
    assert grown.run("mine", "dataset.evaluators=[]").status == 0
    shutil.copy(shards / "00003.tar", data)
    result = grown.run("mine", "dataset.evaluators=[]")
    assert result.status == 0 and "embeddings: 32 rows exist, 8 to embed" in result.out
    stores = sorted(
        (tmp_path / "artifacts/folder/embeddings").glob("*/image.npy"), key=lambda path: path.stat().st_size
    )
    one, two = (np.load(path) for path in stores)
    assert len(one) == TRAIN and len(two) == TRAIN + VAL and (one == two[:TRAIN]).all()
    assert not (two == 0).all(1).any()
