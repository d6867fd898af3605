"""The rooms of helip/ import each other in one direction, and frameworks only where they are allowed.

Read from the syntax tree, so that an import inside a function or under TYPE_CHECKING counts.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.whole_settings import taken

ROOT = Path(__file__).resolve().parent.parent
ENTRY_POINTS = ("train.py", "mine.py", "evaluate.py")

# From the ground up; a module imports only from the floors below its own, and from its own room.
FLOORS = (
    "errors", "overrides", "environment", "secrets", "typed", "ranks", "storage", "artifacts", "models", "data",
    "embedding", "mining", "training", "evaluation", "formats", "report", "tracking", "programs", "config", "cli",
    "__main__",
)  # fmt: skip
APART = {"training": ("embedding", "mining")}  # they meet at files
ASIDE = {"embedded": ("artifacts",)}  # built once; only its files are used
# files that may import all rooms
JOINTS = ("helip/__init__.py", "helip/report/__main__.py")
ARTIFACTS_MAY_USE = {"numpy", "pyarrow", "filelock", "braceexpand", "rich", "PIL"}
FRAMEWORKS = {"pytorch_lightning", "lightning", "hydra", "omegaconf"}
PLAIN = ("losses", "margins", "batch_roles", "gather", "statistics", "saturation", "advise", "optim")  # of training
NO_FRAMEWORK = (
    "helip/artifacts/", "helip/mining/", "helip/evaluation/metrics.py",
    *(f"helip/training/{name}.py" for name in PLAIN),
)  # fmt: skip
HYDRA_ALLOWED = "helip/cli/"


def imported(path: Path, module: str) -> set[str]:
    """Dotted names that the file imports; `from a import b` gives `a.b`, because b may be a submodule."""
    names: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return names


def inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def library(root: Path, without: str | tuple[str, ...]) -> Iterator[tuple[str, str, set[str]]]:
    """File, room and imported names of each module of root/helip, without files that begin with `without`."""
    for path in sorted((root / "helip").rglob("*.py")):
        file = path.relative_to(root).as_posix()
        if not file.startswith(without):
            module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            yield file, module.partition(".")[2].partition(".")[0], imported(path, module)


def room_violations(root: Path) -> list[str]:
    """Imports in root/helip that no rule allows, as `file imports name`."""
    found = []
    for file, room, names in library(root, JOINTS):
        below = FLOORS[: FLOORS.index(room)] if room in FLOORS else ("errors", *ASIDE.get(room, ()))
        allowed = tuple(f"helip.{name}" for name in (room, *below) if name not in APART.get(room, ()))
        found += [f"{file} imports {n}" for n in sorted(names) if inside(n, ("helip",)) and not inside(n, allowed)]
        if room == "artifacts":
            known = {"helip", *ARTIFACTS_MAY_USE, *sys.stdlib_module_names}
            found += [f"{file} imports {n}" for n in sorted(names) if n.split(".")[0] not in known]
    return found


def framework_violations(root: Path) -> list[str]:
    """Hydra outside the command line, and Lightning or Hydra in the rooms that are plain functions on arrays."""
    found = []
    for file, _, names in library(root, HYDRA_ALLOWED):
        forbidden = FRAMEWORKS if file.startswith(NO_FRAMEWORK) else {"hydra"}
        tops = {name.split(".")[0] for name in names}
        found += [f"{file} imports {top}" for top in sorted(tops & forbidden)]
    return found


def test_rooms_import_only_what_they_may() -> None:
    assert room_violations(ROOT) == []


def test_rooms_all_have_a_rule() -> None:
    rooms = {path.parent.name for path in (ROOT / "helip").glob("*/__init__.py")} - set(ASIDE)
    assert rooms <= set(FLOORS), f"add {sorted(rooms - set(FLOORS))} to FLOORS and to the table in CONTRIBUTING.md"


def test_frameworks_stay_in_their_place() -> None:
    assert framework_violations(ROOT) == []


def test_no_function_takes_a_config() -> None:
    assert taken(ROOT) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("helip/mining/miner.py", "from helip.training import losses", "helip.training.losses"),
        ("helip/mining/miner.py", "def f():\n    import helip.evaluation.suite", "helip.evaluation.suite"),
        ("helip/training/module.py", "from helip.tracking import run", "helip.tracking.run"),
        ("helip/training/module.py", "from helip.mining.miner import mine", "helip.mining.miner.mine"),
        ("helip/training/module.py", "from ..tracking import run", "helip.tracking.run"),
        ("helip/artifacts/shards.py", "from torch import nn", "torch.nn"),
        ("helip/errors.py", "from helip.data.batch import Batch", "helip.data.batch.Batch"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source + "\n")
    assert room_violations(tmp_path) == [f"{file} imports {complaint}"]


def test_allowed_imports_pass(tmp_path: Path) -> None:
    sources = {
        "helip/training/module.py": "from helip.data.batch import Batch\nfrom .losses import HelipLoss\n",
        "helip/cli/__init__.py": "import hydra\nfrom helip.mining import miner\n",
        "helip/artifacts/shards.py": "import json\nimport numpy as np\nfrom helip.errors import HelipError\n",
    }
    for file, source in sources.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(source)
    assert room_violations(tmp_path) == framework_violations(tmp_path) == taken(tmp_path) == []


def test_a_misplaced_framework_is_found(tmp_path: Path) -> None:
    path = tmp_path / "helip/training/losses.py"
    path.parent.mkdir(parents=True)
    path.write_text("import pytorch_lightning as pl\n")
    assert framework_violations(tmp_path) == ["helip/training/losses.py imports pytorch_lightning"]


TREE = "class SharedSettings: ...\nclass TrainingSettings(SharedSettings): ...\nEverything = TrainingSettings | None\n"


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("training/losses.py", "def make(c: DictConfig): ...", "make(c: DictConfig)"),
        ("training/losses.py", "def make(c: 'TrainingSettings'): ...", "make(c: TrainingSettings)"),
        ("data/order.py", "def make(*, how: 'Everything'): ...", "make(how: Everything)"),
        (
            "data/order.py",
            "class O:\n    def __init__(self, s: SharedSettings): ...",
            "__init__(s: SharedSettings)",
        ),
        ("programs/mine.py", "def mine(c: DictConfig): ...", "mine(c: DictConfig)"),
        (
            "programs/mine.py",
            "from helip.tracking.run import write\ndef mine(all_of_it: TrainingSettings): write(all_of_it)",
            "mine passes all_of_it to write",
        ),
        (
            "programs/mine.py",
            "from helip.tracking import run\nclass Session:\n    def __init__(self, s: TrainingSettings):\n"
            "        self.kept = s\n    def go(self): run.write(what=self.kept)",
            "go passes self.kept to run.write",
        ),
        (
            "cli/__init__.py",
            "from helip.programs.mine import mine\ndef task(c):\n    found: Any = O.to_container(c)\n    mine(found)",
            "task passes found to mine",
        ),
    ],
)
def test_a_whole_configuration_is_found_by_its_type(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    for name, text in {"programs/settings.py": TREE, file: source}.items():
        (tmp_path / "helip" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "helip" / name).write_text(text + "\n")
    assert taken(tmp_path) == [f"helip/{file} {complaint}"]


def test_a_program_may_take_its_tree_and_hand_on_parts(tmp_path: Path) -> None:
    (tmp_path / "helip/programs").mkdir(parents=True)
    (tmp_path / "helip/programs/settings.py").write_text(TREE)
    source = "from helip.data.order import Order\nfrom helip.typed import plain\n"
    source += "def train(s: TrainingSettings, cfg: int): Order(s.data, plain(s), cfg)\n"
    (tmp_path / "helip/programs/train.py").write_text(source)
    assert taken(tmp_path) == []


IMPORT_ARTIFACTS = """
import importlib, json, pkgutil, sys, time
start = time.process_time()
import helip.artifacts
for module in pkgutil.iter_modules(helip.artifacts.__path__):
    importlib.import_module(f"helip.artifacts.{module.name}")
seconds = time.process_time() - start
heavy = sorted({"torch", "pytorch_lightning", "hydra", "omegaconf", "open_clip"} & set(sys.modules))
print(json.dumps([seconds, heavy]))
"""


def test_artifacts_import_quickly_and_without_torch() -> None:
    """Processor time, the best of three new interpreters."""
    runs = []
    for _ in range(3):
        result = subprocess.run(
            [sys.executable, "-c", IMPORT_ARTIFACTS], cwd=ROOT, capture_output=True, text=True, check=True
        )
        runs.append(json.loads(result.stdout))
    assert runs[0][1] == []
    assert min(seconds for seconds, _ in runs) < 0.3


READS = {"mmap", "pread", "preadv", "readinto"}  # reads of a file by offset


def shard_openings(root: Path) -> list[str]:
    """Calls outside helip/storage that open a shard: `open` of something named so, tarfile for reading, mmap, pread."""
    found = []
    for path in sorted((root / "helip").rglob("*.py")):
        file = path.relative_to(root).as_posix()
        if file.startswith(("helip/storage/", "helip/embedded/", "helip/formats/")):  # formats: sources to be packed
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called, given = ast.unparse(node.func), ast.unparse(node)
                name = called.rpartition(".")[2]
                opens = name in ("open", "read_bytes") and ("shard" in given or ".tar" in given)
                opens |= called in ("tarfile.open", "tarfile.TarFile", "os.open") or name in READS
                found += [f"{file}:{node.lineno} {called}"] if opens else []
    return found


def test_only_the_storage_opens_shards(tmp_path: Path) -> None:
    assert shard_openings(ROOT) == []
    for call in ("open(self.shards[0], 'rb')", "os.open(path, 0)", "shard.read_bytes()", "tarfile.open(path)"):
        (tmp_path / "helip/data").mkdir(parents=True, exist_ok=True)
        (tmp_path / "helip/data/reader.py").write_text(f"{call}\n")
        assert len(shard_openings(tmp_path)) == 1, call
