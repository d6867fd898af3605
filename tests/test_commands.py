"""Every command line of the README and the documents composes, is parsed, or exists."""

import argparse
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
import open_clip
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from helip.cli import register_resolvers
from helip.formats.convert import find
from helip.overrides import readable
from helip.report.__main__ import main as report

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += sorted((ROOT / "experiments").rglob("*.md"))
COMMAND = re.compile(r"(?:^[ \t]+|^|`|\$ )((?:python|helip|pytest)[ ](?:\\\n|[^`\n])+)", re.MULTILINE)
PROGRAM = re.compile(r"(?:python |helip )(mine|train|evaluate)(?:\.py)?(?: |$)")
THEIRS = (
    "open_clip_train.main",
    "training.main",
    "pack.py",
    "hard_pair_mining.py",
    "wbs_to_csv.py",
)  # of other programs
PLACEHOLDER = re.compile(r"(?:.*/)?[A-Z][A-Z_0-9]*(?:\.\w+)?$")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Document and words of each command, without comments, pipes, dots and a shell's variables."""
    for path in DOCUMENTS:
        for match in COMMAND.finditer(path.read_text(encoding="utf-8")):
            line = re.split(r"\s#\s|\s\|\s|\s>\s", match[1].replace("\\\n", " "))[0].strip()
            if line.startswith("python -c"):
                continue
            words = [word for word in shlex.split(line) if word != "..." and not re.fullmatch(r"\$[A-Z]+", word)]
            yield path.relative_to(ROOT).as_posix(), words


ALL = list({tuple(words): (name, words) for name, words in commands()}.values())
PROGRAMS = [(name, words) for name, words in ALL if PROGRAM.match(" ".join(words))]
OTHERS = [(name, words) for name, words in ALL if (name, words) not in PROGRAMS]


def of(kind: list[tuple[str, list[str]]]) -> Any:
    return [pytest.param(words, id=f"{name}: {' '.join(words)[:90]}") for name, words in kind]


def test_there_are_commands() -> None:
    assert len(PROGRAMS) > 40 and len(OTHERS) > 30


def jobs(words: list[str]) -> list[list[str]]:
    """The overrides of a command; of a multirun those of its first job, and one more with the last choice of each."""
    given = [word for word in words if not word.startswith("--")]
    several = "-m" in given
    parser = OverridesParser.create()
    choices: list[list[str]] = []
    for override in parser.parse_overrides(
        readable([word for word in given if word != "-m" and "launcher" not in word])
    ):
        key = override.input_line.partition("=")[0] if override.input_line else ""
        if several and override.is_sweep_override():
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            assert not override.is_sweep_override(), f"{override.input_line} needs -m"
            choices.append([override.input_line or ""])
    first = [one[0] for one in choices]
    return [first] + [
        [*first[:place], other, *first[place + 1 :]] for place, one in enumerate(choices) for other in one[1:][-1:]
    ]


@cache
def composed(program: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = hydra.compose(program, list(overrides))
    missing = {"dataset.path": "???"}
    assert OmegaConf.missing_keys(config) <= missing.keys()
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


@pytest.mark.parametrize("words", of(PROGRAMS))
def test_a_program_composes(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    register_resolvers()
    monkeypatch.setenv("HELIP_DATA", "/data")
    program = words[1].removesuffix(".py")
    for overrides in jobs(words[2:]):
        model = composed(program, tuple(overrides))["model"]
        name, tag = model["name"], model["pretrained"]
        if tag is not None and not Path(tag).suffix and not PLACEHOLDER.match(tag) and not name.startswith("hf"):
            assert tag in open_clip.list_pretrained_tags_by_model(name), f"{name} has no tag {tag}"


def options_of(source: Path) -> set[str]:
    return set(re.findall(r"\"(--[\w-]+)\"", source.read_text(encoding="utf-8")))


@pytest.mark.parametrize("words", of(OTHERS))
def test_another_command_is_parsed_or_found(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "pytest":
        assert [word for word in words if word.startswith("tests/") and not (ROOT / word).exists()] == []
    elif words[:2] == ["helip", "report"]:
        monkeypatch.chdir(tmp_path)
        assert report([word.removesuffix("...").strip("[]") for word in words[2:]]) == 1  # of folders that are not here
        assert "error:" in capsys.readouterr().err
    elif words[:2] == ["helip", "convert"]:
        if len(words) > 2:
            parser = argparse.ArgumentParser()
            find(words[2]).add_arguments(parser)
            if words[3:] and not words[3].startswith("--"):
                parser.parse_args(words[3:])
            else:  # an option that the text mentions
                assert all(word in parser.format_help() for word in words[3:] if word.startswith("--"))
    elif words[0] == "python" and len(words) > 1:
        named = words[2] if words[1] == "-m" else words[1]
        if named in THEIRS or named == "...":
            return
        if words[1] == "-m":
            found = find_spec(named)
            assert found is not None and found.origin is not None
            source = Path(found.origin)
            source = source if source.stem != "__init__" else source.with_name("__main__.py")
        else:
            source = ROOT / named
        assert source.is_file()
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options_of(source)
    else:
        assert words[:1] == ["helip"] and len(words) > 1 and words[1] in ("mine", "train", "evaluate", "|"), words
