# pyright: strict, reportUnknownMemberType=false
"""The embeddings of a search: checked and measured, read in place, in their own precision.

Legend: N rows, d width of one modality.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from helip.errors import HelipError
from helip.mining.distinct import Copies, copies_of
from helip.mining.stable_dot import dots, double
from helip.mining.workers import Workers

CHUNK = 512  # rows whose norms are taken at once
GROUPS = ("image_group", "text_group", "pair_group")
MAX_ROWS = np.iinfo(np.int32).max  # an index stores rows as int32


@dataclass(frozen=True)
class Vectors:
    """One modality: the array as given and what turns a dot product into a cosine.

    Attributes:
        array: (N, d) float16, float32 or float64; may be a memmap of a file larger than memory.
        scale: (N,) float64, 1 / |row|; 0 for rows that are not valid.
        resident: copy of the array on a GPU; None if there is none.
    """

    array: np.ndarray
    scale: np.ndarray
    resident: torch.Tensor | None = None

    @property
    def width(self) -> int:
        """d."""
        return self.array.shape[1]

    def unit(self, rows: np.ndarray | slice) -> np.ndarray:
        """(R, d) float32 rows of length 1 (to float32 rounding); zeros for rows that are not valid."""
        values, scale = np.asarray(self.array[rows]), self.scale[rows]
        wide = np.float64 if values.dtype == np.float64 or bool((scale > 1e30).any()) else np.float32
        with np.errstate(over="ignore", invalid="ignore"):
            unit = np.multiply(values.astype(wide, copy=False), scale[:, None].astype(wide))
        if not scale.all():
            unit[scale == 0] = 0
        return unit.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Resident:
    """What the rules of pairs need on a GPU.

    Attributes:
        groups: per modality, (N,) int32 group numbers, -1 for none; None where unknown.
        partner: (N,) bool, rows that may be partners; None if all may.
        words: `partner` as bits, (N / 32) int32, row n in bit n % 32 of word n / 32; None if all may.
    """

    groups: tuple[torch.Tensor | None, torch.Tensor | None]
    partner: torch.Tensor | None
    words: torch.Tensor | None


@dataclass(frozen=True)
class Pairs:
    """N image-text pairs and the rows and groups that a search respects; `open_pairs` makes it.

    Attributes:
        image, text: their embeddings.
        valid: (N,) bool; a row that is not valid is neither target nor candidate.
        groups: per modality, (N,) int64 ids of byte-identical images or captions, -1 for none; None where unknown.
        pair_group: (N,) int64 ids of pairs of the same bytes, -1 for none; None: copies of a partner are partners too.
        copies: derived from `pair_group`; None where no two rows are copies.
        resident: groups and `partner` on a GPU; None if they are not there.
    """

    image: Vectors
    text: Vectors
    valid: np.ndarray
    groups: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    pair_group: np.ndarray | None = None
    copies: Copies | None = None
    resident: Resident | None = None

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def group_names(self) -> list[str]:
        """Names of the groups that are known."""
        groups = (*self.groups, self.pair_group)
        return [name for name, g in zip(GROUPS, groups, strict=True) if g is not None]

    @property
    def partner(self) -> np.ndarray:
        """(N,) bool, rows that are candidates of every target."""
        return self.valid if self.copies is None else self.copies.partner

    def groups_on(self, device: torch.device) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Group numbers (N,) of image and text, negative for none; None where unknown."""
        if self.resident is not None:
            return self.resident.groups
        image, text = (None if g is None else torch.from_numpy(g).to(device) for g in self.groups)
        return image, text

    def partner_on(self, device: torch.device) -> torch.Tensor | None:
        """(N,) bool, rows that may be partners; None if all may."""
        if self.resident is not None:
            return self.resident.partner
        return None if self.partner.all() else torch.from_numpy(self.partner).to(device)

    @property
    def modalities(self) -> tuple[Vectors, Vectors]:
        """(image, text)."""
        return self.image, self.text


def on_device(pairs: Pairs, device: torch.device) -> Pairs:
    """The pairs with their groups on a GPU, and with the embeddings if they fit in a quarter of its free memory."""
    if device.type == "cpu":
        return pairs
    groups = tuple(None if g is None else torch.from_numpy(_numbered(g)).to(device) for g in pairs.groups)
    partner = words = None
    if not pairs.partner.all():
        bits = np.packbits(np.pad(pairs.partner, (0, -len(pairs) % 32)), bitorder="little")
        partner, words = torch.from_numpy(pairs.partner).to(device), torch.from_numpy(bits.view(np.int32)).to(device)
    pairs = replace(pairs, resident=Resident((groups[0], groups[1]), partner, words))
    if sum(v.array.nbytes for v in pairs.modalities) > free_memory(device) // 4:
        return pairs
    image, text = (replace(v, resident=torch.from_numpy(np.array(v.array)).to(device)) for v in pairs.modalities)
    return replace(pairs, image=image, text=text)


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that this process can still use, including those that torch has cached."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def _numbered(ids: np.ndarray) -> np.ndarray:
    """(N,) int32 numbers that are equal where the ids are equal, -1 where an id is negative."""
    numbers = np.unique(ids, return_inverse=True)[1].astype(np.int32)
    return np.where(ids < 0, np.int32(-1), numbers)


def open_pairs(
    image: np.ndarray,
    text: np.ndarray,
    *,
    valid: np.ndarray | None = None,
    image_group: np.ndarray | None = None,
    text_group: np.ndarray | None = None,
    pair_group: np.ndarray | None = None,
) -> Pairs:
    """Check the input of a search and measure the lengths of the embeddings.

    Args:
        image: (N, d_I), any float type, normalised or not; a memmap is read block by block.
        text: (N, d_T), likewise.
        valid: (N,) bool, rows that take part; all if None. The other rows may hold anything.
        image_group: (N,) integers, equal for byte-identical images; negative: no group.
        text_group: (N,) integers, equal for byte-identical captions; negative: no group.
        pair_group: (N,) integers, equal for byte-identical pairs, of which a target gets only the lowest row;
            negative: no group.

    Raises:
        HelipError: shapes that do not match, no float type, more rows than int32 can count, or a valid row that is
            NaN, infinite or zero.
    """
    for name, array in (("image", image), ("text", text)):
        if array.ndim != 2 or array.dtype.kind != "f" or array.shape[1] == 0:
            raise HelipError(
                f"{name} embeddings must be a 2-D float array (rows, width), but are {array.dtype} {array.shape}."
            )
    if len(image) != len(text):
        raise HelipError(
            f"{len(image)} image embeddings but {len(text)} text embeddings: row i of both must be the same pair."
        )
    if len(image) > MAX_ROWS:
        raise HelipError(
            f"{len(image)} rows are more than an index can hold ({MAX_ROWS}, rows are int32): split the data."
        )
    count = len(image)
    flags = np.ones(count, bool) if valid is None else np.asarray(valid)
    if flags.shape != (count,) or flags.dtype != bool:
        raise HelipError(f"valid must be {count} booleans, one per row, but is {flags.dtype} {flags.shape}.")
    groups = (_group("image_group", image_group, count), _group("text_group", text_group, count))
    sides = _measured("image", np.asarray(image), flags), _measured("text", np.asarray(text), flags)
    same = _group("pair_group", pair_group, count)
    return Pairs(*sides, flags, groups, same, None if same is None else copies_of(same, flags))


def _group(name: str, ids: np.ndarray | None, count: int) -> np.ndarray | None:
    if ids is None:
        return None
    ids = np.asarray(ids)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise HelipError(f"{name} must be {count} integers, one per row, but is {ids.dtype} {ids.shape}.")
    return ids.astype(np.int64)


def _measured(name: str, array: np.ndarray, valid: np.ndarray) -> Vectors:
    """Norms by the float64 sums that `rescore` uses, so that a row's cosine with itself is 1 to the last bits."""
    workers, scale = Workers(), np.zeros(len(array))

    def measure(start: int) -> None:
        workers.check()
        rows = slice(start, start + CHUNK)
        values = double(torch.from_numpy(np.array(array[rows])))
        norms = dots(values, values).sqrt().numpy()
        good = np.isfinite(norms) & (norms > 0)
        bad = np.flatnonzero(~good & valid[rows])
        if len(bad):
            row = start + int(bad[0])
            what = "is zero" if norms[bad[0]] == 0 else "holds NaN or infinity"
            raise HelipError(
                f"{name} embedding of row {row} {what}, so it has no direction: mark it as not valid or embed it again."
            )
        scale[rows] = np.where(valid[rows], 1.0 / np.where(good, norms, 1.0), 0.0)

    workers.map(measure, range(0, len(array), CHUNK))
    return Vectors(array, scale)
