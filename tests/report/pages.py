"""Run folders and indexes for the tests of reports, with hostile captions and settings."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from helip.artifacts.hard_pairs import HardPairIndex
from helip.report.gallery import gallery, sections
from helip.report.mining_report import report_folder

EVIL = (
    """<script>window.evil=1</script><img src=x onerror="window.evil=2">"' onload='window.evil=3 {{ 7*7 }} </style>"""
)
CAPTIONS = [
    EVIL,
    "</script><script>window.evil=4</script>",
    "x" * 10**6,
    "a\x00b\x1b[0m\u202ec",
    "javascript:evil()",
    "",
]


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        tags: name and attributes of each tag.
        text: all text outside of script and style.
        scripts: contents of the script tags.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self._inside = "", [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data

    def is_harmless(self) -> bool:
        """Only our script, no attribute that runs something, and nothing that is loaded from elsewhere."""
        names = [name for _, attributes in self.tags for name in attributes]
        addresses = [a[name] or "" for _, a in self.tags for name in ("src", "href") if name in a]
        return (
            len(self.scripts) == 1
            and "evil" not in self.scripts[0]
            and not [name for name in names if name.startswith("on")]
            and all(address.startswith(("data:image/webp;base64,", "#", "data:,")) for address in addresses)
        )


def make_index(folder: Path, seed: int = 0, rows: int = 30, k: int = 6, score: str = "joint") -> HardPairIndex:
    """A saved index with settings and statistics."""
    rng = np.random.default_rng(seed)
    partners = np.array([rng.permutation([j for j in range(rows) if j != i])[:k] for i in range(rows)], np.int32)
    image, text = (-np.sort(-rng.uniform(0.3, 0.97, partners.shape)).astype(np.float32) for _ in range(2))
    settings = {"score": score, "near_duplicate": [0.98, 0.98], "min_similarity": [0.5, 0.0]}
    statistics = {
        "removed_from_first": {"group_text": 3},
        "removed_share_of_pairs": {"min_similarity": 0.25, "sampled_pairs": 9},
    }
    meta = {"fingerprint": "f", "hash": score, "dataset": EVIL, "settings": settings, "statistics": statistics}
    HardPairIndex(partners, image * text, image, text, meta).save(folder)
    return HardPairIndex.load(folder)


def make_gallery(folder: Path, index: HardPairIndex) -> None:
    """Write gallery.json beside an index, with coloured pictures and the captions above."""
    parts = sections(index.topk(4), (0.98, 0.98), lambda row: CAPTIONS[row % len(CAPTIONS)], 5, 4)

    def image(row: int) -> Image.Image | None:
        return None if row % 7 == 0 else Image.new("RGB", (40, 30 + row), (8 * row, 90, 160))

    content = gallery(parts, image, lambda row: CAPTIONS[row % len(CAPTIONS)])
    content["about"] = {"topk": 4, "subtitle": EVIL, "remarks": [EVIL], "tables": [], "stamp": ""}
    report_folder(folder).mkdir()
    (report_folder(folder) / "gallery.json").write_text(json.dumps(content))


PROVENANCE = {"commit": "abc", "machine": "m", "versions": {"torch": "2"}, "operations": ["paths.runs"]}


def make_run(folder: Path, seed: int = 0, score: str = "joint", hard_pairs: Path | None = None) -> Path:
    """A finished training of thirty steps."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    config = {"helip": {"score": score, "topk": 20}, "seed": seed, "dataset": {"name": EVIL}, "model": {"name": "m"}}
    config |= {"train": {"note": EVIL}, "paths": {"runs": f"/{seed}"}, "optim": {"lr": 1e-5}, "encoders": {"lr": 1e-5}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
    before = {"test/t2i_recall@1": 0.10, "test/t2i_mean_rank": 30.0, f"test/{EVIL}": 0.5}
    after = {"test/t2i_recall@1": 0.12 + seed / 100, "test/t2i_mean_rank": 28.0, f"test/{EVIL}": 0.6}
    results = {"steps": 30, "metrics": {"after": after, "before": before}, "hard_pairs": str(hard_pairs)}
    (folder / "results.json").write_text(json.dumps(results))
    lines = ["step,train/loss,test/t2i_recall@1"]
    lines += [f"{step},{5 / (1 + step) + rng.uniform(0, 0.1)},{0.12 if step % 10 == 9 else ''}" for step in range(30)]
    (folder / "metrics.csv").write_text("\n".join([*lines, "30,nan,", "31,0.2\n"]))
    return folder
