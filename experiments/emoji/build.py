"""Build `helip/embedded/emoji` from four npm packages, byte for byte the same every time.

    python -m experiments.emoji.build --packages DIR --out DIR

DIR of `--packages` caches the archives (about 150 MiB). Which emoji, styles and parts: see `concepts.py`; how an image
is encoded: `images.py`. The layout is img2dataset's: `KEY.webp`, `KEY.txt` (the CLDR name), `KEY.json`, and
`NNNNN_stats.json` beside each tar; keys are the shard in five digits and the place in it in four. Two differences: no
`NNNNN.parquet`, which would repeat the JSON members at the cost of about 120 samples, and no times in the statistics,
which would differ at every build. A sample costs three 512-byte headers, one block each of text and JSON, and one to
three blocks of image.

The bytes of a WebP file depend on the versions of libwebp, Pillow and resvg; `build.json` records those that were used.
"""

import argparse
import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import features

from experiments.emoji import images, sources
from experiments.emoji.concepts import Concept, choose, parse, split
from experiments.emoji.sources import CONCEPT_FILE, PACKAGES, Package
from helip.artifacts.atomic import atomic_file, write_json
from helip.errors import HelipError

SHARD_SAMPLES = 300
BLOCK = 512
LIMIT = 15_500_000  # bytes of the whole folder


class Drawings:
    """The drawings of all styles, held in memory (about 60 MB): `drawn[style]` are its codes."""

    def __init__(self, folder: Path, packages: dict[str, Package]) -> None:
        self.packages = packages
        self.files: dict[str, dict[str, bytes]] = {}
        self.paths: dict[str, dict[str, str]] = {}
        for style, package in packages.items():
            archive = sources.fetch(package, folder)
            self.files[style] = sources.read(archive, (f"{package.images}/", CONCEPT_FILE))
            self.paths[style] = sources.images(package, self.files[style])
        self.drawn = {style: set(paths) for style, paths in self.paths.items()}
        self.concepts = parse(json.loads(self.files["openmoji"][CONCEPT_FILE]))

    def webp(self, concept: Concept, style: str) -> bytes:
        """The encoded image of one sample."""
        data = self.files[style][self.paths[style][concept.code]]
        return images.encode(images.draw(data, self.packages[style].suffix))

    def url(self, concept: Concept, style: str) -> str:
        """Where the original drawing can be had."""
        return self.packages[style].url(Path(self.paths[style][concept.code]).name)


def describe(concept: Concept, style: str, key: str, url: str) -> bytes:
    """JSON of one sample: img2dataset's fields and ours, within one tar block; the last keywords give way."""
    tags = concept.tags.split(", ") if concept.tags else []
    while True:
        record: dict[str, Any] = {
            "caption": concept.name,
            "url": url,
            "key": key,
            "status": "success",
            "width": images.SIZE,
            "height": images.SIZE,
            "hexcode": concept.hexcode,
            "style": style,
            "group": concept.group,
            "subgroup": concept.subgroup,
            "tags": ", ".join(tags),
            "skintone": concept.skintone,
        }
        data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        if len(data) <= BLOCK or not tags:
            return data
        tags.pop()


def write_shard(path: Path, samples: Sequence[tuple[Concept, str]], drawings: Drawings) -> None:
    """Write one tar of samples and its statistics; the same input gives the same bytes."""
    number = int(path.stem)
    with atomic_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for place, (concept, style) in enumerate(samples):
            key = f"{number:05d}{place:04d}"
            _add(tar, f"{key}.webp", drawings.webp(concept, style))
            _add(tar, f"{key}.txt", concept.name.encode("utf-8"))
            _add(tar, f"{key}.json", describe(concept, style, key, drawings.url(concept, style)))
    count = len(samples)
    statistics = {"count": count, "successes": count, "failed_to_download": 0, "failed_to_resize": 0}
    write_json(path.with_name(f"{path.stem}_stats.json"), {**statistics, "status_dict": {"success": count}})


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # owner, group and time are 0 unless set
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def build(folder: Path, out: Path, packages: dict[str, Package] = PACKAGES) -> dict[str, Any]:
    """Write all shards, `parts.json` and `build.json` into `out`; returns what `parts.json` holds.

    Raises:
        HelipError: an archive is not the expected one, or the result is larger than LIMIT.
    """
    drawings = Drawings(folder, packages)
    chosen = choose(drawings.concepts, drawings.drawn)
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("*.tar"), *out.glob("*_stats.json")):
        old.unlink()
    parts: dict[str, Any] = {}
    number = 0
    for part, samples in split(chosen, drawings.drawn).items():
        names = []
        for start in range(0, len(samples), SHARD_SAMPLES):
            names.append(f"{number:05d}.tar")
            write_shard(out / names[-1], samples[start : start + SHARD_SAMPLES], drawings)
            number += 1
        counts = Counter(style for _, style in samples)
        concepts = len({concept.code for concept, _ in samples})
        parts[part] = {"shards": names, "count": len(samples), "concepts": concepts, "styles": dict(counts)}
    write_json(out / "parts.json", parts)
    write_json(out / "build.json", _provenance(packages))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if size > LIMIT:
        raise HelipError(f"{out} holds {size} bytes, more than {LIMIT}: lower the shares in concepts.py")
    return parts


def _provenance(packages: dict[str, Package]) -> dict[str, Any]:
    return {
        "packages": {
            style: {"name": package.name, "version": package.version, "sha512": package.sha512}
            for style, package in packages.items()
        },
        "versions": {
            "Pillow": version("Pillow"),
            "libwebp": str(features.version("webp")),
            "resvg_py": version("resvg_py"),
        },
        "image": {"side": images.SIZE, "format": "webp", "steps": images.STEPS, "background": "white"},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the embedded emoji data from four npm packages.")
    parser.add_argument("--packages", type=Path, required=True, help="cache folder of the npm archives")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets the shards")
    arguments = parser.parse_args()
    try:
        parts = build(arguments.packages, arguments.out)
    except HelipError as error:
        raise SystemExit(f"error: {error}") from error
    for part, content in parts.items():
        print(f"{part:9s} {content['count']:5d} samples of {content['concepts']:5d} concepts  {content['styles']}")


if __name__ == "__main__":
    main()
