"""Harmful input: images of every kind compared with open_clip, captions, pickles."""

import base64
import io
import json
import os
import re
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from helip.artifacts.embeddings import GOOD, EmbeddingStore
from helip.data.reader import Unreadable
from helip.data.transforms import decode_image
from helip.embedding.encoders import TimmEncoder
from helip.errors import HelipError
from tests.faults.pickles import Malicious, as_array, as_pickle
from tests.programs.conftest import Result, World
from tests.report.pages import CAPTIONS, Page
from tests.samples import picture, sample, write_tar


def png(width: int, height: int, depth: int, colour: int, rows: Callable[[int], bytes]) -> bytes:
    """A whole PNG, written row by row, so that its pixels are never all in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(b"\0" + rows(row)) for row in range(height)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_whole_picture_of_623_megapixels_is_never_decoded() -> None:
    """As large as two files of Debian's openclipart; one colour keeps the file small."""
    row = bytes(24_960 // 8)
    data = png(24_960, 24_960, 1, 0, lambda _: row)
    assert len(data) < 500_000
    with mock.patch("PIL.ImageFile.ImageFile.load") as load, pytest.raises(Unreadable, match="too large"):
        decode_image(data)
    load.assert_not_called()


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(width: int = 60, height: int = 44) -> Image.Image:
    return Image.open(io.BytesIO(picture(7, 64, "PNG"))).resize((width, height))


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(photo(), "JPEG", exif=exif)


def deep(row: int) -> bytes:
    return np.random.default_rng(row // 8).integers(0, 65536, 3 * 60).astype(">u2").tobytes()


FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (60, 44), "blue")]}
AS_OPEN_CLIP = {
    **{f"EXIF orientation {number}": turned(number) for number in range(1, 9)},
    "CMYK": saved(photo().convert("CMYK"), "JPEG"),
    "16 bits per colour": png(60, 44, 16, 2, deep),
    "palette": saved(photo().convert("P"), "PNG"),
    "animated GIF": saved(photo(), "GIF", **FRAMES),
    "animated WebP": saved(photo(), "WEBP", **FRAMES),
    "trailing garbage": saved(photo(), "JPEG") + os.urandom(5000),
    "trailing archive": saved(photo(), "PNG") + b"PK\x03\x04" + bytes(999),
}


@pytest.mark.parametrize("kind", AS_OPEN_CLIP)
def test_an_image_becomes_what_open_clip_makes_of_it(kind: str) -> None:
    """Equal to open_clip's evaluation transform on the file as Pillow opens it, which ignores EXIF's rotation too.

    Palettes differ: open_clip resizes them as numbers of colours, without smoothing, and we convert to RGB first.
    """
    data = AS_OPEN_CLIP[kind]
    transform: Any = open_clip.image_transform(32, is_train=False)
    opened = Image.open(io.BytesIO(data))
    theirs = transform(opened.convert("RGB") if opened.mode == "P" else opened)
    assert torch.equal(transform(decode_image(data)), theirs) and float(theirs.std()) > 0.1


def test_a_transparent_palette_is_laid_on_white_where_open_clip_shows_what_lies_under_it() -> None:
    """The only kind that we read differently: pixels below transparency have arbitrary colours."""
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([255, 0, 0, 0, 0, 0] + [0] * 762)
    palette.paste(0, (0, 0, 20, 40))
    data = saved(palette, "PNG", transparency=1)
    pixels = np.asarray(decode_image(data))
    assert pixels[0, 0].tolist() == [255, 0, 0] and pixels[0, 30].tolist() == [255, 255, 255]


HOSTILE = [
    *(caption for caption in CAPTIONS if caption),
    "\x00\x07\x1b]0;title\x07\x1b[2J caption\r\n\x85\u2028end",
    "<b>bold</b> &amp; <a href='javascript:evil()'>evil</a> ]]> <!-- --> {{ evil }} ${evil}",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0633\u0644\u0627\u0645 \u200f\u2066mixed\u2069",
    "word " * 200_000,
    "a\u0301" * 300_000,
    "\U0001f469\u200d\U0001f680" * 100_000,
    "[red]markup[/red] [/] :smile: \\begin{x} $\\frac{1}{0}$ %s %(x)s {0}",
]


@pytest.fixture(scope="module")
def mined(make_world, tmp_path_factory) -> tuple[World, Result]:
    """Hostile captions and keys in all of mine.py, with its pictures."""
    folder = tmp_path_factory.mktemp("hostile")
    keys = ["<img src=x onerror=evil()>", "\x1b[31mred", "\u202ekey", "k" * 300]
    entries = []
    for number in range(16):
        caption = HOSTILE[number] if number < len(HOSTILE) else f"picture {number}"
        metadata = json.dumps({"caption": caption, "url": "javascript:evil()"}).encode()
        key = keys[number] if number < len(keys) else f"{number:04d}"
        entries.append((key, sample(number, txt=caption.encode(), json=metadata)))
    entries.append(("large", sample(16, jpg=None, png=png(24_960, 24_960, 1, 0, lambda _: bytes(3120)))))
    write_tar(folder / "data/0.tar", entries, tarfile.GNU_FORMAT)
    world = make_world(folder)
    settings = [f"dataset.path={folder}/data", "dataset.parts.train=':'", "dataset.label=caption"]
    return world, world.run("mine", *settings, "dataset.evaluators=[]", draw=True)


@pytest.mark.slow
def test_every_hostile_caption_is_mined(mined: tuple[World, Result]) -> None:
    world, result = mined
    assert result.status == 0, result.err
    (meta,) = (world.folder / "artifacts/folder/embeddings").glob("*/meta.json")
    state = np.asarray(EmbeddingStore(meta.parent).state)
    assert (state[:16] == GOOD).all() and state[16] != GOOD
    assert "too large" in result.out
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", result.out + result.err)


@pytest.mark.slow
def test_hostile_captions_are_escaped_and_cut_in_the_report(mined: tuple[World, Result]) -> None:
    world, _ = mined
    (path,) = (world.folder / "artifacts/folder/hard_pairs").glob("*-report/index.html")
    assert path.stat().st_size < 2_000_000  # pictures included: captions of 1 MB were cut
    page = Page(path)
    assert page.is_harmless()
    assert {tag for tag, _ in page.tags} & {"iframe", "object", "embed", "form"} == set()
    source = path.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", source)
    assert "<b>bold</b>" in page.text and "&lt;b&gt;bold" in source
    texts = [str(attributes["alt"]) for tag, attributes in page.tags if tag == "img"]
    assert texts and max(map(len, texts)) <= 240
    gallery = json.loads((path.parent / "gallery.json").read_text())
    assert max(map(len, gallery["captions"].values())) <= 240
    for thumb in gallery["thumbs"].values():
        assert Image.open(io.BytesIO(base64.b64decode(thumb.split(",")[1]))).size <= (144, 144)


@pytest.mark.slow
def test_hostile_captions_are_drawn(mined: tuple[World, Result]) -> None:
    world, result = mined
    with Image.open(result.folder / "hard_pairs.png") as sheet:
        sheet.load()
        assert max(sheet.size) < 10_000
    (folder,) = (world.folder / "artifacts/folder/hard_pairs").glob("*-report")
    assert {path.name for path in folder.glob("*.png")} >= {"hardness.png", "suspicion.png"}


@pytest.mark.parametrize("write", [as_array, as_pickle])
def test_a_malicious_array_is_no_embedding(make_world, tmp_path: Path, write: Callable[[Path, Path], None]) -> None:
    world = make_world(tmp_path)
    write(tmp_path / "bad.npy", tmp_path / "trace")
    np.save(tmp_path / "good.npy", np.ones((1, 4), np.float32))
    sides = ["encoders=precomputed", f"encoders.image={tmp_path}/bad.npy", f"encoders.text={tmp_path}/good.npy"]
    for data in (True, False):
        more = [] if data else ["dataset=none"]
        result = world.run("mine", *sides, *more, data=data)
        assert result.status == 1 and len(result.errors) == 1 and "bad.npy" in result.errors[0], result.err
        assert "Traceback" not in result.err and not (tmp_path / "trace").exists()


def test_a_malicious_pickle_is_no_model(make_world, tmp_path: Path) -> None:
    """As weights of the model or an encoder, and as a checkpoint to evaluate or resume."""
    world, trace = make_world(tmp_path), tmp_path / "trace"
    as_pickle(tmp_path / "plain.pt", trace)
    torch.save({"state_dict": Malicious(trace)}, tmp_path / "zipped.pt")
    for bad in (tmp_path / "plain.pt", tmp_path / "zipped.pt"):
        for program, setting in (
            ("train", f"model.pretrained={bad}"),
            ("mine", f"model.pretrained={bad}"),
            ("evaluate", f"checkpoint={bad}"),
            ("train", f"train.resume={bad}"),
        ):
            result = world.run(program, setting)
            assert result.status == 1 and len(result.errors) == 1 and bad.name in result.errors[0], result.err
            assert "Traceback" not in result.err
        with pytest.raises(HelipError, match="resnet10t cannot be loaded"):
            TimmEncoder("resnet10t", 32, str(bad))
    assert not trace.exists()
