# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
"""Which samples a dataset has and where their bytes lie: row <-> (shard, key, member offsets).

A row number is the identity of a pair: its position in the ordered list of shards and in the shard. Keys and urls
repeat across shards, rows do not.
Legend: N rows, S shards, the three columns of `offset` and `size` are image, caption (.txt), metadata (.json).
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from helip.artifacts.arrays import open_array, says_nothing
from helip.artifacts.atomic import atomic_folder, write_json
from helip.artifacts.shard_scan import IMAGE, JSON, TEXT, printable, scan_shards
from helip.artifacts.sums import write_sums
from helip.artifacts.versions import check_version
from helip.errors import HelipError

VERSION = 1
ARRAYS = ("shard_bytes", "starts", "offset", "size")


class ShardIndex:
    """All rows of a dataset.

    Attributes:
        shards: the S tar files in order.
        shard_bytes: (S,) int64, file size of each shard when it was scanned.
        starts: (S + 1,) int64, first row of each shard, then N.
        offset: (N, 3) int64, first byte of each member in its tar.
        size: (N, 3) int32, bytes; -1 where the sample has no such member; int64 if one has 2 GiB or more.
        valid: (N,) bool, False where the image is missing or empty, or where both caption file and metadata are.
        keys: (N,) Arrow strings.
        fingerprint: hash of the ordered shards (base name, size, member names, offsets and sizes); no path, no time.
        problems: one sentence for each shard that is no tar or is cut off.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        shard_bytes: np.ndarray,
        starts: np.ndarray,
        offset: np.ndarray,
        size: np.ndarray,
        keys: pa.Array,
        shard_fingerprints: Sequence[str],
        problems: Sequence[str] = (),
    ) -> None:
        self.shards = list(shards)
        self.shard_bytes, self.starts, self.offset, self.size, self.keys = shard_bytes, starts, offset, size, keys
        self.shard_fingerprints, self.problems = list(shard_fingerprints), list(problems)
        self.fingerprint = hashlib.sha256("\0".join(shard_fingerprints).encode()).hexdigest()
        self.valid = (size[:, IMAGE] > 0) & ((size[:, TEXT] > 0) | (size[:, JSON] > 0))

    def __len__(self) -> int:
        return int(self.starts[-1])

    @classmethod
    def build(
        cls,
        shards: Iterable[str | Path],
        on_error: str = "skip",
        on_shard: Callable[[int], None] = lambda done: None,
    ) -> "ShardIndex":
        """Scan the headers of uncompressed tars in the layout of img2dataset.

        Args:
            shards: tar files, in the order that defines the rows.
            on_error: what to do with a shard that is no tar or is cut off: `skip` keeps the samples before the damage
                and lists the shard in `problems`, `fail` raises.
            on_shard: called with the number of shards done.

        Raises:
            HelipError: no shard, a missing one, a damaged one with on_error="fail", or no usable sample in any of them.
        """
        paths = [Path(shard) for shard in shards]
        if not paths:
            raise HelipError("no shards were given: name at least one .tar file")
        for path in paths:
            if not path.is_file():
                raise HelipError(f"shard {path} does not exist: check dataset.path")
            if not os.access(path, os.R_OK):
                raise HelipError(f"shard {path} may not be read by this user: change its permissions")
        scans = scan_shards(paths, on_shard)
        problems = [scan.problem for scan in scans if scan.problem]
        if problems and on_error == "fail":
            raise HelipError(f"{problems[0]}; download it again, or set data.on_error=skip to use what is good")
        counts: list[int] = [len(scan.keys) for scan in scans]
        index = cls(
            [path.absolute() for path in paths],
            np.array([path.stat().st_size for path in paths], np.int64),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.concatenate([scan.offset for scan in scans]),
            np.concatenate([scan.size for scan in scans]),
            pa.concat_arrays([scan.keys for scan in scans]),
            [scan.fingerprint for scan in scans],
            problems,
        )
        index._refuse_if_nothing_survives()
        return index

    def _refuse_if_nothing_survives(self) -> None:
        if self.valid.any():
            return
        if len(self) == 0:
            none = f"{printable(self.shards[0].name)} holds no file named KEY.jpg and KEY.txt"
            why = self.problems[0] if self.problems else none
        else:
            why = (
                f"of {len(self)} samples {int((self.size[:, IMAGE] <= 0).sum())} have no image and "
                f"{int(((self.size[:, TEXT] <= 0) & (self.size[:, JSON] <= 0)).sum())} have no caption (.txt or .json)"
                f"{'; ' + apart if (apart := self.apart()) else ''}"
            )
        raise HelipError(f"nothing in the {len(self.shards)} shards from {self.shards[0].parent} can be used: {why}")

    def save(self, folder: Path) -> None:
        """Write the index to `folder`, atomically: the arrays as .npy, the keys as Arrow IPC, and shards.json."""
        with atomic_folder(folder) as temporary:
            for name in ARRAYS:
                np.save(temporary / f"{name}.npy", getattr(self, name), allow_pickle=False)
            table = pa.table({"key": self.keys})
            with pa.OSFile(str(temporary / "keys.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            write_json(
                temporary / "shards.json",
                {
                    "version": VERSION,
                    "shards": [str(path) for path in self.shards],
                    "shard_fingerprints": self.shard_fingerprints,
                    "fingerprint": self.fingerprint,
                    "problems": self.problems,
                },
            )
            write_sums(temporary, ["shards.json", "keys.arrow", *(f"{name}.npy" for name in ARRAYS)])

    @classmethod
    def load(cls, folder: Path) -> "ShardIndex":
        """Open an index as memory maps: a worker holds no list of its rows.

        Raises:
            HelipError: no index there, one of another format version, or one whose parts disagree.
        """
        try:
            meta = json.loads((folder / "shards.json").read_text(encoding="utf-8"))
            check_version(meta.get("version"), VERSION, "the shard index", folder, "delete it, the next run scans anew")
            shard_bytes, starts, offset, size = (open_array(folder / f"{name}.npy") for name in ARRAYS)
            keys = _open_keys(folder / "keys.arrow")
            shards = [Path(path) for path in meta["shards"]]
            fingerprints, problems, count = meta["shard_fingerprints"], meta["problems"], int(starts[-1])
        except HelipError:
            raise
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            if says_nothing(error):
                raise
            raise HelipError(f"the shard index in {folder} cannot be read ({error}): delete the folder") from error
        whole = len(shards) == len(fingerprints) == len(shard_bytes) == len(starts) - 1 and not starts[0]
        whole = whole and bool((np.diff(starts) >= 0).all()) and len(keys) == count
        if not whole or not offset.shape == size.shape == (count, 3):
            raise HelipError(
                f"the shard index in {folder} is damaged (its columns differ in length or width): delete the folder"
            )
        return cls(shards, shard_bytes, starts, offset, size, keys, fingerprints, problems)

    def apart(self) -> str | None:
        """A sentence on the first shard in which members of a sample stand apart: each run of them became a row."""
        incomplete = np.flatnonzero(~self.valid)
        for shard in np.unique(self.shard_of(incomplete)):
            first, end = int(self.starts[shard]), int(self.starts[shard + 1])
            key = self.keys.slice(first, end - first).dictionary_encode().indices.to_numpy()
            runs = np.bincount(key[np.flatnonzero(np.diff(key, prepend=-1))])
            own = incomplete[(incomplete >= first) & (incomplete < end)] - first
            if (runs[key[own]] > 1).any():
                name = printable(self.shards[shard].name)
                return f"members of a key are not adjacent in {name}: sort the tar by name (tar --sort=name)"
        return None

    def shard_of(self, rows: np.ndarray | int) -> np.ndarray:
        """Shard number of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def key(self, row: int) -> str:
        return self.keys[row].as_py()

    def where(self, row: int) -> str:
        """Shard, key and row in words, for messages."""
        return f"{printable(self.shards[int(self.shard_of(row))].name)}, key {self.key(row)} (row {row})"

    def rows_of(self, part: str) -> range:
        """Rows of a slice of shards in Python's notation: "0:6", "-1:", ":".

        Raises:
            HelipError: not a slice, or one without rows.
        """
        match = re.fullmatch(r"(-?\d*):(-?\d*)", part)
        if match is None:
            raise HelipError(f"a part of a dataset is a slice of shards such as '0:6', not {part!r}")
        first, last, _ = slice(*(int(bound) if bound else None for bound in match.groups())).indices(len(self.shards))
        rows = range(int(self.starts[first]), int(self.starts[max(first, last)]))
        if not rows:
            raise HelipError(f"the part {part!r} of the {len(self.shards)} shards in {self.shards[0].parent} is empty")
        return rows


def _open_keys(path: Path) -> pa.Array:
    """(N,) strings, memory-mapped. Raises ValueError or OSError where reading a damaged file would end the process."""
    keys = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["key"].combine_chunks()
    keys.validate(full=True)  # measured: 0.05 s for 3 M keys
    if keys.type not in (pa.string(), pa.large_string()) or keys.null_count:
        raise ValueError(f"{path.name} is damaged: it holds no strings")
    return keys
