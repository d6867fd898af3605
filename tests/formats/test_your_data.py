"""docs/your_data.md: every block runs unchanged, and its result can be mined and trained on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import transformers

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.formats.convert import main
from helip.models.checkpoints import export_clip
from tests.formats import layouts
from tests.models.tiny import clip_config, made, own, written

DOCUMENT = Path(__file__).parents[2] / "docs/your_data.md"
COMMANDS = re.findall(r"^    helip convert (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


def sources(folder: Path) -> None:
    """The sources that the document names, made by the functions that test each layout."""
    layouts.comma_list(folder)
    layouts.photos(folder / "images")
    layouts.write_csv(folder / "own.csv", [["bild", "text_de"], ["images/0.jpg", "rot"]])
    layouts.image_folder(folder / "imagefolder")
    layouts.plain_parquet(folder / "t").rename(folder / "table.parquet")
    layouts.saved_arrow(folder)
    layouts.coco(folder)
    layouts.flickr8k(folder / "flickr8k")
    layouts.pairs(folder / "pairs")
    layouts.packed_by_tar(folder / "packed").rename(folder / "packed.tar.gz")
    rng = np.random.default_rng(0)
    for name in ("image", "text"):
        np.save(folder / f"{name}.npy", rng.random((7, 8)))
    clip = made(own(folder / "RUN"))
    export_clip(clip.model, folder / "RUN/final.pt")
    (folder / "RUN/config.json").write_text(json.dumps({"model": clip.description, "helip": {"topk": 3}}))
    (folder / "RUN/metrics.md").write_text("| metric | before |\n| --- | ---: |\n")
    (folder / "RUN/results.json").write_text(json.dumps({"fingerprint": "abcd", "dataset": "folder", "model": "own"}))


def test_every_block_of_the_document_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    kinds = []
    for number, command in enumerate(COMMANDS):
        name, *arguments = command.split()
        if name == "to-shards":
            arguments = [f"OUT{number}" if word == "OUT" else word for word in arguments]
            main([name, *arguments, "--processes", "1"])
            kinds.append(capsys.readouterr().err.split(": read as ")[1])
            shards = ShardIndex.build(sorted(Path(f"OUT{number}").glob("*.tar")))
            assert shards.valid.all() and len(shards) == (1 if "own.csv" in arguments else 7)
            continue
        places = {"OUT": "OUT0", "EXPORTED": f"EXPORTED-{name}", "s3://bucket/pairs": f"file://{tmp_path}/bucket/pairs"}
        arguments = [places.get(word, word) for word in arguments]
        main([name, *arguments])
    assert len(kinds) == len(set(kinds)) == 9
    assert HardPairIndex.load(Path("INDEX")).depth == 3
    assert "imported" in HardPairIndex.load(Path("INDEX")).meta  # or training refuses it
    assert HardPairIndex.load(Path("bucket/pairs")).depth == 3
    assert pq.read_table("tuples.parquet").num_rows == 7
    assert transformers.AutoModel.from_pretrained("EXPORTED-to-transformers").config.projection_dim == 24
    for export in ("to-transformers", "to-open-clip-dir"):
        card = Path(f"EXPORTED-{export}/README.md").read_text()
        assert "fingerprint of the shards `abcd`" in card and "| `helip.topk` | `3` |" in card and "## Metrics" in card


def helip(*arguments: str, folder: Path = DOCUMENT.parents[1]) -> str:
    command = [sys.executable, "-m", "helip", *arguments]
    environment = os.environ | {"PYTHONPATH": str(DOCUMENT.parents[1])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


SMALL = ("trainer=cpu", "helip.topk=3", "helip.cluster=2", "data.batch_size=4", "data.workers=0")
TINY = (*SMALL, "train.max_steps=5", "train.log_every=1")
# What stands for the user's own in a program's line, and what makes it small.
NAMES = {"FOLDER_OR_ID": "theirs", "TIMM_NAME": "test_vit", "NAME_OR_FOLDER": "open_clip:emoji_tiny"}
PROGRAMS = re.findall(r"^    helip ((?:train|mine) .+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.slow
def test_every_program_of_the_document_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources(tmp_path)
    written(tmp_path / "theirs", clip_config())
    monkeypatch.chdir(tmp_path)
    main(["to-shards", "pairs", "OUT", "--processes", "1"])
    main(["from-embeddings", "image.npy", "INDEX", "--text", "text.npy", "--shards", "OUT", "--k", "3"])
    assert len(PROGRAMS) == 4
    for number, line in enumerate(PROGRAMS):
        for name, value in NAMES.items():
            line = line.replace(name, value)
        small = TINY if line.startswith("train") else SMALL
        model = () if "model.name=" in line else ("model=emoji_tiny",)
        encoders = ("encoders.image.pretrained=false",) if "encoders=" in line else ("encoders=clip",)
        helip(*line.split(), *model, *encoders, *small, f"hydra.run.dir=run{number}", folder=tmp_path)
        assert line.startswith("mine") or (tmp_path / f"run{number}/final.pt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("layout", [layouts.comma_list, layouts.coco, layouts.hub_parquet, layouts.pairs])
def test_what_was_converted_is_mined_and_trained_on(tmp_path: Path, layout) -> None:
    source = layout(tmp_path / "in")
    main(["to-shards", str(source), str(tmp_path / "OUT"), "--per-shard", "3", "--processes", "2"])
    places = (f"paths.artifacts={tmp_path}/artifacts", f"hydra.run.dir={tmp_path}/run")
    data = ("dataset=folder", f"dataset.path={tmp_path}/OUT", "model=emoji_tiny", "encoders=clip")
    said = helip("train", *data, *places, *TINY)
    assert "Cosines of random pairs" in said and (tmp_path / "run/final.pt").is_file()
    assert (tmp_path / "run/metrics.csv").read_text().count("\n") >= 6


@pytest.mark.slow
def test_a_checkpoint_of_transformers_is_trained_and_goes_back(tmp_path: Path) -> None:
    written(tmp_path / "theirs", clip_config())
    main(["to-shards", str(layouts.pairs(tmp_path / "in")), str(tmp_path / "OUT"), "--processes", "1"])
    places = (f"paths.artifacts={tmp_path}/artifacts", f"hydra.run.dir={tmp_path}/run")
    data = ("dataset=folder", f"dataset.path={tmp_path}/OUT", f"model.name=hf:{tmp_path}/theirs", "encoders=clip")
    helip("train", *data, *places, *TINY, "logger=tensorboard", "optim.lr=0.01")
    main(["to-transformers", str(tmp_path / "run"), str(tmp_path / "back")])
    before = transformers.AutoModel.from_pretrained(tmp_path / "theirs").state_dict()
    after = transformers.AutoModel.from_pretrained(tmp_path / "back").state_dict()
    assert before.keys() == after.keys() and any((before[name] != after[name]).any() for name in before)
    assert list((tmp_path / "run/tensorboard").glob("events*"))
