# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
"""The samples of a dataset and the place of their bytes: row <-> (shard, key, member offsets).

The row number identifies a pair: its position in the ordered list of shards and in the shard. Keys and urls repeat
across shards, rows do not.
Legend: N rows, S shards; the three columns of `offset` and `size` are image, caption (.txt), metadata (.json).
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from helip.artifacts.arrays import open_array
from helip.artifacts.atomic import atomic_folder, read_json, write_json
from helip.artifacts.keys import as_format_2, open_keys, scattered
from helip.artifacts.member_reader import MemberReader, Sample
from helip.artifacts.members import IMAGE, JSON, TEXT, Members
from helip.artifacts.places import resolve_shards
from helip.artifacts.reading import check_version, reading
from helip.artifacts.shard_scan import ShardScan, scan_shards
from helip.artifacts.sums import write_sums
from helip.artifacts.tar import printable
from helip.errors import HelipError
from helip.secrets import without_credentials
from helip.storage.base import Shard, as_shard
from helip.storage.schemes import Storages

VERSION = 2  # in format 1 every image of a key was a row; see as_format_2
ARRAYS = ("shard_bytes", "starts", "offset", "size")


class OlderRows(HelipError):
    """An index of format 1 whose rows may differ from those of a new scan."""


class ShardIndex:
    """All rows of a dataset.

    Attributes:
        shards: the S tars in order, paths or addresses.
        shard_bytes: (S,) int64, file size of each shard at the scan.
        starts: (S + 1,) int64, first row of each shard, then N.
        offset: (N, 3) int64, first byte of each member in its tar.
        size: (N, 3) int32, bytes; -1 for a missing member; int64 if a member has 2 GiB or more.
        valid: (N,) bool, False if the image, or both caption file and metadata, are missing or empty.
        keys: (N,) Arrow strings.
        fingerprint: hash of the ordered shards (base name, size, member names, offsets, sizes), without paths or times.
        problems: one sentence for each shard that is no tar or is truncated.
        members: the suffixes of images and captions.
        passed_over: number of images and captions that were not chosen, by suffix.
        leftovers: number of caption files that are `nan`, `none`, `null` or blank.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        shard_bytes: np.ndarray,
        starts: np.ndarray,
        offset: np.ndarray,
        size: np.ndarray,
        keys: pa.Array,
        shard_fingerprints: Sequence[str],
        problems: Sequence[str] = (),
        members: Members | None = None,
        passed_over: Mapping[str, int] | None = None,
        leftovers: Mapping[str, int] | None = None,
    ) -> None:
        self.shards = list(shards)
        self.shard_bytes, self.starts, self.offset, self.size, self.keys = shard_bytes, starts, offset, size, keys
        self.shard_fingerprints, self.problems = list(shard_fingerprints), list(problems)
        self.members, self.passed_over, self.leftovers = members or Members(), passed_over or {}, leftovers or {}
        self.fingerprint = hashlib.sha256("\0".join(shard_fingerprints).encode()).hexdigest()
        self.valid = (size[:, IMAGE] > 0) & ((size[:, TEXT] > 0) | (size[:, JSON] > 0))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __repr__(self) -> str:
        lost = len(self) - int(self.valid.sum())
        lacking = f", {lost:,} of them without image or caption" if lost else ""
        place = printable(str(self.shards[0].parent))
        return f"ShardIndex({len(self):,} rows{lacking} in {len(self.shards):,} shards from {place})"

    def __getitem__(self, row: int) -> Sample:
        """Image bytes, caption and metadata of a row; `helip.data` reads many rows faster. Raises IndexError."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._reader.sample(int(row) % len(self))

    @cached_property
    def _reader(self) -> MemberReader:
        return MemberReader(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_reader"}

    @classmethod
    def build(
        cls,
        shards: str | Path | Iterable[str | Path],
        on_error: str = "skip",
        on_shard: Callable[[int], None] = lambda done: None,
        members: Members | None = None,
    ) -> "ShardIndex":
        """Scan the headers of uncompressed tars in the layout of img2dataset.

        Args:
            shards: a folder, a pattern such as DIR/{00000..00331}.tar or DIR/*.tar, or a list of tars, folders and
                patterns; their order defines the rows.
            on_error: for a shard that is no tar or is truncated, `skip` keeps the samples before the damage and lists
                the shard in `problems`; `fail` raises.
            on_shard: called with the number of finished shards.
            members: suffixes of images and captions; None: the default of `Members`.

        Raises:
            HelipError: no shard, a missing one, a damaged one with on_error="fail", members of a sample that are not
                adjacent, or no usable sample.
        """
        found = resolve_shards(shards)
        if not found:
            raise HelipError("no shards were given: name at least one .tar file")
        members, storages = members or Members(), Storages()
        for shard in found:
            if isinstance(shard, Path) and not os.access(shard, os.R_OK):
                raise HelipError(f"shard {shard} may not be read by this user: change its permissions")
        scans = scan_shards(found, members, on_shard)
        problems = [scan.problem for scan in scans if scan.problem]
        if problems and on_error == "fail":
            raise HelipError(f"{problems[0]}; download it again, or set data.on_error=skip to use what is good")
        places = [shard.absolute() if isinstance(shard, Path) else shard for shard in found]
        index = cls._of_scans(places, [storages.size(shard) for shard in found], scans, problems, members)
        if (apart := index.apart()) is not None:
            raise HelipError(apart)
        index._refuse_if_nothing_survives()
        return index

    @classmethod
    def _of_scans(
        cls, shards: list[Shard], sizes: list[int], scans: list[ShardScan], problems: list[str], members: Members
    ) -> "ShardIndex":
        return cls(
            shards,
            np.array(sizes, np.int64),
            np.cumsum([0, *(len(scan.keys) for scan in scans)], dtype=np.int64),
            np.concatenate([scan.offset for scan in scans]),
            np.concatenate([scan.size for scan in scans]),
            pa.concat_arrays([scan.keys for scan in scans]),
            [scan.fingerprint for scan in scans],
            problems,
            members,
            dict(sum((Counter(scan.passed_over) for scan in scans), Counter())),
            dict(sum((Counter(scan.leftovers) for scan in scans), Counter())),
        )

    def _refuse_if_nothing_survives(self) -> None:
        if self.valid.any():
            return
        if len(self) == 0:
            none = f"{printable(self.shards[0].name)} holds no file named KEY.jpg and KEY.txt"
            why = self.problems[0] if self.problems else none
        else:
            why = (
                f"of {len(self)} samples {int((self.size[:, IMAGE] <= 0).sum())} have no image and "
                f"{int(((self.size[:, TEXT] <= 0) & (self.size[:, JSON] <= 0)).sum())} have no caption (.txt or .json; "
                "dataset.members says which files are images and captions)"
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
                    "shards": [without_credentials(str(path)) for path in self.shards],
                    "shard_fingerprints": self.shard_fingerprints,
                    "fingerprint": self.fingerprint,
                    "problems": self.problems,
                    "members": self.members.described(),
                    "passed_over": self.passed_over,
                    "leftovers": self.leftovers,
                },
            )
            write_sums(temporary, ["shards.json", "keys.arrow", *(f"{name}.npy" for name in ARRAYS)])

    @classmethod
    def load(cls, folder: Path) -> "ShardIndex":
        """Open an index as memory maps. Raises HelipError if it is missing, damaged or of another format."""
        with reading(f"the shard index in {folder}", "delete the folder"):
            meta: dict[str, Any] = read_json(folder / "shards.json")
            older = meta.get("version") == 1 and meta.get("version") is not True
            if not older:
                again = "delete it, the next run scans the shards again"
                check_version(meta.get("version"), VERSION, "the shard index", folder, again)
            shard_bytes, starts, offset, size = (open_array(folder / f"{name}.npy") for name in ARRAYS)
            keys = open_keys(folder / "keys.arrow")
            shards = [as_shard(path) for path in meta["shards"]]
            members = Members.of(meta.get("members", {}))
            counts: dict[str, dict[str, int]] = {name: meta.get(name, {}) for name in ("passed_over", "leftovers")}
            fingerprints, problems, count = meta["shard_fingerprints"], meta["problems"], int(starts[-1])
        whole = len(shards) == len(fingerprints) == len(shard_bytes) == len(starts) - 1 and not starts[0]
        whole = whole and bool((np.diff(starts) >= 0).all()) and len(keys) == count
        if not whole or not offset.shape == size.shape == (count, 3):
            raise HelipError(
                f"the shard index in {folder} is damaged (its columns differ in length or width): delete the folder"
            )
        if older and not as_format_2(starts, size, keys):
            raise OlderRows(
                f"the shard index in {folder} has format 1, in which every image of a key was a row: delete it, the "
                "next run scans the shards again"
            )
        return cls(shards, shard_bytes, starts, offset, size, keys, fingerprints, problems, members, **counts)

    def apart(self) -> str | None:
        """An error message for the first shard with samples whose members are not adjacent; None if there is none."""
        incomplete = np.flatnonzero(~self.valid)
        for shard in np.unique(self.shard_of(incomplete)):
            first, end = int(self.starts[shard]), int(self.starts[shard + 1])
            found = scattered(self.keys.slice(first, end - first), self.size[first:end] > 0, self.valid[first:end])
            if found:
                name, key = printable(self.shards[shard].name), self.key(first + found[0])
                return (
                    f"members of {len(found):,} samples are not adjacent in {name}, the first key is {key}: pack it "
                    "again sorted by name (tar --sort=name), or with `helip convert to-shards`"
                )
        return None

    def shard_of(self, rows: np.ndarray | int) -> np.ndarray:
        """Shard number of each row."""
        return self.starts.searchsorted(rows, side="right") - 1  # the method: half the time of the function for one row

    def key(self, row: int) -> str:
        return self.keys[row].as_py()

    def where(self, row: int) -> str:
        """Shard, key and row, for messages."""
        return f"{printable(self.shards[int(self.shard_of(row))].name)}, key {self.key(row)} (row {row})"

    def rows_of(self, part: str) -> range:
        """Rows of a slice of shards in Python's notation: "0:6", "-1:", ":". Raises HelipError if there are none."""
        match = re.fullmatch(r"(-?\d*):(-?\d*)", part)
        if match is None:
            raise HelipError(f"a part of a dataset is a slice of shards such as '0:6', not {part!r}")
        first, last, _ = slice(*(int(bound) if bound else None for bound in match.groups())).indices(len(self.shards))
        rows = range(int(self.starts[first]), int(self.starts[max(first, last)]))
        if not rows:
            raise HelipError(f"the part {part!r} of the {len(self.shards)} shards in {self.shards[0].parent} is empty")
        return rows
