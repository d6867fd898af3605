"""The data and the model that come with the package: 64-pixel emoji with their names, and a tiny CLIP for them.

`emoji/` holds shards in img2dataset's layout. `experiments/emoji/build.py` made them; `emoji/parts.json` lists the
shards of each part.
"""

import json
from pathlib import Path

from helip.errors import HelipError

EMOJI = Path(__file__).parent / "emoji"


def emoji_shards(part: str) -> list[Path]:
    """Shards of one part of the embedded data, in order.

    Args:
        part: "train", "val", "test" (OpenMoji, a style never trained on) or "concepts" (concepts never trained on).

    Raises:
        HelipError: there is no such part.
    """
    parts = json.loads((EMOJI / "parts.json").read_text(encoding="utf-8"))
    if part not in parts:
        raise HelipError(f"no part {part!r} in {EMOJI / 'parts.json'}: choose one of {', '.join(parts)}")
    return [EMOJI / name for name in parts[part]["shards"]]
