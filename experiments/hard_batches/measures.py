"""What `mine.py advise=true` measures of each setting, before a training -> results/measured/*.json.

    python -m experiments.hard_batches.measures --data data/icons

`flickr8k` is measured by the toy model of the emoji, since no CLIP comes with this repository: its dose is that of any
model, its saturation is that of a model that has never seen photos.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.hard_batches.arms import BASES, MODEL
from experiments.hard_batches.run import RESULTS
from helip.artifacts.atomic import write_json


def icons(dataset: str, base: str, batch: int) -> list[str]:
    """Overrides of a setting of the study."""
    return [f"dataset={dataset}", f"model={MODEL}", f"model.pretrained={BASES[base]}", f"data.batch_size={batch}"]


TOY = ["model=emoji_tiny"]
SETTINGS = {
    "emoji": ["dataset=emoji", *TOY],
    "emoji-b16": ["dataset=emoji", *TOY, "data.batch_size=16"],
    "emoji-b8": ["dataset=emoji", *TOY, "data.batch_size=8"],
    "flickr8k": ["dataset=flickr8k", *TOY],
    **{f"icons-{base}-b32": icons("icons", base, 32) for base in ("falling", "middle", "spent-1", "spent-2")},
    **{f"icons-spent-1-b{batch}": icons("icons", "spent-1", batch) for batch in (16, 64, 256)},
    **{f"icons_2k-spent-1-b{batch}": icons("icons_2k", "spent-1", batch) for batch in (32, 256)},
    "icons_unseen-spent-1-b32": icons("icons_unseen", "spent-1", 32),
    "icons_120k-falling-120k-b64": [*icons("icons_120k", "falling-120k", 64), "search.backend=approximate"],
}


def measure(overrides: list[str], data: Path) -> dict:
    """The content of advice.json after a run of mine.py."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "mine.py", "advise=true", "encoders=clip", "trainer=cpu", "data.workers=0"]
        out = f"hydra.run.dir={folder}"
        subprocess.run([*command, *overrides, out], check=True, env=os.environ | {"HELIP_DATA": str(data.parent)})
        return json.loads((Path(folder) / "advice.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what advise says of the settings of the study.")
    parser.add_argument("--data", type=Path, default=Path("data/icons"), help="what experiments/icons/build.py made")
    parser.add_argument("names", nargs="*", help="settings (default: all without a result)")
    asked = parser.parse_args()
    for name in asked.names or SETTINGS:
        file = RESULTS / "measured" / f"{name}.json"
        if asked.names or not file.is_file():
            write_json(file, measure(SETTINGS[name], asked.data.absolute()))


if __name__ == "__main__":
    main()
