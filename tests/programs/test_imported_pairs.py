"""Hard pairs of the released scripts in train.py and mine.py: paths.index=IMPORTED."""

import json
from pathlib import Path

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.formats.from_released import from_released
from tests.programs.conftest import TRAIN, VAL, World


def test_imported_pairs_are_trained_on(fresh: World, tmp_path: Path) -> None:
    shards = ShardIndex.build(sorted(fresh.shards.glob("*.tar")))
    urls = {f"u{row}": row for row in range(TRAIN + VAL)}
    (tmp_path / "urls.json").write_text(json.dumps(urls))
    lines = [[row, *((row + n) % TRAIN for n in range(1, 6))] for row in range(TRAIN)]
    (tmp_path / "hard.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    from_released(tmp_path / "hard.csv", shards, tmp_path / "index", tmp_path / "urls.json")
    overrides = [f"paths.index={tmp_path}/index", "train.max_steps=2", "train.evaluate=end"]
    trained = fresh.run("train", *overrides)
    assert trained.status == 0, trained.err
    assert f"hard pairs: {tmp_path}/index" in trained.out and "mining folder" not in trained.out
    for setting, sentence in (
        ("helip.topk=6", "are 5 a row: set helip.topk=5 or less"),
        ("helip.schedule=score", "imported hard pairs lack: use uniform or anneal"),
    ):
        refused = fresh.run("train", *overrides, setting)
        assert refused.status == 1 and sentence in refused.errors[0]
    shown = fresh.run("mine", f"paths.index={tmp_path}/index")
    assert shown.status == 0 and "nothing was mined" in shown.out, shown.err
    checked = fresh.run("mine", f"paths.index={tmp_path}/index", "verify=true")
    assert checked.status == 1 and "were imported: no settings say what they should be" in checked.errors[0]
    assert HardPairIndex.load(tmp_path / "index").meta["imported"]["from"] == ["hard.csv", "urls.json"]
