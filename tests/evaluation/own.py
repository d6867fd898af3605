"""An evaluator from outside the package, named by `_target_`."""

from dataclasses import dataclass

import numpy as np

from helip.evaluation.embed import Embed, Found, OnPart
from helip.evaluation.samples import Sampled


@dataclass(frozen=True)
class Alignment(OnPart):
    """Whether the cosine of a row's image and caption is above a floor."""

    floor: float = 0.0

    def run(self, embed: Embed) -> Found:
        image, text, _ = embed.part(self.part)  # (n, d) each
        return {"aligned": Sampled(np.sum(image * text, axis=1) > self.floor)}


class Stranger:
    """A class that is no evaluator."""

    def __init__(self, name: str) -> None:
        self.name = name
