"""SugarCrepe: whether the model prefers the right caption to one in which a word was changed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helip.errors import HelipError
from helip.evaluation.embed import Absent, Embed, Evaluator, Found
from helip.evaluation.pictures import PictureFiles, Transform
from helip.evaluation.samples import Sampled

# The files of https://github.com/RAIVNLab/sugar-crepe/tree/main/data (arXiv 2306.14610).
FILES = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
FIELDS = ("filename", "caption", "negative_caption")
GET = "get it by `git clone https://github.com/RAIVNLab/sugar-crepe`, and val2017 from https://cocodataset.org"


class NamedPictures(PictureFiles):
    """Pictures of one folder by their file names."""

    def __init__(self, folder: Path, names: list[str], transform: Transform) -> None:
        self.key, self.transform = (str(folder), *names), transform
        self.paths = [folder / name for name in names]


def evaluator(line: Mapping[str, Any]) -> type[Evaluator]:
    """The class for a line of the configuration."""
    return SugarCrepe


@dataclass(frozen=True)
class SugarCrepe(Evaluator):
    """Share of pairs whose picture is more similar to its caption than to the negative one; a tie is a miss.

    Attributes:
        path: the folder with the seven published json files; files that are missing are left out.
        images: the folder with COCO's val2017 pictures.
    """

    path: str
    images: str

    @property
    def benchmark(self) -> str:
        return "sugar_crepe"

    def run(self, embed: Embed) -> Found:
        files = {name: Path(self.path) / f"{name}.json" for name in FILES}
        pairs = {name: read_pairs(path) for name, path in files.items() if path.is_file()}
        if not pairs:
            raise Absent(f"there is none of {', '.join(FILES)} (.json) in {self.path}: {GET}")
        names = sorted({pair["filename"] for several in pairs.values() for pair in several})
        missing = [name for name in names if not (Path(self.images) / name).is_file()]
        if missing:
            raise Absent(f"{len(missing)} of {len(names)} pictures ({missing[0]}) are not in {self.images}: {GET}")
        pictures = NamedPictures(Path(self.images), names, embed.transform)
        if lacking := sorted(files.keys() - pairs.keys()):
            pictures.notes = [f"{self.path} lacks {len(lacking)} of the {len(FILES)} files: {', '.join(lacking)}"]
        image, place = embed.images(pictures), {name: row for row, name in enumerate(names)}
        found = {}
        for name, several in pairs.items():
            own = np.asarray(image[[place[pair["filename"]] for pair in several]], np.float64)  # (n, d)
            captions = [pair[side] for side in FIELDS[1:] for pair in several]
            right, wrong = np.split(np.asarray(embed.texts(captions), np.float64), 2)  # (n, d) each
            found[f"compositional_{name}"] = Sampled(prefers(own, right, wrong))
        return found


def prefers(image: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """(n,) bool: the image is more similar to the right caption. All (n, d) float64; copies tie in float32."""
    return (image * right).sum(1).astype(np.float32) > (image * wrong).sum(1).astype(np.float32)


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """The pairs of a published file: {"0": {"filename", "caption", "negative_caption"}, ...}; numbers may be missing.

    Raises:
        HelipError: another kind of json.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pairs = list(content.values())
        if not pairs or any(not isinstance(pair[field], str) for pair in pairs for field in FIELDS):
            raise ValueError("an entry is no text")
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise HelipError(f"{path} is no file of SugarCrepe ({error}): {GET}") from error
    return pairs
