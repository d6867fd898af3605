"""No secret of the environment in a run folder or an artefact, not even one that a setting quotes."""

from pathlib import Path

import pytest

from tests.programs.conftest import World

SECRETS = {
    "WANDB_API_KEY": "wandb-0123456789abcdef",
    "AWS_SECRET_ACCESS_KEY": "aws/secret+0123456789",
    "HF_TOKEN": "hf_0123456789abcdef",
    "PGPASSWORD": "pg-0123456789abcdef",
}


def test_no_secret_is_written_down(make_world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    world: World = make_world(tmp_path)
    quoted = ["dataset.label='${oc.env:HF_TOKEN} ${oc.env:PGPASSWORD}'"]
    result = world.run("train", *quoted, "train.max_steps=2", "dataset.evaluators=[]")
    assert result.status == 0, result.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    leaked = [
        (path.name, name) for path in files for name, value in SECRETS.items() if value.encode() in path.read_bytes()
    ]
    assert leaked == []
    assert "***" in (result.folder / "config.json").read_text()
    assert not any(value in result.out + result.err for value in SECRETS.values())
