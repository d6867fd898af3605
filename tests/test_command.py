"""The command `helip` and python -m helip: its programs, and formats by their modules."""

import subprocess
import sys
from pathlib import Path

import pytest

from helip.cli import ROOT
from helip.formats import convert


def helip(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helip", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_programs_are_named_and_an_unknown_one_is_a_sentence() -> None:
    for arguments in ((), ("--help",)):
        said = helip(*arguments)
        assert said.returncode == 0 and said.stdout.lstrip().startswith("helip mine | train | evaluate")
    said = helip("bake")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "error: helip has no bake: there are mine, train, evaluate, report, convert\n"


def test_a_program_takes_settings_and_words_for_parts() -> None:
    said = helip("train", "helip.schedule=anneal", "train.loss=siglip", "--cfg", "job")
    assert said.returncode == 0, said.stderr
    assert "_target_: helip.data.schedules.Anneal" in said.stdout
    assert "_target_: helip.training.losses.HelipSigLipLoss" in said.stdout
    said = helip("train", "helip.schedule=best")
    assert said.stderr == "error: there is no helip.schedule=best; there are anneal, score, uniform\n"


def test_a_users_own_part_is_chosen_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "schedule").mkdir()
    (tmp_path / "schedule/mine.yaml").write_text("# @package helip.schedule\n_target_: my_rules.Late\n")
    said = helip("train", "--config-dir", str(tmp_path), "helip.schedule=mine", "--cfg", "job")
    assert said.returncode == 0 and "_target_: my_rules.Late" in said.stdout, said.stderr


def test_formats_are_modules_one_of_them_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats/own.py").write_text(
        '"""Nothing, as nothing."""\n'
        "def add_arguments(parser): parser.add_argument('times', type=int)\n"
        "def run(arguments): return ['nothing'] * arguments.times\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    convert.main(["formats.own", "2"])
    assert capsys.readouterr().out == "nothing\nnothing\n"
    convert.main([])
    said = capsys.readouterr().out
    assert "  from-released " in said and "options" not in said
    with pytest.raises(SystemExit, match=r"^error: helip convert has no places: name one of .*from-released, "):
        convert.main(["places"])  # a module that is no command
