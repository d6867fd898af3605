"""Every dotted setting that a document, a YAML or a string of the code names exists in the tree of settings."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_origin, get_type_hints

import pytest
import pytorch_lightning as pl
from omegaconf import OmegaConf

from helip.config import TREES
from helip.data.plans.graph import GraphSettings
from helip.errors import HelipError
from helip.mining.settings import SearchSettings
from helip.typed import settings_of

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [path for folder in ("experiments", "examples") for path in sorted((ROOT / folder).rglob("*.md"))]
CONFIGS = sorted((ROOT / "conf").rglob("*.yaml"))
SOURCES = sorted((ROOT / "helip").rglob("*.py"))
DOTTED = re.compile(r"(?<![\w./\-{}\[])[a-z_]+(?:\.[a-z_]\w*)+")
FILE = re.compile(r"\.(?:py|md|yaml|csv|pt|json|jsonl|html|npy|log|ckpt|png)$")
# Names that are no settings: an attribute of Lightning's Trainer, the local variable of a docstring, an example's
# module, and two settings of older checkpoints.
OTHERS = {"trainer.callback_metrics", "data.steps", "mine.my_format", "optim.beta1", "optim.beta2"}


def named(prefix: str, node: Mapping[str, Any]) -> Iterator[str]:
    """The dotted names in a mapping of mappings, groups included."""
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from named(f"{prefix}{key}.", value)


def declared(prefix: str, settings: type) -> Iterator[tuple[str, bool]]:
    """Each name of a class of settings, and whether any name may follow it; without those for Python only."""
    hints = get_type_hints(settings)
    for one in fields(settings):  # type: ignore[arg-type]
        if one.metadata.get("rest"):
            yield from ((f"{prefix}{name}", False) for name in inspect.signature(pl.Trainer).parameters)
        elif not one.metadata.get("inner"):
            yield f"{prefix}{one.name}", get_origin(hints[one.name]) is dict
            if (inner := settings_of(hints[one.name])) is not None:
                yield from declared(f"{prefix}{one.name}.", inner)


@cache
def tree() -> tuple[frozenset[str], frozenset[str]]:
    """Names of all settings, and those of them below which the user chooses the names."""
    typed = {name: free for settings in TREES.values() for name, free in declared("", settings)}
    known = set(typed)
    for path in CONFIGS:
        package = re.search(r"^# @package (\S+)", path.read_text("utf-8"), re.MULTILINE)
        group = path.parent.name if path.parent.name != "conf" else "_global_"
        at = package[1] if package else group
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        assert isinstance(loaded, dict)
        known |= set(named("" if at == "_global_" else f"{at}.", {str(key): value for key, value in loaded.items()}))
    return frozenset(known), frozenset(name for name, free in typed.items() if free)


@cache
def exists(name: str) -> bool:
    known, free = tree()
    if name in known or name in OTHERS or any(name.startswith(f"{one}.") for one in free):
        return True
    try:
        return name.startswith("helip.") and bool(resolve_name(name))
    except (ImportError, AttributeError):
        return False


@cache
def groups() -> frozenset[str]:
    """The first parts of setting names."""
    return frozenset(name.partition(".")[0] for name in tree()[0]) - {"hydra", "defaults"}


def unknown(text: str) -> list[str]:
    """The dotted names in a text that begin like a setting but are none."""
    found = (match[0] for match in DOTTED.finditer(text))
    return [one for one in found if one.partition(".")[0] in groups() and not FILE.search(one) and not exists(one)]


def test_the_tree_tells_settings_from_other_names() -> None:
    text = (
        "`search.depth`, helip.plan, model.arguments.force_patch_dropout, trainer.accumulate_grad_batches, helip.typed"
    )
    assert unknown(text) == [] and unknown("data.md and train.py, +callbacks.mine.x") == []
    wrong = ["search.block_rows", "search.memory", "search.skip_first", "helip.top_k", "trainer.gpu_count"]
    assert (
        unknown("set search.block_rows, `search.memory`, search.skip_first; helip.top_k=3 trainer.gpu_count") == wrong
    )


@pytest.mark.parametrize("path", [*DOCUMENTS, *CONFIGS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_and_yaml_name_settings_that_exist(path: Path) -> None:
    assert unknown(path.read_text(encoding="utf-8")) == []


def test_messages_name_settings_that_exist() -> None:
    """All strings of the library: messages, warnings, help and docstrings."""
    wrong = []
    for path in SOURCES:
        strings = (
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        wrong += [f"{path.relative_to(ROOT)}: {name}" for text in strings for name in unknown(text)]
    assert wrong == []


@pytest.mark.parametrize("settings", [lambda: SearchSettings(skip_first=-1), lambda: GraphSettings(5, skip_first=-1)])
def test_a_value_out_of_range_is_reported_by_its_setting(settings: Any) -> None:
    with pytest.raises(HelipError, match=r"helip\.skip_first.*-1.*at least 0"):
        settings()


@pytest.mark.parametrize("argument", ["block_rows", "pool_redraw"])
def test_an_argument_of_python_alone_is_reported_by_its_own_name(argument: str) -> None:
    with pytest.raises(HelipError, match=rf"^{argument} is -1.*at least 0"):
        SearchSettings(**{argument: -1})  # type: ignore[arg-type]
