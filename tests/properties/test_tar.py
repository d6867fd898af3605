"""The header scan against Python's tarfile: PAX and GNU names, empty files, links, folders, padding."""

import io
import tarfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helip.artifacts.tar import scan_tar

NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=130).filter(
    lambda name: name not in (".", "..")
)
KINDS = st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
MEMBERS = st.lists(st.tuples(NAMES, KINDS, st.binary(max_size=1100), NAMES), max_size=7)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MEMBERS, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), st.integers(0, 30))
def test_regular_files_are_those_of_tarfile(tmp_path: Path, members, format: int, padding: int) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=format, encoding="utf-8") as tar:
        for name, kind, data, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(data))
    with open(path, "ab") as file:
        file.write(bytes(512 * padding))
    with tarfile.open(path, encoding="utf-8") as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    assert [(m.name, m.offset, m.size) for m in scan_tar(path)] == expected
