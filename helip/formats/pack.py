"""A CSV or TSV training list, as open_clip's `--dataset-type csv` reads it, as shards in img2dataset's layout.

HELIP trains on shards alone: reading by offset costs one file handle per shard and not one per image, and a row has one
identity. So a list is packed once; every column is kept in the .json member, where `data.caption=COLUMN` finds it.
"""

import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from helip.artifacts.atomic import atomic_folder, write_json
from helip.data.reader import Unreadable, clean_caption
from helip.data.transforms import decode_image
from helip.errors import HelipError
from helip.formats.places import new_folder
from helip.formats.training_list import check_separator, read_entries

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}
EXTENSIONS["MPO"] = "jpg"  # of cameras that store a preview behind the photo: a JPEG to all who read the first picture
SHOWN = 5  # lines that are named among those left out


@dataclass
class Packed:
    """What became of the lines; `problems` names the first of those left out."""

    samples: int = 0
    shards: int = 0
    left_out: int = 0
    problems: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """One line for each fact."""
        lines = [f"{self.samples:,} samples in {self.shards:,} shards"]
        return lines + ([f"{self.left_out:,} lines were left out, such as:", *self.problems] if self.left_out else [])


def csv_to_shards(
    path: Path,
    out: Path,
    separator: str = "\t",
    image_column: str = "filepath",
    caption_column: str = "title",
    root: Path = Path(),
    per_shard: int = 10_000,
    on_error: str = "fail",
) -> Packed:
    """Write 00000.tar, 00000_stats.json, ... in the order of the lines.

    Args:
        out: a new folder; it is there when all shards are.
        separator, image_column, caption_column: open_clip's --csv-separator, --csv-img-key and --csv-caption-key.
        root: what relative image paths are relative to; open_clip takes the current folder.
        on_error: a line without a caption or a readable image: `fail` names it, `skip` counts it.

    Raises:
        HelipError: a list that cannot be read, with the line; `out` is there already; or no sample at all.
    """
    target = new_folder(out)
    check_separator(separator)
    if per_shard < 1:
        raise HelipError(f"a shard holds at least one sample, not {per_shard}")
    packed = Packed()
    with atomic_folder(target) as temporary:
        writer = _Shards(temporary, per_shard)
        try:
            for line, entry in read_entries(path, separator):
                try:
                    image, extension, caption = _sample(entry, image_column, caption_column, root)
                except Unreadable as error:
                    problem = f"{path}, line {line}: {error}"
                    if on_error == "fail":
                        raise HelipError(
                            f"{problem}; mend the list, or leave such lines out (--on-error skip)"
                        ) from error
                    packed.left_out += 1
                    packed.problems += [problem] if packed.left_out <= SHOWN else []
                    continue
                writer.add(image, extension, caption, {"line": line, "url": entry[image_column], **entry})
                packed.samples += 1
        finally:
            writer.close()
        if not packed.samples:
            why = f", the first: {packed.problems[0]}" if packed.problems else ": it has a header only"
            raise HelipError(f"no line of {path} gives a sample{why}")
        packed.shards = writer.number + 1
    return packed


def _sample(entry: dict[str, str], image_column: str, caption_column: str, root: Path) -> tuple[bytes, str, str]:
    """Image bytes, extension and caption of a line. Raises Unreadable, or HelipError where the columns are others."""
    for column in (image_column, caption_column):
        if column not in entry:
            raise HelipError(
                f"the list has no column {column!r}, only {', '.join(map(repr, entry))}: give its names "
                "(--image-column, --caption-column), and its --separator if they are joined"
            )
    name, caption = entry[image_column], clean_caption(entry[caption_column])
    if "://" in name:
        raise Unreadable(f"{name[:100]} is an address: img2dataset downloads such lists")
    if not caption:
        raise Unreadable("it has no caption")
    try:
        image = (root / name).read_bytes()
    except (OSError, ValueError) as error:
        raise Unreadable(f"{str(root / name)[:200]!r} cannot be read ({error.__class__.__name__})") from error
    decode_image(image)
    with Image.open(io.BytesIO(image)) as opened:
        extension = EXTENSIONS.get(opened.format or "")
    if extension is None:
        raise Unreadable(f"its image is a {opened.format}, which shards do not hold")
    return image, extension, caption


class _Shards:
    """Tars of `per_shard` samples, each with its statistics when it is full."""

    def __init__(self, folder: Path, per_shard: int) -> None:
        self.folder, self.per_shard = folder, per_shard
        self.number, self.count = -1, per_shard
        self._digits = max(4, len(str(per_shard - 1)))  # of img2dataset's keys: 00000 and 0000
        self._tar: tarfile.TarFile | None = None

    def add(self, image: bytes, extension: str, caption: str, fields: dict[str, object]) -> None:
        if self.count == self.per_shard:
            self.close()
            self.number, self.count = self.number + 1, 0
            path = self.folder / f"{self.number:05d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115, closed when it is full
        assert self._tar is not None
        key = f"{self.number:05d}{self.count:0{self._digits}d}"
        facts = {"key": key, "caption": caption, "status": "success", **fields}  # the list's own columns win
        for name, data in (
            (extension, image),
            ("txt", caption.encode("utf-8")),
            ("json", json.dumps(facts).encode("utf-8")),
        ):
            member = tarfile.TarInfo(f"{key}.{name}")
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self.count += 1

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            facts = {"count": self.count, "successes": self.count, "failed_to_download": 0, "failed_to_resize": 0}
            write_json(self.folder / f"{self.number:05d}_stats.json", {**facts, "status_dict": {"success": self.count}})
            self._tar = None
