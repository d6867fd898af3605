"""Places of shards, and messages about incomplete samples."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from helip.artifacts.datasets import DatasetSpec, open_index, resolve_shards
from helip.errors import HelipError
from tests.samples import sample, write_tar


def test_braces_that_do_not_match(tmp_path: Path) -> None:
    with pytest.raises(HelipError, match=r"dataset\.path=.*/\{00000\.\. .*braces.*\{00000\.\.00331\}"):
        resolve_shards(f"{tmp_path}/{{00000..")


def said(folder: Path, on_error: str = "skip") -> str:
    out = io.StringIO()
    console = Console(file=out, width=300, markup=False, soft_wrap=True)
    open_index(DatasetSpec("folder", str(folder)), folder / "artifacts", on_error, console)
    return out.getvalue()


def test_samples_that_lack_something_are_counted(tmp_path: Path) -> None:
    entries = [(f"{n}[/x]", sample(n, **({"jpg": None} if n % 3 == 1 else {}))) for n in range(8)]
    write_tar(tmp_path / "whole/0.tar", [entries[0], entries[2]])
    assert said(tmp_path / "whole") == ""
    write_tar(tmp_path / "some/0.tar", entries)
    sentence = "warning: 3 of 8 samples have no image or no caption, the first is 0.tar, key 1[/x] (row 1)\n"
    for on_error in ("skip", "fail"):  # a scan, and the index of it
        assert said(tmp_path / "some", on_error) == sentence


def test_a_tar_that_is_not_sorted_is_refused(tmp_path: Path) -> None:
    members = [(f"{n}", {kind: data}) for kind in ("jpg", "txt") for n, data in enumerate([b"x"] * 4)]
    write_tar(tmp_path / "0.tar", [*members, ("4", sample(4))])
    with pytest.raises(HelipError, match=r"4 samples are not adjacent in 0\.tar, the first key is 0: .*--sort=name"):
        said(tmp_path)


def test_what_is_no_file_in_a_folder_of_shards_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("k", sample(0))])
    for make in (lambda odd: odd.symlink_to("/nowhere"), lambda odd: odd.symlink_to(odd), Path.mkdir):
        make(tmp_path / "1.tar")
        with pytest.raises(HelipError, match=r"/1\.tar is a broken link or no file: restore or remove it"):
            resolve_shards(str(tmp_path))
        (tmp_path / "1.tar").rmdir() if make is Path.mkdir else (tmp_path / "1.tar").unlink()
