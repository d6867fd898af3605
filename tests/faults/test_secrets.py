"""No secret of the environment in a run folder or an artefact, not even one that a setting contains."""

from pathlib import Path

import pytest

from helip.artifacts.atomic import read_json
from helip.secrets import override_without_secrets
from tests.programs.conftest import World
from tests.storage.server import serving

SECRETS = {
    "WANDB_API_KEY": "wandb-0123456789abcdef",
    "AWS_SECRET_ACCESS_KEY": "aws/secret+0123456789",
    "HF_TOKEN": "hf_0123456789abcdef",
    "PGPASSWORD": "pg-0123456789abcdef",
}


def test_no_secret_is_written_down(make_world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    world: World = make_world(tmp_path)
    quoted = ["logger=wandb", "dataset.label='${oc.env:HF_TOKEN} ${oc.env:PGPASSWORD}'"]
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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dataset.path=s3://KEY:SECRET@b/{0..3}.tar?X-Amz-Signature=q", "dataset.path=s3://b/{0..3}.tar?***"),
        (
            "+paths.storages.x={_target_: a.B, secret: 'x y', key: q}",
            "+paths.storages.x={_target_: a.B, secret: ***, key: ***}",
        ),
        ("api_key=q,epochs=5", "api_key=***,epochs=5"),
        ("token: ${oc.env:HF_TOKEN}", "token: ${oc.env:HF_TOKEN}"),
        ("helip.topk=5", "helip.topk=5"),
    ],
)
def test_overrides_without_secrets(text: str, shown: str) -> None:
    assert override_without_secrets(text) == shown


def test_credentials_of_remote_shards_are_written_nowhere(make_world, tmp_path: Path) -> None:
    """Credentials in the address, the signature of its query, and options of a storage are in no file."""
    hidden = ["hunter-user", "hunter-password", "hunter-signature", "hunter-secret"]
    world: World = make_world(tmp_path)
    with serving(world.shards) as server:
        address = server.url.replace("http://", "http://hunter-user:hunter-password@")
        signed = f"dataset.path='{address}/{{00000..00003}}.tar?X-Amz-Signature=hunter-signature'"
        storage = "+paths.storages.far={_target_: helip.storage.remote.Remote, secret: hunter-secret}"
        sweep = f"hydra.sweep.dir={tmp_path}/sweep"
        result = world.run("mine", "-m", signed, storage, f"paths.cache={tmp_path}/cache", "helip.topk=5,999", sweep)
        wrong = world.run("mine", signed.replace("00003", "00009"), storage, f"paths.cache={tmp_path}/cache")
    assert [read_json(tmp_path / f"sweep/{n}/status.json")["status"] for n in (0, 1)] == ["finished", "failed"], (
        result.err
    )
    assert "7 of the 10 shards" in wrong.err or "6 of the 10 shards" in wrong.err
    assert (tmp_path / "sweep/0/.hydra/overrides.yaml").is_file() and (tmp_path / "sweep/multirun.yaml").is_file()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [(path.name, text) for path in files for text in hidden if text.encode() in path.read_bytes()] == []
    assert not [text for one in (result, wrong) for text in hidden if text in one.out + one.err]
