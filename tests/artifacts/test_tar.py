"""The header scan against Python's tarfile."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helip.artifacts.tar import TarError, scan_tar

NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=120).filter(
    lambda name: name not in (".", "..")
)


def write(path: Path, members: list[tuple[str, bytes]], format: int) -> None:
    with tarfile.open(path, "w", format=format, encoding="utf-8") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def by_tarfile(path: Path) -> list[tuple[str, int, int]]:
    with tarfile.open(path, encoding="utf-8") as tar:
        return [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=6),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_names_offsets_and_sizes_are_those_of_tarfile(tmp_path: Path, members, format):
    path = tmp_path / "a.tar"
    write(path, members, format)
    assert [(m.name, m.offset, m.size) for m in scan_tar(path)] == by_tarfile(path)


def test_links_folders_and_long_names(tmp_path: Path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for kind, name in ((tarfile.DIRTYPE, "folder"), (tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "hard")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "x" * 150
            tar.addfile(info)
        info = tarfile.TarInfo("d/" * 80 + "name.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    assert [(m.name, m.offset, m.size) for m in scan_tar(path)] == by_tarfile(path)
    assert len(by_tarfile(path)) == 1


def test_truncation_at_every_byte_yields_whole_members_then_an_error(tmp_path: Path):
    whole = tmp_path / "whole.tar"
    write(whole, [("a.jpg", b"1" * 600), ("a.txt", b"2" * 10), ("b.jpg", b"3" * 512)], tarfile.USTAR_FORMAT)
    content, members = whole.read_bytes(), list(scan_tar(whole))
    end_mark = members[-1].offset + 512
    cut = tmp_path / "cut.tar"
    for length in range(0, len(content), 37):
        cut.write_bytes(content[:length])
        found = []
        try:
            for member in scan_tar(cut):
                found.append(member)
        except TarError:
            assert length < end_mark + 512
        else:
            assert length >= end_mark + 512
        assert found == members[: len(found)]
        assert all(m.offset + m.size <= length for m in found)


def test_a_flipped_header_byte_is_an_error(tmp_path: Path):
    path = tmp_path / "a.tar"
    write(path, [("a.jpg", b"1" * 10), ("b.jpg", b"2" * 10)], tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 0x20  # in the name of the second header
    path.write_bytes(data)
    members = scan_tar(path)
    assert next(members).name == "a.jpg"
    with pytest.raises(TarError, match="checksum"):
        next(members)


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\x89PNG" + b"x" * 2000])
def test_what_is_no_tar(tmp_path: Path, content: bytes):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(TarError):
        list(scan_tar(path))
