"""Members that GNU tar stored as sparse: their stored bytes are never read as the file."""

import shutil
import subprocess
from pathlib import Path

import pytest

from helip.artifacts.shards import ShardIndex
from helip.artifacts.tar import TarError, scan_tar
from helip.errors import HelipError
from tests.samples import sample

FORMATS = {
    "old GNU": ["--format=gnu"],
    "PAX 0.0": ["--format=posix", "--sparse-version=0.0"],
    "PAX 0.1": ["--format=posix", "--sparse-version=0.1"],
    "PAX 1.0": ["--format=posix", "--sparse-version=1.0"],
}
HOLE = 1 << 16


def with_holes(path: Path, pieces: int, data: bytes = b"x" * 4096) -> None:
    """Data and holes in turn; with more than 4 pieces the old format needs headers after the header."""
    with open(path, "wb") as file:
        for piece in range(pieces):
            file.seek(piece * HOLE)
            file.write(data)
        file.truncate(pieces * HOLE)


def write_sample(folder: Path, number: int) -> list[str]:
    for extension, data in sample(number).items():
        (folder / f"{number}.{extension}").write_bytes(data)
    return [f"{number}.{extension}" for extension in sample(number)]


def packed(folder: Path, options: list[str], names: list[str]) -> Path:
    command = ["tar", "--sparse", "--hole-detection=raw", *options, "-cf", "0.tar", *names]
    if shutil.which("tar") is None or b"GNU" not in subprocess.run(["tar", "--version"], capture_output=True).stdout:
        pytest.skip("there is no GNU tar here")
    subprocess.run(command, cwd=folder, check=True)
    return folder / "0.tar"


@pytest.mark.parametrize("pieces", [1, 4, 5, 60])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("extension", ["jpg", "txt"])
def test_a_sparse_member_ends_the_shard_in_a_sentence(tmp_path: Path, form: str, pieces: int, extension: str) -> None:
    """Members before it are kept; neither it nor later members become rows with wrong bytes."""
    names = [name for number in range(3) for name in write_sample(tmp_path, number)]
    with_holes(tmp_path / f"1.{extension}", pieces)
    shard = packed(tmp_path, FORMATS[form], names)
    kept = names[: names.index(f"1.{extension}")]
    found = []
    with pytest.raises(TarError, match="a sparse member: pack the shard again without tar's --sparse"):
        found.extend(member.name for member in scan_tar(shard))
    assert found == kept
    index = ShardIndex.build([shard])
    assert index.key(0) == "0" and index.valid[0] and not index.valid[1:].any()
    assert "0.tar is damaged after" in index.problems[0] and "a sparse member" in index.problems[0]
    with pytest.raises(HelipError, match="a sparse member"):
        ShardIndex.build([shard], on_error="fail")


@pytest.mark.parametrize("form", FORMATS)
def test_tars_made_with_sparse_but_without_holes_are_read(tmp_path: Path, form: str) -> None:
    names = [name for number in range(3) for name in write_sample(tmp_path, number)]
    shard = packed(tmp_path, FORMATS[form], names)
    data = shard.read_bytes()
    members = list(scan_tar(shard))
    assert [member.name for member in members] == names
    for member in members:
        assert data[member.offset : member.offset + member.size] == (tmp_path / member.name).read_bytes()
