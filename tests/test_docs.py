"""Links, make targets, extras, options and shard patterns of the documents exist, and the packing script runs."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "experiments").rglob("*.md"))
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENTRY_POINT = re.compile(r"^\s*(?:\$ )?python (mine|train|evaluate)\.py\b(?P<arguments>[^\n#|]*)", re.MULTILINE)
# the base of the project; CONTRIBUTING.md gives a reason for every other base dependency
GIVEN = {"pytorch-lightning", "hydra-core", "omegaconf", "open_clip_torch", "faiss-cpu", "webdataset", "wandb"}
GIVEN |= {"pyarrow", "rich", "matplotlib"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", requirement)[0] for requirement in requirements}


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(name))
    local = [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (ROOT / name).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    used = set(re.findall(r"(?:`|^ +|^\$ )make ([a-z]+)", text_of(name), re.MULTILINE))
    assert used <= targets


@pytest.mark.parametrize("name", NAMES)
def test_extras_exist(name: str) -> None:
    used = re.findall(r"(?:-e '?\.|helip)\[([a-z, ]+)\]", text_of(name))
    assert {extra.strip() for group in used for extra in group.split(",")} <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("name", NAMES)
def test_options_in_commands_exist(name: str) -> None:
    """`dataset=cc3m` after an entry point needs conf/dataset/cc3m.yaml; keys with a dot are left to Hydra itself."""
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    missing = []
    for command in ENTRY_POINT.finditer(text_of(name)):
        for key, value in re.findall(r"(?:^|\s)'?([a-z_]+)=(\S+)", command["arguments"]):
            options = value.strip("'\"").split(",") if key in groups else []
            missing += [f"{key}={o}" for o in options if not (ROOT / "conf" / key / f"{o}.yaml").exists()]
    assert missing == []


def test_every_dependency_has_its_reason() -> None:
    contributing = text_of("CONTRIBUTING.md")
    argued = set(re.findall(r"\*\*([\w-]+)\*\*", contributing))
    base = requirement_names(PROJECT["dependencies"])
    assert base >= GIVEN and all(name in contributing for name in GIVEN)
    assert base - GIVEN - argued == set()
    extras = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
    assert requirement_names(extras) - argued == set()


def test_dependencies_have_lower_bounds_and_no_upper_ones() -> None:
    packaged_weights = set(PROJECT["optional-dependencies"]["packaged"])
    extras = {requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra}
    loose = sorted((set(PROJECT["dependencies"]) | extras) - packaged_weights)
    assert [requirement for requirement in loose if not re.fullmatch(r"[\w-]+(\[\w+\])?>=[\d.]+", requirement)] == []


@pytest.mark.parametrize("dataset", ["cc3m", "cc12m", "yfcc15m"])
def test_shard_patterns_match_the_configs(dataset: str) -> None:
    row = next(line for line in text_of("docs/datasets.md").splitlines() if line.startswith(f"| `{dataset}`"))
    pattern = re.search(r"\{\d+\.\.\d+\}", row)
    assert pattern and f"{dataset}/{pattern[0]}.tar" in text_of(f"conf/dataset/{dataset}.yaml")


def test_every_dataset_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+)`", text_of("docs/datasets.md"), re.MULTILINE))
    assert {path.stem for path in (ROOT / "conf/dataset").glob("*.yaml")} - {"none"} == described


def test_packing_script_writes_shards(tmp_path: Path) -> None:
    """The script in docs/datasets.md: 3 images with 2 captions each, 2 images per shard."""
    script = re.search(r"```python\n(.*?)```", text_of("docs/datasets.md"), re.DOTALL)
    assert script
    (tmp_path / "pack.py").write_text(script[1], encoding="utf-8")
    (tmp_path / "images").mkdir()
    lines = ["image,caption"]
    for number in range(3):
        Image.new("RGB", (8, 8), (80 * number, 0, 0)).save(tmp_path / f"images/{number}.jpg")
        lines += [f'{number}.jpg,"red, shade {number}"', f"{number}.jpg,another {number}"]
    (tmp_path / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "pack.py", "images", "captions.txt", "out", "2"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00000.tar", "00001.tar"]
    with tarfile.open(tmp_path / "out/00001.tar") as shard:
        members = {name: shard.extractfile(name) for name in shard.getnames()}
        assert set(members) == {"000010000.jpg", "000010000.txt", "000010000.json"}
        assert (text := members["000010000.txt"]) and text.read() == b"red, shade 2"
        assert (facts := members["000010000.json"])
        assert json.loads(facts.read())["captions"] == ["red, shade 2", "another 2"]


def test_ci_runs_the_documented_test_command() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "exec make test"


def one_liners() -> list[str]:
    """The code of each `python -c "..."` of the documents and experiments."""
    found = (re.findall(r'python -c "(.*?)"', text_of(name), re.DOTALL) for name in NAMES)
    return [code.replace("\\\n", "").strip() for codes in found for code in codes]


@pytest.mark.parametrize("code", one_liners())
def test_a_one_liner_calls_functions_that_take_its_arguments(code: str) -> None:
    tree, known = ast.parse(code), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            known |= {one.name: getattr(importlib.import_module(str(node.module)), one.name) for one in node.names}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert calls
    for call in calls:
        named = {str(keyword.arg): None for keyword in call.keywords}
        inspect.signature(known[call.func.id]).bind(*call.args, **named)  # type: ignore[attr-defined]
