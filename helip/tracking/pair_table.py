"""The pairs of a gallery as a table of W&B."""

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

TABLE = (12, 4)  # lines of each section and partners of each line


def pair_table(content: Mapping[str, Any]) -> Any:
    """A line for each pair of a gallery: section, both pictures and captions, scores, note and mark."""
    import wandb

    pictures: dict[int, Any] = {}

    def picture(row: int) -> Any:
        if row not in pictures:
            uri = content["thumbs"].get(str(row))
            raw = base64.b64decode(uri.partition(",")[2]) if uri else b""
            pictures[row] = wandb.Image(Image.open(io.BytesIO(raw))) if raw else None
        return pictures[row]

    headers: list[Any] = ["section", "place", "target", "target row", "target caption", "partner", "partner row"]
    headers += ["partner caption", "joint", "image", "text", "note", "mark"]
    table = wandb.Table(columns=headers)
    for section in content["sections"]:
        for place, line in enumerate(section["lines"][: TABLE[0]], 1):
            target = line["target"]
            said = content["captions"][str(target)]
            marks = line["marks"] or [""] * len(line["partners"])
            pairs = zip(line["partners"], line["scores"], marks, strict=True)
            for partner, scores, mark in list(pairs)[: TABLE[1]]:
                other = content["captions"][str(partner)]
                cells = [section["key"], place, picture(target), target, said, picture(partner), partner, other]
                table.add_data(*cells, *scores, line["note"], mark)
    return table
