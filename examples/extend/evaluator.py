"""An evaluator: the share of pairs whose own cosine is above a floor.

helip evaluate --config-dir examples/extend/conf evaluation=aligned checkpoint=RUN
"""

from dataclasses import dataclass

import numpy as np

from helip.evaluation.embed import Embed, Found, OnPart
from helip.evaluation.samples import Sampled


@dataclass(frozen=True)
class Aligned(OnPart):
    floor: float = 0.2

    def run(self, embed: Embed) -> Found:
        image, text, _ = embed.part(self.part)  # (n, d) each
        return {"above_floor": Sampled(np.sum(image * text, axis=1) > self.floor)}
