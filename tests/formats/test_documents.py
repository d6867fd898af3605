"""The tables of docs/from_open_clip.md and docs/from_helip_release.md: no flag is left out, all settings exist."""

import importlib.util
import re
import textwrap
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.programs.conftest import compose

DOCS = Path(__file__).parents[2] / "docs"
OWN = {"--dataset", "--start_tar", "--end_tar", "--save_path", "--topk", "--mining_method", "--approx"}
OWN |= {"--use-hard", "--hard-dict-dir"}  # of hard_pair_mining.py and of their params.py beyond open_clip's


def test_every_flag_of_open_clip_has_one_row() -> None:
    spec = importlib.util.find_spec("open_clip_train")
    assert spec and spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / "params.py").read_text(encoding="utf-8")
    flags = re.findall(r"""add_argument\(\s*['"](--[a-z0-9-]+)""", source)
    rows = re.findall(r"^\| `(--[\w-]+)` \| (.+?) \| (.*?) \|$", (DOCS / "from_open_clip.md").read_text(), re.MULTILINE)
    assert len(flags) >= 83 and [flag for flag, _, _ in rows] == flags
    assert [
        flag for flag, here, note in rows if here.startswith("not offered") and not re.match("because|see", note)
    ] == []


def test_every_flag_of_the_released_scripts_is_named() -> None:
    text = (DOCS / "from_helip_release.md").read_text()
    assert {flag for flag in OWN if f"`{flag}`" not in text} == set()


@pytest.mark.parametrize("name", ["from_open_clip.md", "from_helip_release.md"])
def test_the_settings_that_are_named_exist(name: str) -> None:
    config = OmegaConf.create(compose("train", "logger=wandb"))
    known = re.findall(r"(?<![\w+./])([a-z]+(?:\.[a-z_]+)+)=", (DOCS / name).read_text())
    missing = object()
    free = {"hydra.run.dir", "dataset.parts.val", "encoders.image"}
    assert {key for key in known if OmegaConf.select(config, key, default=missing) is missing} - free == set()


def test_the_dataset_file_of_the_document_composes(tmp_path: Path) -> None:
    """The settings that it leaves out come from conf/base.yaml."""
    text = (DOCS / "datasets.md").read_text(encoding="utf-8")
    block = text[text.index("    # @package _global_") :].split("\n\n")[0]
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "photos.yaml").write_text(textwrap.dedent(block), encoding="utf-8")
    composed = compose("train", "dataset=photos", f"hydra.searchpath=[file://{tmp_path}]")
    assert composed["dataset"]["path"].endswith("{00000..00099}.tar") and composed["dataset"]["weights"] == []
    assert composed["model"]["name"] == "ViT-B-32" and composed["encoders"]["name"] == "clip"
