"""helip convert: each command on files, and errors as one sentence."""

import errno
from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.formats.convert import main
from tests.formats.released import hard_pairs
from tests.samples import write_shards


def test_all_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = ShardIndex.build(write_shards(tmp_path / "tars", [40, 20]))
    hard_pairs(60, 9, shards.fingerprint).save(tmp_path / "index")
    tars, out = ["--shards", f"{tmp_path}/tars/{{00000..00001}}.tar"], str(tmp_path / "out")

    def run(*arguments: str) -> str:
        main(list(arguments))
        return capsys.readouterr().out

    assert run("shards-to-csv", f"{out}/list", *tars, "--name", "toy").startswith("60 lines in")
    said = run("to-released", f"{tmp_path}/index", f"{out}/list/toy.csv", f"{out}/theirs", "--name", "toy")
    assert said == "60 of 60 lines have hard pairs\n"
    urls, hard = f"{out}/theirs/url_index/toy_url_index.json", f"{out}/theirs/toy_hard_sample.csv"
    assert "60 targets with 540 hard pairs" in run("from-released", hard, f"{out}/ours", "--url-index", urls, *tars)
    np.save(tmp_path / "e.npy", np.random.default_rng(0).normal(size=(60, 4)))
    sides = [f"--image={tmp_path}/e.npy", f"--text={tmp_path}/e.npy"]
    run(
        "from-released",
        hard,
        f"{out}/listed",
        "--order",
        "row",
        "--training-list",
        f"{out}/list/toy.csv",
        *tars,
        *sides,
    )
    first, second = (HardPairIndex.load(Path(out) / name) for name in ("ours", "listed"))
    assert (np.asarray(first.rows) == second.rows).all()
    said = run("to-shards", f"{out}/list/toy.csv", f"{out}/tars", "--per-shard", "25", "--processes", "1")
    assert said == "60 samples in 3 shards\n"
    assert run("to-parquet", f"{tmp_path}/index", f"{out}/pairs.parquet", *tars).startswith("60 rows in")
    said = run("to-sentence-transformers", f"{tmp_path}/index", f"{out}/t.parquet", *tars, "--negatives", "9")
    assert said.startswith("60 tuples in")


def test_faults_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = ShardIndex.build(write_shards(tmp_path, [3]))
    hard_pairs(3, 2, index.fingerprint).save(tmp_path / "index")
    (tmp_path / "file").write_text("")
    tars, one = ["--shards", str(tmp_path)], ["from-released", "x.csv", "x", "--image", "x.npy"]
    for arguments, sentence in (
        (["to-parquet", f"{tmp_path}/none", "x", "--shards", str(tmp_path)], "error: no hard-pair index at"),
        (["shards-to-csv", "x", "--shards", f"{tmp_path}/none", "--name", "n"], "error: no shards at"),
        (["to-shards", f"{tmp_path}/none.csv", f"{tmp_path}/x"], r"error: .*none\.csv cannot be read"),
        (["shards-to-csv", f"{tmp_path}/file/x", *tars, "--name", "n"], r"error: File exists \(.*file\): free some"),
        (["to-parquet", f"{tmp_path}/index", str(tmp_path), *tars], r"error: .* is a folder: name a file"),
        ([*one, *tars], "error: --image and --text judge pairs together"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            main(arguments)
    for name in ("a/b", "", ".."):
        with pytest.raises(SystemExit):
            main(["shards-to-csv", f"{tmp_path}/x", *tars, "--name", name])
        assert f"--name: {name!r} names no file: give a name such as cc3m" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device: free some space"),
        (KeyboardInterrupt(), "interrupted: run the same command again"),
    ],
)
def test_what_ends_a_command_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, sentence: str
) -> None:
    write_shards(tmp_path / "tars", [3])

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("helip.formats.packing.decode_image", fail)
    with pytest.raises(SystemExit, match=sentence):
        main(["shards-to-csv", f"{tmp_path}/x", "--shards", f"{tmp_path}/tars", "--name", "n"])
    assert [path.name for path in tmp_path.iterdir()] == ["tars"]
