"""Edge cases of the scan, with headers made by hand; mutants of the walk must fail here (tests/mutation)."""

from pathlib import Path

import pytest

from helip.artifacts.tar import LOOKED_AT, Member, TarError, is_header, scan_tar
from tests.artifacts.headers import END, header, padded


def found(path: Path, content: bytes) -> list[Member]:
    path.write_bytes(content)
    return list(scan_tar(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.tar"


def test_a_size_in_base_256(path: Path) -> None:
    size = b"\x80" + (700).to_bytes(11, "big")
    content = header(b"a.jpg", size) + padded(b"x" * 700) + header(b"b.jpg", 1) + padded(b"y") + END
    assert found(path, content) == [Member("a.jpg", 512, 700), Member("b.jpg", 2048, 1)]


@pytest.mark.parametrize("kind", [b"0", b"\0", b"7"])
def test_kinds_of_regular_files(path: Path, kind: bytes) -> None:
    assert found(path, header(b"a.jpg", 3, kind) + padded(b"abc") + END) == [Member("a.jpg", 512, 3)]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_links_and_devices_have_no_data_whatever_their_size_says(path: Path, kind: bytes) -> None:
    content = header(b"link", 700, kind) + header(b"a.jpg", 3) + padded(b"abc") + END
    assert found(path, content) == [Member("a.jpg", 1024, 3)]


def test_an_unknown_kind_is_passed_over_with_its_data(path: Path) -> None:
    content = header(b"odd", 5, b"V") + padded(b"label") + header(b"a.jpg", 3) + padded(b"abc") + END
    assert found(path, content) == [Member("a.jpg", 1536, 3)]


def test_a_name_that_ends_with_a_slash_is_a_folder(path: Path) -> None:
    assert found(path, header(b"folder/", 0) + header(b"a.jpg", 1) + padded(b"x") + END) == [Member("a.jpg", 1024, 1)]


def test_the_prefix_belongs_to_ustar_alone(path: Path) -> None:
    assert found(path, header(b"a.jpg", 0, prefix=b"dir") + END) == [Member("dir/a.jpg", 512, 0)]
    assert found(path, header(b"a.jpg", 0, prefix=b"dir", magic=b"ustar  \0") + END) == [Member("a.jpg", 512, 0)]
    longest = header(b"n" * 100, 0, prefix=b"p" * 155)
    assert found(path, longest + END) == [Member("p" * 155 + "/" + "n" * 100, 512, 0)]


def test_a_long_name_reaches_over_other_headers_to_one_file_only(path: Path) -> None:
    name = b"l" * 130
    content = (
        header(b"././@LongLink", 131, b"L")
        + padded(name + b"\0")
        + header(b"././@LongLink", 3, b"K")
        + padded(b"to\0")
        + header(b"global", 0, b"g")
        + header(b"short.jpg", 1)
        + padded(b"x")
        + header(b"b.jpg", 1)
        + padded(b"y")
        + END
    )
    assert [member.name for member in found(path, content)] == [name.decode(), "b.jpg"]


def test_pax_gives_the_size_and_the_path(path: Path) -> None:
    records = b"".join(b"%d %s\n" % (len(r) + 4, r) for r in (b"path=long.jpg", b"size=600", b"uid=123456"))
    extended = header(b"pax", len(records), b"x") + padded(records)
    content = extended + header(b"short", 0) + padded(b"z" * 600) + header(b"b.jpg", 1) + padded(b"y") + END
    assert found(path, content) == [Member("long.jpg", 1536, 600), Member("b.jpg", 3072, 1)]
    split = (
        header(b"pax", 17, b"x") + padded(b"17 path=long.jpg\n") + header(b"pax", 12, b"x") + padded(b"12 size=600\n")
    )
    assert found(path, split + header(b"short", 0) + padded(b"z" * 600) + END) == [Member("long.jpg", 2560, 600)]


DAMAGED = [b"xx path=a\n", b"0 path=a\n", b"99 path=a\n", b"11 size=-1\n", b"11 size=1x\n", b"1", b"4 =\n", b"XX"]


@pytest.mark.parametrize("record", DAMAGED)
def test_damaged_pax_records(path: Path, record: bytes) -> None:
    content = header(b"pax", len(record), b"x") + padded(record) + header(b"a.jpg", 0) + END
    with pytest.raises(TarError, match="PAX record at byte 512") as caught:
        found(path, content)
    assert caught.value.offset == 512


def test_the_shortest_pax_record(path: Path) -> None:
    assert found(path, header(b"pax", 5, b"x") + padded(b"5 x=\n") + header(b"a", 0) + END) == [Member("a", 1536, 0)]


def test_what_lies_beside_a_field_is_no_part_of_it(path: Path) -> None:
    raw = bytearray(header(b"a", 0, prefix=b"p" * 155))
    raw[500], raw[148:156] = ord("Z"), b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    assert found(path, bytes(raw) + END) == [Member("p" * 155 + "/a", 512, 0)]


def test_a_checksum_of_six_digits(path: Path) -> None:
    large = header(b"\xff" * 100, 0, prefix=b"\xff" * 155)
    assert large[148:149] != b"0"
    assert found(path, large + END) == [Member("\udcff" * 155 + "/" + "\udcff" * 100, 512, 0)]


def test_errors_name_the_byte(path: Path) -> None:
    good = header(b"a.jpg", 3) + padded(b"abc")
    for content, offset, reason in (
        (b"", 0, "empty"),
        (good, 1024, "end-of-archive"),
        (good + bytes(511), 1024, "end-of-archive"),
        (good + header(b"b.jpg", 3) + b"ab", 1536, "cut off"),
        (good + b"\1" + header(b"b.jpg", 3)[1:] + padded(b"abc"), 1024, "checksum"),
        (good + header(b"b.jpg", b"no number!!!") + END, 1024, "no tar header at"),
        (
            good + header(b"b.jpg", b"-0000001000\0") + END,
            1024,
            "no tar header at",
        ),  # backwards: an endless loop
        (good + END + good + END, 1024, "more data after the end-of-archive mark"),  # cat a.tar b.tar
        (good + bytes(10240) + good + END, 1024, "more data after the end-of-archive mark"),
        (good + bytes(512) + b"\1", 1024, "more data after the end-of-archive mark"),
        (good + bytes(512 + LOOKED_AT - 1) + b"\1", 1024, "more data after the end-of-archive mark"),
        (good + END + b"X", 1024, "more data after the end-of-archive mark"),
        (good + b"X" * 1024, 1024, "no tar header at"),
        (good + header(b"b.jpg", b"X0000000003\0") + padded(b"abc") + END, 1024, "no tar header at"),
        (good + header(b"b.jpg", b"\x80\1" + bytes(10)) + END, 1536, "cut off"),  # 2 ** 80 bytes
    ):
        with pytest.raises(TarError, match=reason) as caught:
            found(path, content)
        assert caught.value.offset == offset and f"at byte {offset}" in str(caught.value)


def test_what_lies_far_behind_the_mark_is_not_looked_at(path: Path) -> None:
    far = header(b"a.jpg", 3) + padded(b"abc") + bytes(512 + LOOKED_AT) + b"\1"
    assert found(path, far) == [Member("a.jpg", 512, 3)]


def test_data_may_end_with_the_file_but_the_mark_is_missed(path: Path) -> None:
    path.write_bytes(header(b"a.jpg", 3) + b"abc")
    members = scan_tar(path)
    assert next(members) == Member("a.jpg", 512, 3)
    with pytest.raises(TarError, match="end-of-archive"):
        next(members)


def test_a_stored_checksum_of_blanks_is_zero_and_wrong(path: Path) -> None:
    raw = bytearray(header(b"a.jpg", 0))
    raw[148:156] = b" " * 8
    with pytest.raises(TarError, match="checksum"):
        found(path, bytes(raw) + END)


def test_an_empty_size_field_is_zero(path: Path) -> None:
    assert found(path, header(b"a.jpg", b" " * 12) + END) == [Member("a.jpg", 512, 0)]


def test_is_header() -> None:
    own = header(b"key.jpg", 700)
    assert is_header(own + b"data", "key", 700)
    assert not is_header(own, "key", 701)
    assert not is_header(own, "other", 700) and not is_header(own, "ke", 700) and not is_header(own, "key.jpg", 700)
    assert is_header(header(b"key.jpg", b"        1274"), "key", 700)  # octal with blanks
    assert not is_header(header(b"key.jpg", b"        1275"), "key", 700)
    assert not is_header(header(b"key.jpg", b"no number!!!"), "key", 700)
    assert is_header(header(b"key.jpg", b"\x80" + bytes(11)), "key", 700)  # base 256 is not compared
    assert is_header(header(b"k.jpg", 700, prefix=b"dir"), "dir/k", 700)
    assert not is_header(header(b"k.jpg", 700, prefix=b"dir"), "k2", 700)
    assert is_header(header(b"k.jpg", b" " * 12), "k", 0)
    twelve = header(b"k.jpg", b"100000001274")  # octal to the last byte of its field
    assert is_header(twelve, "k", 0o100000001274) and not is_header(twelve, "k", 0o1274)
    # names that a header cannot hold: only the size is compared
    assert is_header(header(b"cut", 700), "n" * 92, 700) and not is_header(header(b"cut", 700), "n" * 92, 1)
    assert not is_header(header(b"cut", 700), "n" * 91, 700)
    assert is_header(header(b"?.jpg", 700), "\u00e9", 700)


def test_an_ordinary_header_is_compared_without_a_look_at_its_numbers(monkeypatch) -> None:
    """Every read of training compares a header."""
    monkeypatch.delattr("helip.artifacts.tar._octal")
    assert is_header(header(b"key.jpg", 700), "key", 700)
