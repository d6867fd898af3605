"""The builder on four made-up packages: the same bytes twice, the right drawing, and refusals."""

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.emoji import build, concepts, images, sources
from experiments.emoji.concepts import Concept
from helip.errors import HelipError

# twelve animals, two flags of which one copies the other, a hand in two tones, a paperclip, a logo
ANIMALS = [f"1F4{number:02X}" for number in range(12)]
NORWAY, BOUVET = "1F1F3-1F1F4", "1F1E7-1F1FB"
WAVE, WAVE_DARK = "1F44B", "1F44B-1F3FF"
PAPERCLIP, LOGO = "1F4CE", "E0FF"


def _row(hexcode: str, name: str, group: str, subgroup: str, base: str = "", tone: str = "") -> dict[str, str]:
    row = {"hexcode": hexcode, "annotation": name, "group": group, "subgroups": subgroup, "tags": "kind, of, thing"}
    return {**row, "skintone": tone, "skintone_base_hexcode": base}


ROWS = [
    *(_row(code, f"animal {code}", "animals-nature", "animal-mammal") for code in ANIMALS),
    _row(NORWAY, "flag: Norway", "flags", "country-flag"),
    _row(BOUVET, "flag: Bouvet Island", "flags", "country-flag"),
    _row(WAVE, "waving hand", "people-body", "hand-fingers-open"),
    _row(WAVE_DARK, "waving hand: dark skin tone", "people-body", "hand-fingers-open", WAVE, "5"),
    _row(PAPERCLIP, "paperclip", "objects", "office"),
    _row(LOGO, "some logo", "extras-openmoji", "brand"),
]


def _image(number: int, kind: str) -> bytes:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[8:40, 8 : 20 + number] = (20 * number % 256, 99, 200, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _svg(number: int) -> bytes:
    square = f'<rect x="20" y="20" width="{10 + number}" height="30" fill="#b0{number:02x}40"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">{square}</svg>'.encode()


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, sources.Package]:
    """Archives of a few drawings each, named and laid out as npm does, in `tmp_path`."""
    pytest.importorskip("resvg_py")
    made = {}
    for style, package in sources.PACKAGES.items():
        with tarfile.open(tmp_path / package.archive, "w:gz") as tar:
            files = {sources.CONCEPT_FILE: json.dumps(ROWS).encode()} if style == "openmoji" else {}
            for number, row in enumerate(ROWS):
                code = row["hexcode"] if style == "openmoji" else row["hexcode"].lower()
                data = _svg(number) if package.suffix == ".svg" else _image(number, package.suffix[1:])
                files[f"{package.images}/{code}{package.suffix}"] = data
            for name, data in files.items():
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        digest = hashlib.sha512((tmp_path / package.archive).read_bytes()).digest()
        made[style] = replace(package, sha512=base64.b64encode(digest).decode())
    return made


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_building_twice_gives_the_same_bytes(packages, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(build, "SHARD_SAMPLES", 8)
    parts = build.build(tmp_path, tmp_path / "one", packages)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "00099.tar").write_bytes(b"left from an earlier build")
    build.build(tmp_path, tmp_path / "two", packages)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    # 11 animals in 2 of 3 styles, 2 hands, 1 paperclip without Fluent, 1 flag in 1 style; 1 animal held out in all 4
    assert parts["train"]["count"] == 11 * 2 + 2 * 2 + 2 + 1
    assert parts["concepts"]["styles"] == {"noto": 1, "twemoji": 1, "fluent": 1, "openmoji": 1}
    assert len(parts["train"]["shards"]) == 4


def test_the_image_of_a_sample_is_the_drawing_of_its_style(packages, tmp_path: Path) -> None:
    drawings = build.Drawings(tmp_path, packages)
    number = 3
    concept = next(concept for concept in drawings.concepts if concept.hexcode == ROWS[number]["hexcode"])
    pixels = np.asarray(Image.open(io.BytesIO(drawings.webp(concept, "noto"))).convert("RGB")).astype(int)
    assert abs(pixels[24, 14] - (20 * number, 99, 200)).max() < 12 and pixels[60, 60].min() > 250
    pixels = np.asarray(Image.open(io.BytesIO(drawings.webp(concept, "openmoji"))).convert("RGB")).astype(int)
    # 72 units less a border of 4 on each side are 64 pixels: the square from unit 20 to 33 lies at pixels 16 to 29
    assert abs(pixels[30, 22] - (0xB0, number, 0x40)).max() < 12 and pixels[30, 32].min() > 240


def test_another_archive_is_refused(packages, tmp_path: Path) -> None:
    with open(tmp_path / packages["fluent"].archive, "ab") as file:
        file.write(b"x")
    with pytest.raises(HelipError, match="SHA-512"):
        build.build(tmp_path, tmp_path / "out", packages)


def test_a_missing_npm_says_which_archive_to_fetch(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HelipError, match=r"openmoji-17\.0\.0\.tgz"):
        sources.fetch(sources.PACKAGES["openmoji"], tmp_path)


def test_copied_flags_logos_and_what_fluent_may_not_give_are_left_out() -> None:
    everything = concepts.parse(ROWS)
    drawn = {style: {concept.code for concept in everything} for style in sources.PACKAGES}
    chosen = {concept.name: concept for concept in concepts.choose(everything, drawn)}
    assert "flag: Bouvet Island" not in chosen and "some logo" not in chosen and "flag: Norway" in chosen
    assert concepts.styles(chosen["flag: Norway"], drawn) == ["noto", "twemoji"]
    assert concepts.styles(chosen["paperclip"], drawn) == ["noto", "twemoji"]
    assert concepts.styles(chosen["waving hand"], drawn) == ["noto", "twemoji", "fluent"]


def test_an_image_takes_as_few_blocks_as_its_quality_allows(monkeypatch) -> None:
    flat = Image.new("RGB", (64, 64), "red")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    busy = noise.resize((20, 20), Image.Resampling.BOX).resize((64, 64), Image.Resampling.BICUBIC)
    assert len(images.encode(flat)) <= 512
    assert 512 < len(images.encode(busy)) <= 1024
    assert 1024 < len(images.encode(noise)) <= 1536
    monkeypatch.setattr(images, "STEPS", ((100, 0),))
    with pytest.raises(HelipError, match="does not fit 100 bytes"):
        images.encode(noise)


def test_long_keywords_give_way_to_the_block_size() -> None:
    concept = Concept("1f600", "1F600", "grinning face", "smileys", "face", ", ".join(["cheerful"] * 99), "", "")
    data = build.describe(concept, "noto", "000000000", "https://example.org/1f600.png")
    assert 490 < len(data) <= 512
    assert set(json.loads(data)["tags"].split(", ")) == {"cheerful"}
