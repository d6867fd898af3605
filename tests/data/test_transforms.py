"""All kinds of crawled images become RGB or are unreadable; randomness depends on a seed."""

import io
import random
import struct
import warnings
import zlib
from contextlib import suppress
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from helip.data.reader import Unreadable
from helip.data.transforms import decode_image, draft_size, seeded_transform, stream_seed
from tests.samples import picture


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def colours(mode: str) -> Image.Image:
    return Image.open(io.BytesIO(picture(1, 24, "PNG"))).convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header says width x height, with almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", "PNG"), ("L", "JPEG"), ("1", "PNG"), ("P", "PNG"), ("P", "GIF"), ("RGB", "WEBP"), ("CMYK", "JPEG"),
     ("CMYK", "TIFF"), ("YCbCr", "JPEG"), ("LA", "PNG"), ("RGBA", "PNG"), ("F", "TIFF")],
)  # fmt: skip
def test_every_mode_becomes_rgb(mode: str, format: str) -> None:
    image = decode_image(encoded(colours(mode), format))
    assert image.mode == "RGB" and image.size == (24, 24)
    assert np.asarray(image).std() > 5  # the picture is still there


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert np.asarray(decode_image(encoded(clear, "PNG"))).min() == 255
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0] * 768)
    assert np.asarray(decode_image(encoded(palette, "PNG", transparency=3))).min() == 255
    assert np.asarray(decode_image(encoded(Image.new("LA", (8, 8), (0, 0)), "PNG"))).min() == 255


def test_sixteen_bit_greys_keep_their_range() -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    values = np.asarray(decode_image(encoded(Image.fromarray(ramp), "PNG")))[..., 0]
    assert values.min() == 0 and values.max() == 255 and (np.diff(values.ravel().astype(int)) >= 0).all()
    assert len(np.unique(values)) > 60


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("GIF", "WEBP"):
        image = decode_image(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
        assert np.asarray(image)[0, 0, 0] > 200


def test_trailing_bytes_are_ignored() -> None:
    clean = picture(3)
    assert (np.asarray(decode_image(clean + b"garbage" * 99)) == np.asarray(decode_image(clean))).all()


@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", b"<html>404</html>", picture(0)[: len(picture(0)) // 2], picture(0, 48, "PNG")[:60],
     b"\x89PNG\r\n\x1a\n", picture(0)[:10], bytes(1000)],
)  # fmt: skip
def test_what_is_no_whole_image_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable, match="cannot be decoded"):
        decode_image(data)


@pytest.mark.parametrize("format", ["AVIF", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "PPM", "MPO"])
def test_files_of_the_web_are_read_whatever_their_member_is_called(format: str) -> None:
    assert decode_image(encoded(colours("RGB"), format)).size == (24, 24)


def test_a_damaged_avif_is_unreadable() -> None:
    """Its decoder raises a bare RuntimeError."""
    good = encoded(colours("RGB"), "AVIF")
    with pytest.raises(Unreadable, match="RuntimeError"):
        # another number of the main picture
        decode_image(good.replace(b"pitm" + bytes(5) + b"\x01", b"pitm" + bytes(5) + b"\x07"))


@pytest.mark.parametrize(
    "data", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", b"DDS |" + bytes(200)]
)
def test_formats_of_no_crawl_reach_no_plugin(data: bytes) -> None:
    """PostScript would be run by Ghostscript, and a texture of an unknown kind is a NotImplementedError."""
    with mock.patch("PIL.EpsImagePlugin.Ghostscript") as run, pytest.raises(Unreadable, match="cannot be decoded"):
        decode_image(data)
    run.assert_not_called()


@pytest.mark.parametrize(("width", "height"), [(30_000, 20_000), (10_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(width: int, height: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Unreadable, match="too large"):
            decode_image(png_header(width, height))


def test_a_thin_strip_is_refused() -> None:
    """1 x 60,000 pixels are small until a transform makes the short side 224."""
    with pytest.raises(Unreadable, match="too thin"):
        decode_image(encoded(Image.new("L", (60_000, 1)), "PNG"))
    assert decode_image(encoded(Image.new("L", (1, 1)), "PNG")).size == (1, 1)
    assert decode_image(encoded(Image.new("L", (900, 1)), "PNG")).size == (900, 1)


WHOLE = [
    encoded(colours("RGB"), "JPEG"), encoded(colours("P"), "GIF"), encoded(colours("RGBA"), "PNG"),
    encoded(colours("RGB"), "WEBP"), encoded(colours("RGB"), "TIFF", compression="tiff_lzw"),
    encoded(colours("P"), "BMP"),
]  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_an_image_or_unreadable_and_nothing_else(data: bytes, damage) -> None:
    broken = bytearray(data)
    for place, value in damage:
        broken[int(place * (len(broken) - 1))] = value
    with suppress(Unreadable):
        assert decode_image(bytes(broken)).mode == "RGB"


CROP = transforms.Compose([transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()])


def test_a_seeded_transform_leaves_the_global_generators_alone() -> None:
    image = decode_image(picture(5))
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    first, again, other = (seeded_transform(CROP, image, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # type: ignore[index]
    assert torch.equal(before[0], after[0]) and before[1] == after[1] and (before[2] == after[2]).all()


def test_a_seeded_transform_does_not_depend_on_the_global_generators() -> None:
    image = decode_image(picture(5))
    torch.manual_seed(0)
    first = seeded_transform(CROP, image, 7)
    torch.manual_seed(99)
    assert torch.equal(first, seeded_transform(CROP, image, 7))


def test_stream_seeds_differ_in_every_part() -> None:
    seeds = {stream_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125 and all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(-1, 0) == stream_seed(-1, 0)


def jpeg(side: int) -> bytes:
    """Coloured waves, as smooth as a photo."""
    x, y = np.meshgrid(np.linspace(0, 9, side), np.linspace(0, 7, side))
    waves = np.stack([np.sin(x + y), np.cos(x - 2 * y), np.sin(2 * x)], axis=2)
    return encoded(Image.fromarray((127 + 120 * waves).astype(np.uint8)), "JPEG", quality=92)


def test_a_draft_is_smaller_but_never_below_what_the_transform_needs() -> None:
    data = jpeg(256)
    assert [decode_image(data, draft).size[0] for draft in (0, 300, 200, 128, 100, 64, 20)] == [
        256, 256, 256, 128, 128, 64, 32
    ]  # fmt: skip


def test_a_drafted_crop_looks_like_the_full_one() -> None:
    bicubic = transforms.InterpolationMode.BICUBIC
    crop = transforms.RandomResizedCrop(64, (1.0, 1.0), (1.0, 1.0), interpolation=bicubic)  # the whole image
    transform = transforms.Compose([crop, transforms.ToTensor()])
    assert draft_size(transform) == 96  # 1.5 * 64
    images = [decode_image(jpeg(256), draft) for draft in (0, 96)]
    assert [image.size for image in images] == [(256, 256), (128, 128)]
    full, drafted = (seeded_transform(transform, image, 3) for image in images)
    assert (full - drafted).abs().mean() < 0.01


def test_the_draft_follows_the_smallest_crop() -> None:
    crop = transforms.RandomResizedCrop(64, (0.9, 1.0))
    assert draft_size(transforms.Compose([crop])) == 117  # 1.5 * 64 / sqrt(0.9 * 3 / 4)


def test_there_is_no_draft_for_what_is_not_known_to_crop() -> None:
    assert draft_size(transforms.ToTensor()) == 0
    assert draft_size(transforms.Compose([transforms.ToTensor()])) == 0
    assert decode_image(picture(1, 64, "PNG"), 16).size == (64, 64)
