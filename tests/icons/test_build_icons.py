"""The builder of the icons, on sets made by hand and, if the package is at hand, on a few of its real ones."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.emoji import sources
from experiments.icons import build, choose, drawing, neighbours
from experiments.icons.choose import Icon
from helip.errors import HelipError

pytest.importorskip("resvg_py")

SQUARE = '<path fill="currentColor" d="M0 0h{0}v{0}H0z"/>'
ABOUT: dict[str, Any] = {"name": "A", "author": {"name": "B", "url": "u"}, "license": {"title": "MIT", "spdx": "MIT"}}


def icon(name: str = "a", body: str = SQUARE.format(8), **box: float) -> Icon:
    return Icon("toy", name, body, **{"left": 0, "top": 0, "width": 16, "height": 16, **box})


def grey(data: bytes | None) -> np.ndarray:
    assert data is not None
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, True),
        ({"license": {"title": "CC BY 4.0", "spdx": "CC-BY-4.0"}}, True),
        ({"license": {"title": "GPL", "spdx": "GPL-3.0-or-later"}}, False),
        ({"license": {"title": "CC BY-SA 4.0", "spdx": "CC-BY-SA-4.0"}}, False),
        ({"license": {"title": "CC BY-NC 4.0", "spdx": "CC-BY-NC-4.0"}}, False),
        ({"license": {"title": "own"}}, False),
        ({"category": "Material"}, True),
        ({"category": "Logos"}, False),
        ({"category": "Flags / Maps"}, False),
        ({"category": "Emoji"}, False),
        ({"category": "Archive / Unmaintained"}, False),
        ({"hidden": True}, False),
        ({"tags": ["Has Padding"]}, True),
        ({"tags": ["Contains Animations"]}, False),
    ],
)
def test_which_sets_are_wanted(changed: dict[str, Any], wanted: bool) -> None:
    assert choose.is_wanted("toy", ABOUT | changed) is wanted
    assert not choose.is_wanted("famicons", ABOUT | changed)


def test_icons_take_their_box_from_the_icon_then_the_set_then_iconify() -> None:
    content = {
        "prefix": "toy",
        "height": 20,
        "left": -1,
        "icons": {"a": {"body": "x", "width": 30, "left": 2}, "b": {"body": "y"}, "c": {"body": "z", "hidden": True}},
        "aliases": {"d": {"parent": "a"}},
    }
    assert choose.icons_of(content) == [
        Icon("toy", "a", "x", left=2, top=0, width=30, height=20),
        Icon("toy", "b", "y", left=-1, top=0, width=16, height=20),
    ]


def test_captions_are_the_words_of_the_name() -> None:
    names = {"arrow-left-circle-outline": "arrow left circle outline", "4k_box": "4k box", "heart": "heart"}
    assert {name: icon(name).caption for name in names} == names


def test_parts_depend_on_the_id_alone_and_no_drawing_is_in_two() -> None:
    icons = [icon(f"i{n}", body=f"<g id='{n}'/>") for n in range(2000)]
    lucide = Icon("lucide", "copied", icons[5].body, 0, 0, 16, 16)
    parts = choose.split([*icons, lucide])
    assert parts == choose.split([lucide, *reversed(icons)])
    assert parts["unseen"] == [lucide] and not any(icons[5] in part for part in parts.values())
    assert sum(map(len, parts.values())) == 2000
    assert all(50 < len(parts[part]) < 110 for part in ("val", "test"))  # 80 expected, SD 9
    for part in parts.values():
        assert [one.rank for one in part] == sorted(one.rank for one in part)
    place = int(hashlib.sha256(b"part toy:i0").hexdigest()[:8], 16) / 2**32
    assert icons[0].part == ("test" if place < 0.04 else "val" if place < 0.08 else "train")


def test_svg_has_the_box_and_black_for_the_text_colour() -> None:
    text = drawing.svg(icon(left=-2, top=1.5, width=640, height=512))
    assert 'viewBox="-2 1.5 640 512"' in text and 'width="32" height="32"' in text
    assert 'fill="#000"' in text and "currentColor" not in text


def test_drawn_pixels() -> None:
    upper_left = grey(drawing.render(icon()))  # 8 of 16 units, black on white
    assert upper_left.shape == (32, 32)
    assert (upper_left[:16, :16] == 0).all() and upper_left[16:].min() == 255 and upper_left[:, 16:].min() == 255
    moved = grey(drawing.render(icon(left=-8, top=-8)))
    assert (moved[16:, 16:] == 0).all() and moved[:16].min() == 255
    wide = grey(drawing.render(icon(body="<path d='M0 0h32v16H0z'/>", width=32, height=16)))  # centred, not stretched
    assert (wide[8:24] == 0).all() and wide[:8].min() == 255 and wide[24:].min() == 255


def test_grey_pictures_have_one_channel_and_coloured_ones_three() -> None:
    modes = [drawing.render(icon(body=SQUARE.format(8).replace("currentColor", colour))) for colour in ("#777", "red")]
    assert [Image.open(io.BytesIO(data)).mode for data in modes if data] == ["L", "RGB"]


@pytest.mark.parametrize("body", ["", SQUARE.format(8).replace("currentColor", "#fff"), "<path"])
def test_what_cannot_be_seen_is_left_out(body: str) -> None:
    assert drawing.render(icon(body=body)) is None


def test_nearest_equals_a_plain_loop_and_skips_equal_captions() -> None:
    rng = np.random.default_rng(0)
    words = ["red", "blue", "box", "arrow", "left"]
    captions = [" ".join(sorted(set(rng.choice(words, 2)))) for _ in range(40)]
    inks = rng.integers(0, 100, (40, 9)).astype(np.float64)
    found = neighbours.nearest(captions, inks, 5)
    weight = {w: 1 + round(100 * np.log(40 / sum(w in text.split() for text in captions))) for w in words}
    for i, row in enumerate(found.tolist()):
        scores = {}
        for j in range(40):
            if captions[j] != captions[i]:
                mine, other = set(captions[i].split()), set(captions[j].split())
                share = sum(weight[w] for w in mine & other) / sum(weight[w] for w in mine | other)
                scores[j] = share + inks[i] @ inks[j] / np.sqrt(inks[i] @ inks[i] * (inks[j] @ inks[j]))
        assert row == sorted(scores, key=lambda j: (-scores[j], j))[:5]


def test_ink_is_dark_and_summed_over_squares() -> None:
    dark = neighbours.ink([drawing.render(icon()) or b""])
    assert dark.shape == (1, 256) and dark.reshape(16, 16)[:8, :8].min() == dark.max() == 4 * 255
    assert dark.sum() == 64 * 4 * 255


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A package of two sets, a wanted and an unwanted one; some icons draw nothing."""
    bodies = {f"box-{n}": {"body": SQUARE.format(1 + n / 100)} for n in range(400)}
    bodies |= {f"none-{n}": {"body": f"<g id='{n}'/>"} for n in range(40)}
    files = {
        "collections.json": {"toy": ABOUT, "ion": ABOUT, "brands": ABOUT | {"category": "Logos"}},
        "json/toy.json": {"prefix": "toy", "icons": bodies},
        "json/ion.json": {"prefix": "ion", "icons": {f"i-{n}": {"body": SQUARE.format(5 + n / 9)} for n in range(20)}},
        "json/brands.json": {"prefix": "brands", "icons": bodies},
    }
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, value in files.items():
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


SMALL = {"train": (3, 40), "val": (1, 5), "test": (1, 5), "unseen": (1, 8)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def samples(path: Path) -> list[dict[str, Any]]:
    with tarfile.open(path) as tar:
        return [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]  # type: ignore[arg-type]


def test_build_twice_and_after_an_interruption(archive: Path, tmp_path: Path) -> None:
    parts = build.build(archive, tmp_path / "one", SMALL, processes=1)
    build.build(archive, tmp_path / "two", SMALL, processes=2)
    first = contents(tmp_path / "one")
    assert contents(tmp_path / "two") == first
    for name in ("00001.tar", "00001_stats.json", "00003_stats.json", "parts.json"):
        (tmp_path / "two" / name).unlink()
    build.build(archive, tmp_path / "two", SMALL, processes=2)
    assert contents(tmp_path / "two") == first
    assert {part: content["count"] for part, content in parts.items()} == {
        "train": 120,
        "val": 5,
        "test": 5,
        "unseen": 8,
    }
    assert parts["train"]["shards"] == ["00000.tar", "00001.tar", "00002.tar"]
    rows = [row for name in sorted(first) if name.endswith(".tar") for row in samples(tmp_path / "one" / name)]
    assert len({row["id"] for row in rows}) == 138 and {row["set"] for row in rows} == {"toy", "ion"}
    assert not any("none" in row["caption"] for row in rows)
    assert rows[-1]["licence"] == "MIT" and rows[-1]["url"].startswith("https://api.iconify.design/ion/i-")
    keys = {row["key"] for row in rows[-8:]}
    for row in rows[-8:]:  # all others of the part, for want of more
        assert set(row["neighbours"].split()) == keys - {row["key"]}
    assert "| `toy` | 130 | A | [B](u) | MIT (MIT) |" in (tmp_path / "one/ATTRIBUTION.md").read_text()
    statistics = [json.loads(first[name]) for name in sorted(first) if name.endswith("_stats.json")]
    assert all(one["count"] == one["successes"] + one["failed_to_resize"] for one in statistics)
    assert sum(one["failed_to_resize"] for one in statistics) > 0


def test_another_build_in_the_folder_and_too_few_icons_are_refused(archive: Path, tmp_path: Path) -> None:
    build.build(archive, tmp_path / "out", SMALL, processes=1)
    with pytest.raises(HelipError, match="built otherwise"):
        build.build(archive, tmp_path / "out", SMALL | {"val": (1, 6)}, processes=1)
    with pytest.raises(HelipError, match="part unseen has no 21 icons"):
        build.build(archive, tmp_path / "more", SMALL | {"unseen": (1, 21)}, processes=1)


@pytest.mark.slow
def test_real_icons_twice(tmp_path: Path) -> None:
    """Needs the npm package: HELIP_PACKAGES names the folder that holds it."""
    folder = Path(os.environ.get("HELIP_PACKAGES", "packages"))
    if not (folder / build.PACKAGE.archive).exists():
        pytest.skip(f"{build.PACKAGE.archive} is not in {folder}: set HELIP_PACKAGES")
    archive = sources.fetch(build.PACKAGE, folder)
    shards = {"train": (2, 300), "val": (1, 100), "test": (1, 100), "unseen": (1, 100)}
    for name, processes in (("one", 1), ("two", 2)):
        build.build(archive, tmp_path / name, shards, processes)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
