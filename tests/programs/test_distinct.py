"""helip.distinct from shards to lists: copies of a pair, an older index, and stricter rules for it."""

import json
from pathlib import Path

import numpy as np

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.sums import SUMS, write_sums
from tests.programs.conftest import TRAIN, VAL, World
from tests.samples import sample, write_tar

KINDS = 11  # of the training part's 32 rows


def test_copies_of_pairs_in_shards(fresh: World, tmp_path: Path) -> None:
    row, kinds = 0, []
    for shard, count in enumerate([12, 10, 10, VAL]):
        numbers = [n % KINDS for n in range(row, row + count)]
        samples = [(f"{row + n:05d}", sample(number)) for n, number in enumerate(numbers)]
        write_tar(tmp_path / f"data/{shard:05d}.tar", samples)
        row, kinds = row + count, kinds + numbers
    fresh.overrides.append(f"dataset.path={tmp_path}/data")
    own = f"paths.index={tmp_path}/own"
    before = fresh.run("mine", own, "helip.distinct=false")
    assert before.status == 0 and "copies of a partner" not in before.out, before.err
    _as_of_an_older_version(tmp_path / "own")
    assert "found, nothing was mined" in fresh.run("mine", own, "helip.distinct=false").out
    (sentence,) = fresh.run("mine", own).errors
    assert "mined with other settings: distinct (false there, true here)" in sentence

    mined = fresh.run("mine", f"paths.index={tmp_path}/new")
    assert mined.status == 0 and "copies of a partner" in mined.out, mined.err
    assert fresh.run("mine", f"paths.index={tmp_path}/new", "verify=true").status == 0
    reused = fresh.run("mine", f"reuse={tmp_path}/own", f"paths.index={tmp_path}/reused")
    assert reused.status == 0, reused.err
    index, again = (HardPairIndex.load(tmp_path / name) for name in ("new", "reused"))
    lists = np.asarray(index.rows[:TRAIN])
    assert np.array_equal(lists[:, : again.depth], again.rows[:TRAIN])
    for target, line in enumerate(lists):
        partners = line[line >= 0].tolist()
        assert partners and max(partners) < KINDS  # the lowest row of each kind
        assert kinds[target] not in partners  # there is none of its own kind


def _as_of_an_older_version(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    del meta["request"]["distinct"]
    (folder / "meta.json").write_text(json.dumps(meta))
    write_sums(folder, [path.name for path in folder.iterdir() if path.name != SUMS])
