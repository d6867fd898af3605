"""Clusters of rows that are hard pairs of each other, for the plan of graph batches.

A folder of two .npy files and meta.json. Legend: n clustered rows, C clusters.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helip.artifacts.arrays import open_array
from helip.artifacts.atomic import atomic_folder, read_json, write_json
from helip.artifacts.reading import check_version, reading
from helip.artifacts.sums import write_sums
from helip.errors import HelipError

FORMAT = 1


@dataclass(frozen=True)
class Partition:
    """Clusters that contain every row of a training part exactly once.

    Attributes:
        rows: (n,) int32, cluster after cluster.
        begins: (C + 1,) int64, first position of each cluster in `rows`, then n.
        meta: the settings, and the mean number of neighbours of a row in its own cluster.
    """

    rows: np.ndarray
    begins: np.ndarray
    meta: dict[str, Any]

    @property
    def sizes(self) -> np.ndarray:
        """(C,) int64 rows of each cluster."""
        return np.diff(self.begins)

    def labels(self, count: int) -> np.ndarray:
        """(count,) int64 cluster of each row; -1 for a row without one."""
        labels = np.full(count, -1, np.int64)
        labels[self.rows] = np.repeat(np.arange(len(self.begins) - 1), self.sizes)
        return labels

    def save(self, folder: Path) -> None:
        """Write the folder atomically."""
        with atomic_folder(folder) as temporary:
            np.save(temporary / "rows.npy", np.ascontiguousarray(self.rows, np.int32))
            np.save(temporary / "begins.npy", np.ascontiguousarray(self.begins, np.int64))
            write_json(temporary / "meta.json", {**self.meta, "format": FORMAT})
            write_sums(temporary, ["rows.npy", "begins.npy", "meta.json"])

    @classmethod
    def load(cls, folder: Path) -> "Partition":
        """Open a folder as memory maps. Raises HelipError if the partition is missing, damaged or of another format."""
        with reading(f"the partition {folder}", "delete it, it will be rebuilt"):
            meta: dict[str, Any] = read_json(folder / "meta.json")
            check_version(meta.get("format"), FORMAT, "the partition", folder, "delete it, it will be rebuilt.")
            rows, begins = open_array(folder / "rows.npy"), open_array(folder / "begins.npy")
        if rows.dtype != np.int32 or begins.dtype != np.int64 or not len(begins) or int(begins[-1]) != len(rows):
            raise HelipError(
                f"the arrays of the partition {folder} contradict each other: delete it, it will be rebuilt"
            )
        return cls(rows, np.asarray(begins), meta)
