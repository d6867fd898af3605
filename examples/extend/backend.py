"""A search backend: only the rows whose captions are nearest are candidates; what it misses is measured on a sample.

helip mine search.backend=extend.backend.TextFirst
"""

from pathlib import Path

import numpy as np

from helip.mining.rescore import Ranked, rescore
from helip.mining.settings import SearchSettings
from helip.mining.sweep import Tick
from helip.mining.vectors import Pairs


class TextFirst:
    name, order = "text first", None  # a place of the search is a row

    def __init__(self, pairs: Pairs, settings: SearchSettings, device: str, folder: Path) -> None:
        self.pairs, self.settings = pairs, settings
        self.text = pairs.text.unit(slice(None))  # (N, d), of unit length

    def search(self, places: range, tick: Tick) -> Ranked:
        rows = np.arange(places.start, places.stop)
        most = min(4 * self.settings.depth, len(self.text))
        nearest = np.argpartition(-(self.text[rows] @ self.text.T), most - 1, axis=1)[:, :most]
        tick(self.cost(places))
        return rescore(self.pairs, rows, nearest, self.settings)  # ranks them exactly, by all the rules

    def edges(self, unit: int) -> list[int]:
        return [*range(0, len(self.pairs), unit), len(self.pairs)]

    def cost(self, places: range) -> int:
        return len(places) * len(self.pairs)
