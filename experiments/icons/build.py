"""Build the icons, 152,000 of them, from one npm package, byte for byte the same every time.

    python -m experiments.icons.build --packages DIR --out data/icons

DIR of `--packages` caches the archive (104 MB). Which icons, and their parts: `choose.py`; how they are drawn:
`drawing.py`; neighbours: `neighbours.py`. The layout is img2dataset's: `KEY.png`, `KEY.txt` (the words of the icon's
name), `KEY.json`, and `NNNNN_stats.json` beside each tar; keys are the shard in five digits and the place in it in
four. An icon of val, test and unseen has the keys of its neighbours in its JSON. No `NNNNN.parquet`, which would repeat
the JSON, and no times, which would differ at every build.

Shard s of S takes the icons s, s + S, s + 2S, ... of its part until it is full, so that undrawable icons leave no
gap. Several processes write shards, each atomically: an interrupted build continues where it stopped. The bytes
depend on the versions of resvg, Pillow and zlib, which `build.json` records.
"""

import argparse
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import features
from rich.progress import track

from experiments.emoji import sources
from experiments.emoji.sources import Package
from experiments.icons import choose, drawing, neighbours
from experiments.icons.choose import Icon
from experiments.icons.licences import write_attribution
from helip.artifacts.atomic import atomic_file, json_text, write_json
from helip.errors import HelipError

PACKAGE = Package(
    "@iconify/json",
    "2.2.535",
    "nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHErQQfezk7E3nJdnwJjve6OCfMNO0uVT5Vrgna9/NCmXw==",
    "json",
    ".json",
)
COLLECTIONS = "collections.json"
# part -> shards, icons in each. The first shard of train is 2,500 icons, the first eight are 20,000, all are 120,000
SHARDS = {
    "train": (48, 2500),
    "val": (1, 4000),
    "test": (1, 4000),
    "unseen": (1, 4000),
    "unseen_train": (8, 2500),
}
SPARE = 100  # candidates of a shard beyond its size: about one icon in 3,000 cannot be drawn


@dataclass(frozen=True)
class Shard:
    """A tar to write: its number, part and size, and the icons that it may take."""

    number: int
    part: str
    size: int
    candidates: list[Icon]


@dataclass(frozen=True)
class Sets:
    """The wanted sets of the package: name -> what collections.json says, and all of their icons."""

    about: dict[str, dict[str, Any]]
    icons: list[Icon]


def read_sets(archive: Path) -> Sets:
    """The sets that `choose.is_wanted` takes."""
    about = json.loads(sources.read(archive, (COLLECTIONS,))[COLLECTIONS])
    wanted = {name: about[name] for name in sorted(about) if choose.is_wanted(name, about[name])}
    files = sources.read(archive, tuple(f"{PACKAGE.images}/{name}.json" for name in wanted))
    return Sets(wanted, [icon for path in sorted(files) for icon in choose.icons_of(json.loads(files[path]))])


def plan(parts: dict[str, list[Icon]], shards: dict[str, tuple[int, int]]) -> list[Shard]:
    """All shards, numbered through, with the candidates of each."""
    planned: list[Shard] = []
    for part, (count, size) in shards.items():
        for first in range(count):
            candidates = list(islice(parts[part][first::count], size + SPARE))
            planned.append(Shard(len(planned), part, size, candidates))
    return planned


def draw(shard: Shard) -> list[tuple[Icon, bytes]]:
    """The first icons of a shard that can be drawn, with their images.

    Raises:
        HelipError: there are too few.
    """
    pairs = ((icon, drawing.render(icon)) for icon in shard.candidates)
    drawn = list(islice(((icon, image) for icon, image in pairs if image is not None), shard.size))
    if len(drawn) < shard.size:
        raise HelipError(f"part {shard.part} has no {shard.size} icons for shard {shard.number}: lower build.SHARDS")
    return drawn


def write_shard(shard: Shard, out: Path, about: dict[str, dict[str, Any]]) -> None:
    """Draw a shard and write its tar and its statistics; the same input gives the same bytes."""
    drawn = draw(shard)
    path = out / f"{shard.number:05d}.tar"
    keys = [f"{shard.number:05d}{place:04d}" for place in range(len(drawn))]
    near = _near(drawn, keys) if not shard.part.endswith("train") else [{}] * len(drawn)
    with atomic_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for (icon, image), key, more in zip(drawn, keys, near, strict=True):
            _add(tar, f"{key}.png", image)
            _add(tar, f"{key}.txt", icon.caption.encode("utf-8"))
            _add(tar, f"{key}.json", describe(icon, key, about[icon.set]["license"]["spdx"], more))
    tried = shard.candidates.index(drawn[-1][0]) + 1
    status = {"success": len(drawn)} | ({"cannot be drawn": tried - len(drawn)} if tried > len(drawn) else {})
    statistics = {"count": tried, "successes": len(drawn), "failed_to_download": 0, "status_dict": status}
    write_json(out / f"{shard.number:05d}_stats.json", {**statistics, "failed_to_resize": tried - len(drawn)})


def _near(drawn: Sequence[tuple[Icon, bytes]], keys: Sequence[str]) -> list[dict[str, str]]:
    captions, inks = [icon.caption for icon, _ in drawn], neighbours.ink([image for _, image in drawn])
    found = neighbours.nearest(captions, inks, min(neighbours.COUNT, len(set(captions)) - 1))
    return [{"neighbours": " ".join(keys[place] for place in row)} for row in found.tolist()]


def describe(icon: Icon, key: str, licence: str, more: dict[str, str]) -> bytes:
    """JSON of one sample: img2dataset's fields and ours."""
    record = {
        "caption": icon.caption,
        "url": f"https://api.iconify.design/{icon.set}/{icon.name}.svg",
        "key": key,
        "status": "success",
        "width": drawing.SIZE,
        "height": drawing.SIZE,
        "id": icon.id,
        "set": icon.set,
        "licence": licence,
        **more,
    }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # owner, group and time are 0 unless set
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def build(archive: Path, out: Path, shards: dict[str, tuple[int, int]] = SHARDS, processes: int = 2) -> dict[str, Any]:
    """Write the missing shards, `parts.json`, `build.json` and licences; returns the content of `parts.json`.

    Args:
        archive: the npm package.
        out: folder that gets the shards.
        shards: part -> number of shards, icons in each.
        processes: that draw and write.

    Raises:
        HelipError: `out` holds another build, or a part has too few icons.
    """
    out.mkdir(parents=True, exist_ok=True)
    _claim(out / "build.json", provenance(shards))
    sets = read_sets(archive)
    planned = plan(choose.split(sets.icons), shards)
    missing = [shard for shard in planned if not (out / f"{shard.number:05d}_stats.json").exists()]
    with ProcessPoolExecutor(processes) as pool:
        jobs = [pool.submit(write_shard, shard, out, sets.about) for shard in missing]
        for job in track(jobs, f"{len(missing)} of {len(planned)} shards"):
            job.result()
    parts = {part: dict(_contents(out, [s for s in planned if s.part == part])) for part in shards}
    write_attribution(out, sets.about, Counter(icon for part in parts.values() for icon in part.pop("sets")))
    write_json(out / "parts.json", parts)
    return parts


def _claim(path: Path, made_by: dict[str, Any]) -> None:
    """Raises HelipError if the folder holds shards of another build."""
    if path.exists() and path.read_text(encoding="utf-8") != json_text(made_by):
        raise HelipError(f"{path} says that the folder was built otherwise: delete the folder, or name another --out")
    write_json(path, made_by)


def _contents(out: Path, shards: Sequence[Shard]) -> Iterator[tuple[str, Any]]:
    """The content of a part, read from its shards."""
    names = [f"{shard.number:05d}.tar" for shard in shards]
    records = [record for name in names for record in _records(out / name)]
    yield "shards", names
    yield "count", len(records)
    yield "captions", len({record["caption"] for record in records})
    yield "sets", [record["set"] for record in records]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(".json") and (content := tar.extractfile(member)):
                yield json.load(content)


def provenance(shards: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Everything that determines the bytes."""
    return {
        "package": {"name": PACKAGE.name, "version": PACKAGE.version, "sha512": PACKAGE.sha512},
        "versions": {
            "Pillow": version("Pillow"),
            "resvg_py": version("resvg_py"),
            "zlib": str(features.version("zlib")),
        },
        "image": {"side": drawing.SIZE, "format": "png", "background": "white"},
        "shards": {part: list(numbers) for part, numbers in shards.items()},
        "neighbours": neighbours.COUNT,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the icons from the npm package @iconify/json.")
    parser.add_argument("--packages", type=Path, required=True, help="cache folder of the npm archive")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets the shards, such as data/icons")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one per core")
    arguments = parser.parse_args()
    try:
        archive = sources.fetch(PACKAGE, arguments.packages)
        parts = build(archive, arguments.out, processes=arguments.processes)
    except HelipError as error:
        raise SystemExit(f"error: {error}") from error
    for part, content in parts.items():
        print(f"{part:12s} {content['count']:7,d} icons, {content['captions']:7,d} captions")


if __name__ == "__main__":
    main()
