"""The files of examples/ run."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

from helip.artifacts.hard_pairs import HardPairIndex

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_open_clips_own_loop_trains_ten_steps_on_hard_pairs(tmp_path: Path, monkeypatch) -> None:
    example = load("open_clip_loop")
    seen: list[tuple[int, int]] = []

    class Recorded(example.Data):
        def __iter__(self):
            for images, texts in super().__iter__():
                rows, target = self.batch["row"].tolist(), self.batch["target"].tolist()
                seen.extend((rows[target[n]], row) for n, row in enumerate(rows) if target[n] not in (n, -1))
                yield images, texts

    monkeypatch.setattr(example, "Data", Recorded)
    losses = example.main(tmp_path)
    assert len(losses) == 10 and all(math.isfinite(loss) for loss in losses)
    pairs = HardPairIndex.load(tmp_path / "hard_pairs")
    assert len(seen) == 160  # half of 10 batches of 32
    assert [pair for pair in seen if pair[1] not in pairs.rows[pair[0]]] == []
