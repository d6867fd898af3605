"""helip convert upload: whole folders to an S3 server of this machine, resumed, and back by a plain download."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("s3fs")

import s3fs

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.sums import check_sums
from helip.errors import HelipError
from helip.formats.convert import main
from helip.formats.upload import upload
from tests.formats.released import hard_pairs
from tests.storage.conftest import s3 as s3


@pytest.fixture
def index(tmp_path: Path) -> Path:
    hard_pairs(60, 9, "fingerprint").save(tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def bucket(s3: str) -> str:
    import boto3

    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket="artefacts")
    return "s3://artefacts"


def test_an_upload_that_was_interrupted_goes_on_and_comes_back(
    bucket: str, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, put = [], s3fs.S3FileSystem.put_file

    def failing(self: s3fs.S3FileSystem, source: str, target: str) -> None:
        sent.append(Path(source).name)
        if len(sent) == 4:
            raise ConnectionResetError("the network is gone")
        put(self, source, target)

    with (
        mock.patch.object(s3fs.S3FileSystem, "put_file", failing),
        pytest.raises(HelipError, match=r"cannot be uploaded to s3://artefacts/pairs .*the network is gone"),
    ):
        upload(index, f"{bucket}/pairs")
    system = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    assert sent[0] == "SHA256SUMS" and not system.exists("artefacts/pairs/meta.json")
    main(["upload", str(index), f"{bucket}/pairs/"])
    assert capsys.readouterr().out.startswith("3 of 6 files, ")
    assert upload(index, f"{bucket}/pairs") == [f"{bucket}/pairs has all of {index} already"]
    system.get("artefacts/pairs", str(tmp_path / "back"), recursive=True)
    assert check_sums(tmp_path / "back") == []
    back, here = HardPairIndex.load(tmp_path / "back"), HardPairIndex.load(index)
    assert np.array_equal(back.rows, here.rows) and back.meta == here.meta


def test_the_metadata_goes_last(index: Path, tmp_path: Path) -> None:
    order = []
    with mock.patch("fsspec.implementations.local.LocalFileSystem.put_file", lambda self, a, b: order.append(a)):
        upload(index, f"file://{tmp_path}/there")
    names = [Path(name).name for name in order]
    assert (
        names[0] == "SHA256SUMS"
        and names[-1] == "meta.json"
        and sorted(names) == sorted(p.name for p in index.iterdir())
    )


def test_what_is_not_uploaded(index: Path, tmp_path: Path) -> None:
    upload(index, f"file://{tmp_path}/there")
    hard_pairs(50, 9, "fingerprint").save(tmp_path / "other")
    with pytest.raises(HelipError, match=r"there holds something else .*: name a new folder there"):
        upload(tmp_path / "other", f"file://{tmp_path}/there")
    with pytest.raises(HelipError, match=r"is no finished artefact \(it has no SHA256SUMS\)"):
        upload(tmp_path, f"file://{tmp_path}/new")
    (index / "rows.npy").write_bytes(b"damaged")
    with pytest.raises(HelipError, match=r"rows\.npy has the sum .*make the artefact again"):
        upload(index, f"file://{tmp_path}/new")
    assert not (tmp_path / "new").exists()
