"""A partner rule: the easiest of the mined rows first, the hardest at the end of the training.

helip train --config-dir examples/extend/conf helip=paper helip.schedule=harder
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Harder:
    needs_scores: ClassVar[bool] = False

    def order(
        self, live: np.ndarray, scores: np.ndarray | None, progress: float, p: int, generator: np.random.Generator
    ) -> np.ndarray:
        """A window of p rows moves from the end of the list to its beginning; the others may replace them."""
        first = round((1 - progress) * max(0, len(live) - p))
        window = generator.permutation(live[first : first + p])
        return np.concatenate([window, live[first + p :], live[:first]])
