"""mine.py verify=true: good if nothing changed; otherwise the message names both sides."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.sums import SUMS, write_sums
from tests.programs.conftest import Result, World
from tests.programs.test_bad_input import refused
from tests.samples import sample, write_tar


@pytest.fixture(scope="module")
def checked(make_world, tmp_path_factory) -> World:
    """A world with shards of its own, mined and trained for two steps."""
    world = make_world(tmp_path_factory.mktemp("checked"))
    data = world.folder / "data"
    shutil.copytree(world.shards, data)
    world.overrides.append(f"dataset.path={data}")
    assert world.run("train", "train.max_steps=2", "dataset.evaluators=[]").status == 0
    return world


@pytest.fixture
def copy(checked: World, tmp_path: Path) -> World:
    """A copy of the artefacts to damage; the shards are shared."""
    shutil.copytree(checked.folder / "artifacts", tmp_path / "artifacts")
    return World(tmp_path, checked.folder / "data", checked.weights, checked.overrides)


def verify(world: World, *more: str) -> Result:
    return world.run("mine", "verify=true", f"paths.artifacts={world.folder}/artifacts", *more)


def only(world: World, pattern: str) -> Path:
    (found,) = world.folder.glob(f"artifacts/folder/{pattern}")
    return found


def test_all_is_good(checked: World) -> None:
    (run,) = (checked.folder / "runs").glob("train-*")
    result = verify(checked, f"verify_checkpoint={run}")
    assert result.status == 0, result.err
    lines = [line for line in result.out.splitlines() if line.startswith(("good", "wrong"))]
    assert len(lines) == 10 and all(line.startswith("good") for line in lines)
    assert "32 rows by brute force in float64" in result.out
    assert not (result.folder / "hard_pairs.png").exists()


def test_a_few_rows_are_enough_where_there_are_many(checked: World) -> None:
    assert "5 rows by brute force" in verify(checked, "verify_rows=5").out
    refused(verify(checked, "verify_rows=0"), "verify_rows=0 must be at least 1")
    refused(verify(checked, "verify_row=5"), "no setting 'verify_row'")


def test_nothing_to_verify(checked: World, tmp_path: Path) -> None:
    refused(verify(checked, "helip.skip_first=1"), "no hard pairs in .*run mine.py with the same overrides")


@pytest.mark.parametrize("pattern", ["hard_pairs/*/scores.npy", "embeddings/*/text.npy", "shards-*/offset.npy"])
def test_a_flipped_byte(copy: World, pattern: str) -> None:
    file = only(copy, pattern)
    data = bytearray(file.read_bytes())
    data[-7] ^= 1
    file.write_bytes(data)
    refused(verify(copy), rf"verify found {file} has the sum \w{{8}}, not \w{{8}}: delete ")


def test_sums_that_agree_with_a_wrong_index(copy: World) -> None:
    """As after a fault of the search, which only the brute force finds."""
    folder = only(copy, "hard_pairs/*/meta.json").parent
    rows = np.load(folder / "rows.npy")
    rows[3, [0, 1]] = rows[3, [1, 0]]
    np.save(folder / "rows.npy", rows)
    write_sums(folder, [path.name for path in folder.iterdir() if path.name != SUMS])
    refused(verify(copy), r"scores are not those of the embeddings: 1 of 32 rows, such as row 3 with \d+: delete")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"search": {"backend": "pool"}}, "say that they were searched by pool, not by auto: delete"),
        ({"search": 5}, "searched by None"),
        ({"groups": []}, r"say that \[\] kept copies apart, not \['image_group', 'text_group', 'pair_group'\]"),
        (
            {"settings": {"score": "joint", "skip_first": 2}},
            "say that their rules were {'score': 'joint', 'skip_first': 2}",
        ),
        ({"settings": None}, "say that their rules were None"),
    ],
)
def test_an_index_is_judged_by_what_was_asked_for(copy: World, changes: dict, sentence: str) -> None:
    """Not by its own description: with that of a random pool, any list of pairs would be good."""
    folder = only(copy, "hard_pairs/*/meta.json").parent
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | changes))
    write_sums(folder, [path.name for path in folder.iterdir() if path.name != SUMS])
    refused(verify(copy), sentence)


def test_a_file_without_a_sum(copy: World) -> None:
    folder = only(copy, "hard_pairs/*/meta.json").parent
    sums = (folder / SUMS).read_text().splitlines(keepends=True)
    (folder / SUMS).write_text("".join(line for line in sums if "scores.npy" not in line))
    refused(verify(copy), "scores.npy is not listed in SHA256SUMS: delete")


def test_embeddings_whose_shards_begin_elsewhere(copy: World) -> None:
    """Another dataset that shares a shard would reuse its rows."""
    folder = only(copy, "embeddings/*/meta.json").parent
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"starts": [0, *(n + 1 for n in meta["starts"][1:])]}))
    refused(verify(copy), "say that their shards begin at other rows: delete")


def test_embeddings_of_others(copy: World) -> None:
    folder = only(copy, "embeddings/*/meta.json").parent
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"fingerprint": "0" * 64}))
    result = verify(copy)
    refused(result, r"embeddings are of other shards \(0{8}\) than these \(\w{8}\)")
    image = np.load(folder / "image.npy")
    np.save(folder / "image.npy", image[::-1] * 2)
    result = verify(copy)
    refused(result, "and .* more, listed above")
    for part in ("image.npy has the sum", "32 embeddings are not of length 1", "of row 0 is zero"):
        assert part in result.out


def test_samples_with_other_bytes_in_the_same_places(checked: World, copy: World) -> None:
    """The fingerprint covers headers only; digests of the embedded bytes find the change."""
    shard = copy.shards / "00001.tar"
    before = shard.read_bytes()
    shard.write_bytes(before.replace(b"picture number 15", b"picture number 51"))
    try:
        result = copy.run("mine", f"paths.artifacts={copy.folder}/artifacts", "verify=true")
        refused(result, r"1 samples are not the bytes that were embedded, such as 00001\.tar, key 000010003 \(row 15\)")
    finally:
        shard.write_bytes(before)


def test_a_checkpoint_of_other_hard_pairs(checked: World, tmp_path: Path) -> None:
    other = checked.run("train", "train.max_steps=1", "dataset.evaluators=[]", "helip.min_similarity=0.01")
    assert other.status == 0
    refused(verify(checked, f"verify_checkpoint={other.folder}"), r"trained on other hard pairs \(\w{8}\) than these")
    refused(
        verify(checked, f"verify_checkpoint={other.folder}/final.pt"),
        "is weights alone, and no checkpoint of a training",
    )


def test_a_run_goes_on_with_its_own_hard_pairs_only(checked: World) -> None:
    """Settings of helip and hard pairs are compared with those of the checkpoint."""
    (run, *_) = sorted((checked.folder / "runs").glob("train-*"))
    resumed = [f"train.resume={run}", "train.max_steps=2", "dataset.evaluators=[]"]
    refused(
        checked.run("train", *resumed, "search.backend=pool"),
        r"train\.resume: hard_pairs was \w{8} and is \w{8}",
    )


def test_shards_that_changed_are_named(checked: World, tmp_path: Path) -> None:
    """A new size or time gives a new shard index, which the old hard pairs do not fit."""
    data = tmp_path / "data"
    shutil.copytree(checked.folder / "data", data)
    write_tar(data / "00001.tar", [(f"00001{n:04d}", sample(12 + n)) for n in range(9)])
    refused(verify(checked, f"dataset.path={data}"), "no hard pairs in")
    refused(
        checked.run("train", f"dataset.path={data}", "mine.auto_limit=1"),
        r"no hard pairs fit.*the nearest index is .* which differs in .*fingerprint",
    )
