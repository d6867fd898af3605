"""Bad input ends in one sentence and exit status 1, or its good part is used."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.embeddings import GOOD, UNREADABLE, EmbeddingStore
from tests.data.test_transforms import png_header
from tests.programs.conftest import Result, World
from tests.samples import sample, write_shards, write_tar


def refused(result: Result, pattern: str) -> None:
    """One message on standard error, no traceback, and exit status 1."""
    assert result.status == 1
    assert len(result.errors) == 1 and re.search(pattern, result.errors[0]), result.err
    assert "Traceback" not in result.err


PLAIN = ["dataset.parts.train=':'", "dataset.evaluators=[]"]


@pytest.mark.parametrize("program", ["mine", "train", "evaluate"])
def test_no_shards_at_the_path(fresh: World, tmp_path: Path, program: str) -> None:
    refused(fresh.run(program, "dataset.path=/nowhere"), "no shards at /nowhere: docs/datasets.md")
    (tmp_path / "empty").mkdir()
    refused(fresh.run(program, f"dataset.path={tmp_path}/empty"), r"no \.tar file in .*/empty")


def test_a_pattern_with_missing_shards(fresh: World, shards: Path) -> None:
    pattern = f"dataset.path='{shards}/{{00002..00006}}.tar'"
    refused(fresh.run("mine", pattern), r"3 of the 5 shards of .* are missing, the first is 00004\.tar")
    refused(fresh.run("mine", "dataset.path='foo://bucket/{0..3}.tar'"), "no storage reads foo://: copy the shards")
    refused(
        fresh.run("mine", "dataset=cc3m", "paths.data=/nowhere", data=False),
        r"no shards at /nowhere/cc3m/\{00000\.\.00331\}",
    )


def test_a_path_that_must_be_given(fresh: World) -> None:
    overrides = [override for override in fresh.overrides if not override.startswith("dataset.path")]
    refused(World(fresh.folder, fresh.shards, fresh.weights, overrides).run("mine"), "dataset.path must be given")


def test_a_shard_that_is_no_tar_or_cut_off(fresh: World, shards: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    (data / "00001.tar").write_bytes(b"<html>not found</html>" * 99)
    whole = (data / "00002.tar").read_bytes()
    (data / "00002.tar").write_bytes(whole[: len(whole) // 2])
    path = f"dataset.path={data}"
    result = fresh.run("mine", path, *PLAIN)
    assert result.status == 0
    assert "warning: 00001.tar is damaged after 0 samples" in result.out
    kept = re.search(r"warning: 00002\.tar is damaged after (\d+) samples", result.out)
    assert kept and 2 <= int(kept[1]) <= 7  # of ten
    refused(fresh.run("mine", path, *PLAIN, "data.on_error=fail"), r"00001\.tar is damaged.*data\.on_error=skip")


BROKEN = {
    1: {"jpg": None},
    2: {"txt": None, "json": None},
    3: {"jpg": b"no image"},
    4: {"jpg": None, "png": png_header(30_000, 20_000)},  # 600 megapixels
    5: {"txt": b""},
    6: {"txt": "Größe".encode("latin-1")},
    7: {"txt": b"x" * 10_000},
    8: {"txt": b"[/red] [bold]markup"},
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """Two shards of 16 rows with equal keys; six rows of the first cannot be used."""
    folder = tmp_path_factory.mktemp("broken")
    write_tar(folder / "0.tar", [(f"{n}[/x]", sample(n, **BROKEN.get(n, {}))) for n in range(16)])
    write_tar(folder / "1.tar", [(f"{n}[/x]", sample(100 + n)) for n in range(16)])
    return folder


def test_bad_samples_are_left_out_and_named(fresh: World, broken: Path) -> None:
    path = f"dataset.path={broken}"
    result = fresh.run("mine", path, *PLAIN)
    assert result.status == 0, result.err
    (folder,) = (fresh.folder / "artifacts/folder/embeddings").glob("*/meta.json")
    store = EmbeddingStore(folder.parent)
    state = np.asarray(store.state)
    assert np.flatnonzero(state == UNREADABLE).tolist() == [3, 4, 5, 6]
    assert np.flatnonzero(state == GOOD).tolist() == [0, *range(7, 32)]  # rows 1 and 2 were never wanted
    for row, reason in ((3, "cannot be decoded"), (4, "too large"), (5, "empty"), (6, "not UTF-8")):
        assert re.search(rf"warning: left out 0\.tar, key {row}\[/x\] \(row {row}\): .*{reason}", result.out)
    trained = fresh.run("train", path, *PLAIN, "train.max_steps=8", "train.log_every=4", "helip.outliers=random")
    assert trained.status == 0, trained.err
    replaced = (trained.folder / "metrics.csv").read_text()
    assert "train/replaced_rows" in replaced
    row = r"0\.tar, key [3456]\[/x\] \(row [3456]\): .*data\.on_error=skip"
    refused(fresh.run("mine", path, *PLAIN, "data.on_error=fail", "data.caption=caption"), row)
    refused(fresh.run("train", path, *PLAIN, "data.on_error=fail", "helip=random", "train.max_steps=8"), row)


def test_shards_in_which_nothing_survives(fresh: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_tar(data / "0.tar", [(str(n), sample(n, txt=None, json=None)) for n in range(9)])
    refused(fresh.run("mine", f"dataset.path={data}", *PLAIN), "of 9 samples 0 have no image and 9 have no caption")
    write_tar(data / "0.tar", [(str(n), sample(n, jpg=b"x")) for n in range(9)])
    refused(fresh.run("mine", f"dataset.path={data}", *PLAIN), r"none of 9 samples .* can be read.*cannot be decoded")
    nearest = r"none of 40 rows looked at has a field 'captio' in its \.json, did you mean 'caption'\?; there are txt, "
    refused(fresh.run("mine", "data.caption=captio"), nearest)
    random = ["helip=random", "train.max_steps=2"]
    refused(fresh.run("train", "data.caption=captio", *PLAIN, *random), nearest)
    for workers in (0, 1):
        stopped = fresh.run("train", f"dataset.path={data}", *PLAIN, *random, f"data.workers={workers}")
        refused(stopped, r"1000 consecutive rows are unreadable")


@pytest.mark.parametrize(("topk", "pattern"), [(0, "topk=0 must be at least 1"), (32, "less than the 32"), (-1, "=-1")])
@pytest.mark.parametrize("program", ["mine", "train"])
def test_topk_out_of_range(world: World, mined: Result, program: str, topk: int, pattern: str) -> None:
    refused(world.run(program, f"helip.topk={topk}"), pattern)


@pytest.mark.parametrize(
    ("override", "pattern"),
    [
        ("helip.topkk=3", "no setting 'helip.topkk', did you mean 'helip.topk'"),
        ("trian.epochs=3", "no setting 'trian.epochs', did you mean 'train.epochs'"),
        ("dataset=emojy", "no dataset=emojy, did you mean 'emoji'.*flickr8k"),
        ("modell=rn50", "'modell'.*did you mean 'model'"),
        ("dataset.parts.vall=1:2", "no setting 'dataset.parts.vall'"),
        ("experiment=cc3m_rn5", "no experiment=cc3m_rn5, did you mean 'cc3m_rn50'"),
        ("+helip.top_k=3", "no setting helip.top_k, did you mean 'topk'"),
        ("+trainer.device=2", "no setting trainer.device, did you mean 'devices'"),
        ("helip.topk=many", "helip.topk=many must be a whole number"),
        ("data.batch_size=1.5", "data.batch_size=1.5 must be a whole number"),
        ("data.workers=some", "data.workers=some must be auto or a number"),
        ("data.workers=-1", "data.workers=-1 must be"),
        ("data.window=0", "data.window=0 must be at least 1"),
        ("data.on_error=skp", "data.on_error=skp is not one of skip, fail"),
        ("data.batch_size=7", "data.batch_size=7 must be a multiple of 2"),
        ("helip.score=joynt", "helip.score=joynt is not one of joint"),
        ("helip.outliers=false", "helip.outliers=False must be text"),
        ("helip.outliers=none", "helip.outliers=none is not one of drop, random, keep"),
        ("helip.p=9", r"helip\.p=9 partners cannot be drawn from helip\.topk=5"),
        ("helip.near_duplicate=high", "near_duplicate=high must be a number or a list"),
        ("search.backend=fast", "search.backend=fast is unknown"),
        ("search.depth=0", "search.depth is 0"),
        ("optim.betas=0.9", "optim.betas=0.9 must be a list"),
        ("optim.betas=[0.9]", r"optim.betas=\[0.9\] must be two numbers"),
        ("optim.lr=0", "optim.lr is 0"),
        ("optim.lr=fast", "optim.lr=fast must be a number"),
        ("optim=adamw", r"optim=adamw must be a group with lr, warmup, weight_decay"),
        ("train.max_steps=0", "train.max_steps=0 must be at least 1"),
        ("train.epochs=0", "train.epochs=0 must be at least 1"),
        ("train.keep_checkpoints=-2", "train.keep_checkpoints=-2 must be at least 1, or -1"),
        ("train.evaluate=never", "train.evaluate=never must be epoch, end"),
        ("train.resume=/nowhere", "/nowhere is neither a checkpoint file nor a run folder"),
        ("trainer=gpu", "this machine cannot run the trainer settings"),
        ("trainer.precision=fp8", "this machine cannot run the trainer settings.*fp8"),
        ("model.name=ViT-B-23", "no model 'ViT-B-23', did you mean 'ViT-"),
        ("model.pretrained=laion3b", "laion3b is neither a file nor a tag of"),
        ("dataset.evaluators=[{kind: retrival, part: val}]", "kind 'retrival' is unknown"),
        ("dataset.parts.train=0-3", "slice of shards such as '0:3'|'0:6', not '0-3'"),
        ("dataset.parts.train=7:9", "the part '7:9' of the 4 shards .* is empty"),
        ("evaluation.imagenet=/nowhere", "/nowhere"),
        ("evaluation.batch_size=0", "evaluation.batch_size=0 must be at least 1"),
        ("evaluation.max_drop=5", "evaluation.max_drop=5 must be a share from 0 to 1"),
        ("evaluation.max_drop=much", "evaluation.max_drop=much must be a number"),
        ("+evaluation.sets.x={kind: zeroshot, paht: /d}", "has no field 'paht'"),
        ("train.evaluate=0", "train.evaluate=0 must be epoch, end, or a number of steps"),
        ("train.best=test/i2t_recall@1", "train.best=test/i2t_recall@1 is no metric of an evaluator: begin it with"),
        ("helip.topk=", "helip.topk= must be a whole number|helip.topk"),
        ("seed=-1", "seed=-1 must be a whole number from 0"),
        ("dataset.path=/da(ta", "mismatched input .*must be quoted twice, \"NAME='VALUE'\""),
        ("dataset=3", "Config group override must be a string"),
    ],
)
def test_a_setting_that_is_wrong(world: World, mined: Result, override: str, pattern: str) -> None:
    refused(world.run("train", override), pattern)


@pytest.mark.parametrize(
    ("program", "override", "sentence"),
    [
        ("mine", "optim.lr=1", "mine.py has no setting 'optim.lr': it belongs to train.py"),
        ("mine", "train.loss=siglip", "mine.py has no setting 'train.loss': it belongs to train.py"),
        ("mine", "+export.alpha=1", "mine.py has no setting 'export': it belongs to train.py"),
        ("evaluate", "reuse=x", "evaluate.py has no setting 'reuse': it belongs to mine.py"),
    ],
)
def test_a_setting_of_another_program(world: World, program: str, override: str, sentence: str) -> None:
    result = world.run(program, override)
    assert result.status == 1 and result.errors == [f"error: {sentence}"]


def test_random_and_plain_training_need_no_mining(world: World) -> None:
    refused(world.run("mine", "helip=random"), "helip.score=random needs no mining: choose joint, image or text")
    refused(world.run("mine", "helip='off'"), "helip.score=off needs no mining")
    refused(world.run("mine", "dataset=none", data=False), "give encoders=precomputed")
    refused(world.run("train", "dataset=none", data=False), "dataset=none has no images to train on")


def test_a_checkpoint_that_is_none(world: World, tmp_path: Path) -> None:
    refused(world.run("evaluate", "checkpoint=/nowhere.pt"), "no checkpoint at /nowhere.pt")
    refused(world.run("evaluate", f"checkpoint={tmp_path}"), "neither a checkpoint file nor a run folder")
    (tmp_path / "text.pt").write_text("no checkpoint")
    refused(world.run("evaluate", f"checkpoint={tmp_path}/text.pt"), "cannot be read as a checkpoint")
    refused(world.run("train", f"model.pretrained={tmp_path}/text.pt", "helip='off'"), "cannot be read as a checkpoint")


def test_one_row_has_no_partner(fresh: World, tmp_path: Path) -> None:
    write_shards(tmp_path / "one", [1])
    refused(
        fresh.run("train", f"dataset.path={tmp_path}/one", *PLAIN, "helip=random", "train.max_steps=1"),
        r"helip\.p=1 partners of a target need more than the 1 usable rows",
    )
