"""helip convert resize: the same rows, keys and captions with smaller pictures, and the same bytes every time."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from helip.data.transforms import decode_image
from helip.errors import HelipError
from helip.formats.convert import main
from helip.formats.pixels import Pixels
from helip.formats.resize import resize
from tests.formats.killed import kill_after
from tests.formats.layouts import contents
from tests.samples import picture, sample, write_tar

LONG = "x" * 120  # a key that does not fit into a plain header


def wide(number: int, format: str = "JPEG", mode: str = "RGB") -> bytes:
    """96 x 64 pixels."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(number, 96))).crop((0, 0, 96, 64)).convert(mode).save(buffer, format)
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four shards: JPEGs; other formats and a mask; small and broken images and other members; a repeated key."""
    folder = tmp_path / "in"
    write_tar(folder / "00000.tar", [(f"0000{n}", sample(n, jpg=wide(n))) for n in range(4)])
    others = [
        ("a", sample(4, jpg=None, png=wide(4, "PNG", "RGBA"))),
        ("b", sample(5, jpg=None, webp=wide(5, "WEBP"))),
        ("c", sample(6, jpg=wide(6), png=wide(7, "PNG"))),  # a photo and its mask
        (LONG, sample(8, jpg=None, PNG=wide(8, "PNG"))),
    ]
    write_tar(folder / "odd.tar", others, tarfile.GNU_FORMAT)
    rest = [
        ("d", sample(9, jpg=picture(9, 24))),
        ("e", sample(10, jpg=b"no picture")),
        ("f", sample(11, jpg=wide(11)[:300])),
        ("g", sample(12, jpg=None)),
        ("__index__/x", {"json": b"{}"}),
        ("h", {"jpg": wide(13), "cls": b"7", "txt": b"other"}),
    ]
    write_tar(folder / "rest.tar", rest)
    write_tar(
        folder / "twice.tar",
        [("k", sample(14, jpg=None, png=wide(14, "PNG"))), ("k", sample(15, jpg=None) | {"jpg": wide(15)})],
    )
    return folder


def test_rows_keys_captions_and_json_are_those_of_the_source(source: Path, tmp_path: Path) -> None:
    done = resize(source, tmp_path / "out", Pixels(32))
    before, after = ShardIndex.build(source), ShardIndex.build(tmp_path / "out")
    assert done.images == {"resized": 11, "small enough": 1, "not readable": 2} and done.shards == 4
    assert after.keys.equals(before.keys) and (after.valid == before.valid).all()
    assert (after.starts == before.starts).all() and after.fingerprint != before.fingerprint
    for row in range(len(before)):
        old, new = before[row], after[row]
        assert (new.key, new.caption, new.metadata) == (old.key, old.caption, old.metadata)
        same = row in (8, 9, 10, 11)  # d, e, f, g
        assert (new.image == old.image) == same
        if not same:
            assert new.picture.size == (48, 32) and new.picture.format == "JPEG"
    with tarfile.open(source / "odd.tar") as old, tarfile.open(tmp_path / "out/odd.tar") as new:
        assert [name.removesuffix(".png").removesuffix(".PNG") for name in old.getnames()[9:]] == [
            name.removesuffix(".jpg") if name == f"{LONG}.jpg" else name.removesuffix(".png")
            for name in new.getnames()[9:]
        ]
        for name in set(old.getnames()) & set(new.getnames()) - {"c.jpg"}:
            assert old.extractfile(name).read() == new.extractfile(name).read()  # type: ignore[union-attr]
        assert "c.png" in new.getnames() and "a.jpg" in new.getnames() and "a.png" not in new.getnames()


def test_the_manifest_says_what_the_copy_was_made_of(source: Path, tmp_path: Path) -> None:
    resize(source, tmp_path / "out", Pixels(32, 80))
    resize(tmp_path / "out", tmp_path / "again", Pixels(16))
    first, second = (json.loads((tmp_path / name / "resize.json").read_text()) for name in ("out", "again"))
    assert first["source"] == {"fingerprint": ShardIndex.build(source).fingerprint, "made_of": None}
    assert first["fingerprint"] == ShardIndex.build(tmp_path / "out").fingerprint and first["rows"] == 15
    assert first["settings"] == Pixels(32, 80).described() and first["settings"]["pillow"] == Image.__version__
    assert first["settings"]["quality"] == 80 and first["settings"]["subsampling"] == "4:2:0"
    assert second["source"] == {"fingerprint": first["fingerprint"], "made_of": first}


def test_a_resized_picture_is_the_plain_one(source: Path, tmp_path: Path) -> None:
    """Decoded, resized by Pillow's bicubic filter, saved."""
    resize(source, tmp_path / "out", Pixels(32))
    before, after = (SampleReader(ShardIndex.build(folder)) for folder in (source, tmp_path / "out"))
    for row in (0, 4, 5):
        buffer = io.BytesIO()
        plain = decode_image(before.image_bytes(row)).resize((48, 32), Image.Resampling.BICUBIC)
        plain.save(buffer, "JPEG", quality=95, subsampling=2)
        assert after.image_bytes(row) == buffer.getvalue()
        off = np.asarray(decode_image(after.image_bytes(row))).astype(int) - np.asarray(plain)
        assert np.abs(off).mean() < 8


@pytest.mark.parametrize("processes", [1, 2])
def test_the_bytes_are_the_same_every_time(source: Path, tmp_path: Path, processes: int) -> None:
    resize(source, tmp_path / "first", Pixels(32))
    resize(source, tmp_path / "second", Pixels(32), processes)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


KILLED = """
import sys, time
from pathlib import Path
import helip.formats.pixels as pixels
from helip.formats.resize import resize
before = pixels._add
def slowly(*given):
    time.sleep(0.02)
    before(*given)
pixels._add = slowly
resize(Path(sys.argv[1]), Path(sys.argv[2]), pixels.Pixels(32))
"""


def test_killed_and_continued_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    resize(source, tmp_path / "whole", Pixels(32))
    partial = kill_after(2, KILLED, source, tmp_path / "out")
    assert 2 <= len(list(partial.glob("*_stats.json"))) < 4 and not (tmp_path / "out").exists()
    there = {path.name: path.stat().st_mtime_ns for path in partial.glob("*_stats.json")}
    done = resize(source, tmp_path / "out", Pixels(32))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole") and not partial.exists()
    assert done.images.total() == 14
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == written for name, written in there.items())


def test_a_partial_result_of_other_settings_is_not_gone_on_with(source: Path, tmp_path: Path) -> None:
    resize(source, tmp_path / "whole", Pixels(32))
    partial = tmp_path / ".out.partial"
    partial.mkdir()
    (partial / "begun.json").write_text("{}")
    (partial / "00000_stats.json").write_text(json.dumps({"images": {"resized": 99}, "problem": None}))
    assert resize(source, tmp_path / "out", Pixels(32)).images["resized"] == 11
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_shard_that_is_cut_off_keeps_what_is_before(source: Path, tmp_path: Path) -> None:
    whole = (source / "00000.tar").read_bytes()
    (source / "00000.tar").write_bytes(whole[: ShardIndex.build(source / "00000.tar").offset[3, 0] + 100])
    done = resize(source, tmp_path / "out", Pixels(32))
    assert len(done.problems) == 1 and "00000.tar is damaged" in done.problems[0]
    assert ShardIndex.build(tmp_path / "out").keys.equals(ShardIndex.build(source).keys)


def test_the_command_and_its_faults(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["resize", f"{source}/00000.tar", str(tmp_path / "out"), "--side", "32", "--processes", "1"])
    said = capsys.readouterr().out
    assert said == "4 images in 1 shards: 4 resized, 0 small enough, 0 not readable\n"
    with pytest.raises(SystemExit, match=r"error: .*out is there already: name a new folder"):
        main(["resize", str(source), str(tmp_path / "out"), "--side", "32"])
    with pytest.raises(SystemExit, match="error: --side 0 --quality 95: a side is above 0"):
        main(["resize", str(source), str(tmp_path / "new"), "--side", "0"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/00000.tar").write_bytes((source / "00000.tar").read_bytes())
    with pytest.raises(HelipError, match="has 2 shards named 00000: resize each folder by itself"):
        resize(f"{source}/00000.tar::{tmp_path}/other/00000.tar", tmp_path / "new", Pixels(32))
    assert not (tmp_path / "new").exists()
