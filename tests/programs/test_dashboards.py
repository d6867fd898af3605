"""W&B offline: the records of the three programs in the run folder; and runs without login or network."""

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from rich.console import Console
from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

from helip.errors import HelipError
from helip.tracking.dashboards import WandbSettings, choose_mode, start_dashboard, sweep_of
from tests.programs.conftest import Result, World

SECRET = "hunter2-hunter2-hunter2"
BLOCK, HEADER = 1 << 15, 7


def records(folder: Path) -> list[Record]:
    """The records of the only W&B run of a run folder: a log of LevelDB's format after seven bytes of W&B's own.

    Only the Go part of wandb 0.31 reads these files.
    """
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    found, parts, at = [], b"", HEADER
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # the rest of a block is padding
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(Record.FromString(parts))
            parts = b""
    return found


def config_of(found: list[Record]) -> dict[str, Any]:
    items = [item for record in found if record.HasField("run") for item in record.run.config.update]
    items += [item for record in found if record.HasField("config") for item in record.config.update]
    return {item.key: json.loads(item.value_json) for item in items if item.key}


def history(found: list[Record]) -> list[dict[str, Any]]:
    rows = [record.history.item for record in found if record.HasField("history")]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]


def summary(found: list[Record]) -> dict[str, Any]:
    items = [item for record in found if record.HasField("summary") for item in record.summary.update]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def artifacts(found: list[Record]) -> list[Any]:
    requests = [record.request.log_artifact.artifact for record in found if record.request.HasField("log_artifact")]
    return requests + [record.artifact for record in found if record.HasField("artifact")]


@pytest.fixture(scope="module")
def runs(world: World, mined: Result) -> Iterator[dict[str, Result]]:
    """mine, train and evaluate as one study, with a secret in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_API_KEY", SECRET)
        patch.setenv("MY_HF_TOKEN", SECRET)
        study = ("logger=wandb", "logger.group=a study", "logger.wandb.project=p")
        found = {"mine": world.run("mine", *study)}
        steps = ("train.max_steps=2", "train.log_every=1", "train.evaluate=end", "train.skip_finished=false")
        found["train"] = world.run("train", *study, *steps, "helip.topk=4", f"logger.wandb.tags=[{SECRET}]")
        found["evaluate"] = world.run("evaluate", *study, f"checkpoint={found['train'].folder}")
        wandb.teardown()  # as at the end of a process: now all records are on disk
        yield found


def test_runs_of_a_study_are_linked(runs: dict[str, Result]) -> None:
    for name, result in runs.items():
        assert result.status == 0, result.err
        (run,) = [record.run for record in records(result.folder) if record.HasField("run")]
        assert (run.project, run.run_group, run.job_type) == ("p", "a study", name)


def test_a_panel_can_draw_a_metric_against_k(runs: dict[str, Result]) -> None:
    found = records(runs["train"].folder)
    config, last = config_of(found), summary(found)
    assert config["helip"]["topk"] == 4 and config["helip"]["score"] == "joint" and config["seed"] == 0
    results = json.loads((runs["train"].folder / "results.json").read_text())["metrics"]
    metric = "val/t2i_recall@5"
    assert last[f"before/{metric}"] == results["before"][metric]
    assert last[f"gain/{metric}"] == pytest.approx(results["after"][metric] - results["before"][metric])


def test_history_begins_before_training(runs: dict[str, Result]) -> None:
    found = records(runs["train"].folder)
    rows, metric = history(found), "val/t2i_recall@5"
    results = json.loads((runs["train"].folder / "results.json").read_text())["metrics"]
    measured = [(row["trainer/global_step"], row[metric]) for row in rows if metric in row]
    assert measured == [(0, results["before"][metric]), (2, results["after"][metric])]
    assert len([row for row in rows if "train/loss" in row]) == 2
    evaluated = history(records(runs["evaluate"].folder))
    assert [row[metric] for row in evaluated if metric in row] == [pytest.approx(results["after"][metric])]


def test_mining_logs_its_pairs_with_pictures(runs: dict[str, Result]) -> None:
    folder = runs["mine"].folder
    found = records(folder)
    (logged,) = [row for row in history(found) if "hard_pairs/path" in row]
    (run,) = folder.glob("wandb/offline-run-*")
    (stored,) = [one for one in artifacts(found) if one.type == "run_table"]
    files = {entry.path: Path(entry.local_path) for entry in stored.manifest.contents}
    table = json.loads(files["hard_pairs.table.json"].read_text())
    assert logged["hard_pairs/nrows"] == len(table["data"]) > 40
    place = {name: number for number, name in enumerate(table["columns"])}
    line = table["data"][0]
    assert line[place["section"]] == "hardness" and line[place["target caption"]].startswith("picture number")
    assert 0 < line[place["joint"]] <= 1 and {row[place["section"]] for row in table["data"]} >= {"hubs", "suspicion"}
    picture = files[line[place["target"]]["path"]]
    assert picture.is_relative_to(folder) and picture.read_bytes().startswith(b"\x89PNG")
    assert list((run / "files/media/html").rglob("*.html"))


def test_the_index_is_made_by_mine_and_used_by_train(runs: dict[str, Result]) -> None:
    (made,) = [one for one in artifacts(records(runs["mine"].folder)) if one.type == "hard_pairs"]
    used = config_of(records(runs["train"].folder))["uses"]
    assert made.name == used["artifact"] and made.name.startswith("hard-pairs-folder-joint-")
    assert made.digest == used["digest"] and not made.use_after_commit  # the same version
    names = {entry.path for entry in made.manifest.contents}
    assert {"meta.json", "rows.npy", "scores.npy", "scores_image.npy", "scores_text.npy"} <= names


def test_no_secret_is_written(runs: dict[str, Result]) -> None:
    for result in runs.values():
        written = [path for path in result.folder.rglob("*") if path.is_file() and ".hydra" not in path.parts]
        assert any(path.suffix == ".wandb" for path in written)
        assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def start(folder: Path, **changes: Any) -> tuple[Any, str]:
    out = io.StringIO()
    settings = WandbSettings("p", **changes)
    board = start_dashboard(settings, None, "train", folder, {"a": 1}, Console(file=out, width=500))
    mode = board.run.settings.mode
    board.run.finish()
    return mode, out.getvalue()


@pytest.fixture
def nobody(monkeypatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without login, whose server is a closed port."""
    wandb.teardown()  # it keeps the environment of its first use
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield tmp_path
    wandb.teardown()


def test_without_login_or_network_the_run_is_kept_on_disk(nobody: Path, monkeypatch) -> None:
    mode, said = start(nobody / "a")
    assert mode == "offline" and "`wandb login`" in said and f"wandb sync {nobody}/a/wandb" in said
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    mode, said = start(nobody / "b")
    assert mode == "offline" and "no connection to 127.0.0.1" in said
    assert list((nobody / "b").glob("wandb/offline-run-*/*.wandb"))


def test_a_login_in_netrc_is_found(nobody: Path, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", f"http://{host}")
        assert choose_mode()[0] == "offline"
        (nobody / "netrc").write_text(f"machine {host} login user password {'a' * 40}\n")
        (nobody / "netrc").chmod(0o600)
        assert choose_mode() == ("online", "")
    assert "no connection" in choose_mode()[1]
    (nobody / "netrc").write_text("machine machine machine")
    assert "`wandb login`" in choose_mode()[1]


def test_what_wandb_refuses_is_one_sentence(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(HelipError, match=r"logger\.wandb"):
        start_dashboard(WandbSettings("a/b:c"), None, "train", tmp_path, {}, Console(file=io.StringIO()))
    assert wandb.run is None


def test_jobs_of_a_sweep_share_its_name(tmp_path: Path) -> None:
    job = tmp_path / "train-sweep" / "2026-11-24" / "3"
    job.mkdir(parents=True)
    assert sweep_of(job) is None
    (job.parent / "multirun.yaml").touch()
    assert sweep_of(job) == "train-sweep 2026-11-24"
