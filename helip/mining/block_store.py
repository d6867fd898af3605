"""Unfinished searches on disk: one file per block of targets, so that a finished block is never searched again.

A plan that is written once fixes the blocks and the backend. Any number of ranks may then search any blocks, be killed
and start again. Each file is written atomically.

Legend: N rows, B rows of a block, K partners.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from helip.artifacts.arrays import new_array, read_archive, write_archive
from helip.artifacts.atomic import atomic_folder, clear_stale
from helip.artifacts.hard_pairs import ARRAYS, HardPairIndex, write_meta
from helip.errors import HelipError
from helip.mining.rescore import Ranked

Statistics = Callable[[HardPairIndex, dict[str, int], int], dict[str, Any]]


class BlockStore:
    """The folder of finished blocks, beside the future index.

    Args:
        folder: of the index; the name of the partial folder is made of its name and `identity`.
        identity: digest of everything that the result depends on, so that blocks of different searches never mix.
        count: N.
        depth: K.

    Attributes:
        edges: 0, the ends of all blocks, N; set when the plan is known.
    """

    def __init__(self, folder: Path, identity: str, count: int, depth: int) -> None:
        self.target, self.folder = folder, folder.with_name(f"{folder.name}.partial-{identity}")
        self.count, self.depth, self.edges = count, depth, [0, count]
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def blocks(self) -> range:
        """Numbers of the blocks."""
        return range(len(self.edges) - 1)

    def places(self, block: int) -> range:
        """Places of a block in the order of the search."""
        return range(self.edges[block], self.edges[block + 1])

    def path(self, block: int) -> Path:
        """File of a block's result."""
        return self.folder / f"block-{block:08d}.npz"

    def done(self) -> set[int]:
        """Blocks that are finished."""
        return {int(path.stem.removeprefix("block-")) for path in self.folder.glob("block-*.npz")}

    def write(self, block: int, ranked: Ranked) -> None:
        """Store a block's result."""
        arrays = {name: getattr(ranked, name) for name in ARRAYS}
        counts = {f"removed_{name}": np.array(count) for name, count in ranked.removed.items()}
        write_archive(self.path(block), **arrays, **counts, redone=np.array(ranked.redone))

    def assemble(self, meta: dict[str, Any], order: np.ndarray | None, statistics: Statistics) -> None:
        """Join all blocks into the index and remove the partial folders.

        Args:
            meta: of the index.
            order: (N,) row at each place of the search; None: the places are the rows.
            statistics: function of (index without meta, removed counts, redone rows) -> dict, stored in the meta.

        Raises:
            HelipError: blocks are missing.
        """
        missing = sorted(set(self.blocks) - self.done())
        if missing:
            raise HelipError(
                f"{len(missing)} of {len(self.blocks)} blocks of {self.folder} are not mined (first: {missing[0]}): "
                "wait for the other ranks or start the same command again."
            )
        clear_stale(self.target)
        with atomic_folder(self.target) as temporary:
            index, removed, redone = self._join(temporary, order)
            meta = {**meta, "statistics": statistics(index, removed, redone)}
            write_meta(temporary, meta, self.count, self.depth)
        for finished in self.target.parent.glob(f"{escape(self.target.name)}.partial-*"):  # of other searches, too
            shutil.rmtree(finished, ignore_errors=True)

    def _stored(self, block: int, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
        """Some of a block's arrays. A damaged file is deleted, and raises HelipError."""
        try:
            return read_archive(self.path(block), wanted)
        except ValueError as error:
            self.path(block).unlink()
            raise HelipError(f"a damaged block was removed ({error}): start the same command again") from error

    def _join(self, folder: Path, order: np.ndarray | None) -> tuple[HardPairIndex, dict[str, int], int]:
        """Join the blocks one array after another, so that at most one is in memory."""
        for name, dtype in ARRAYS.items():
            array = new_array(folder / f"{name}.npy", dtype, (self.count, self.depth))
            for block in self.blocks:
                places = slice(self.edges[block], self.edges[block + 1])
                stored = self._stored(block, lambda key, name=name: key == name)
                array[places if order is None else order[places]] = stored[name]
            array.flush()
            del array
        removed: Counter[str] = Counter()
        for block in self.blocks:
            counts = self._stored(block, lambda key: key not in ARRAYS)
            removed.update({key.removeprefix("removed_"): int(count) for key, count in counts.items()})
        redone = removed.pop("redone")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        return HardPairIndex(**arrays, meta={}), dict(removed), redone
