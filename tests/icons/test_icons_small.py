"""The small model of the icons, and what is said of its checkpoints."""

import json
import math
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from experiments.icons import saturation
from helip.models.clip import Clip, ModelSpec, create_clip
from helip.training.saturation import kind_of
from tests.programs.conftest import compose

ROOT = Path(__file__).parents[2]
BASES = ROOT / "experiments/icons"
LIMIT = 10_000_000  # bytes of a float16 checkpoint


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.manual_seed(0)
    return create_clip(ModelSpec("icons_small", None))


def test_an_image_in_training_does_not_depend_on_its_batch(clip: Clip) -> None:
    pictures = torch.rand(4, 3, 32, 32)
    clip.model.train()
    assert not [name for name, module in clip.model.named_modules() if "BatchNorm" in type(module).__name__]
    with torch.no_grad():
        together, alone = (clip.model.encode_image(some) for some in (pictures, pictures[:1]))  # type: ignore[operator]
    assert torch.allclose(together[:1], alone, atol=1e-5)


def test_it_fits_in_float16_and_every_part_is_trained(clip: Clip) -> None:
    assert 2 * sum(tensor.numel() for tensor in clip.model.state_dict().values()) < LIMIT
    tokens = clip.tokenize(["arrow left circle outline", "heart"])
    assert tokens.shape == (2, 16)
    out = clip.model(torch.rand(2, 3, 32, 32), tokens)
    assert out["image_features"].shape == out["text_features"].shape == (2, 128)
    (out["logit_scale"] * out["image_features"] @ out["text_features"].T).diagonal().sum().backward()
    assert [name for name, value in clip.model.named_parameters() if value.grad is None] == []


def test_sizes_of_the_dataset_share_all_but_the_training_shards() -> None:
    datasets = {name: compose("train", f"dataset={name}")["dataset"] for name in ("icons", "icons_2k", "icons_120k")}
    first = {"icons": "{00000..00007}.tar", "icons_2k": "00000.tar", "icons_120k": "{00000..00047}.tar"}
    for name, dataset in datasets.items():
        assert [Path(path).name for path in dataset["path"]] == [first[name], "{00048..00050}.tar"]
        assert {**dataset, "name": "icons", "path": datasets["icons"]["path"]} == datasets["icons"]
        assert dataset["name"] == name and compose("mine", f"dataset={name}")["model"]["name"] == "icons_small"
    base = compose("train", "experiment=icons_base", "dataset=icons_120k")
    assert base["model"]["pretrained"] is None and base["dataset"] == datasets["icons_120k"]
    assert base["helip"]["score"] == "off"


def test_loss_on_random_batches_is_clips() -> None:
    rng = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(40, 8, generator=rng), dim=1) for _ in range(2))
    identity = torch.arange(40)[:, None].repeat(1, 3)
    found = saturation.losses(image, text, identity, torch.tensor(10.0), batch=6, batches=3, seed=5)
    draws = torch.Generator().manual_seed(5)
    for value in found:
        rows = torch.randperm(40, generator=draws)[:6]
        logits = 10 * image[rows] @ text[rows].T
        expected = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
        assert value == pytest.approx(expected.item(), rel=1e-5)
    assert saturation.losses(image, text, identity, torch.tensor(0.0), 6, 1) == pytest.approx([math.log(6)])


def test_features_are_those_of_the_rows(clip: Clip, tmp_path: Path) -> None:
    colours, path = ["red", "lime", "blue"], tmp_path / "00000.tar"
    with tarfile.open(path, "w") as tar:
        for number, colour in enumerate(colours):
            picture = BytesIO()
            Image.new("RGB", (32, 32), colour).save(picture, "PNG")
            for suffix, data in (("png", picture.getvalue()), ("txt", colour.encode())):
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, BytesIO(data))
    image, text, identity = saturation.features(clip, [path])
    assert image.shape == text.shape == (3, 128) and identity[:, 0].tolist() == [0, 1, 2]
    assert len(np.unique(identity[:, 1])) == len(np.unique(identity[:, 2])) == 3
    with torch.no_grad():
        alone = clip.model.encode_text(clip.tokenize(["lime"]), normalize=True)  # type: ignore[operator]
    assert torch.allclose(text[1], alone[0], atol=1e-5)


def test_stored_checkpoints_load_and_the_table_says_what_was_measured() -> None:
    results = json.loads((BASES / "saturation.json").read_text(encoding="utf-8"))
    table = (ROOT / "experiments/icons/README.md").read_text(encoding="utf-8")
    names = {path.name for path in BASES.glob("*.pt")}
    assert {row["checkpoint"] for row in results} == names and len(names) == 4
    for row in results:
        assert row["kind"] == kind_of(row["train"]["share"], row["val"]["share"])
        if row["batch"] == 128:
            shares = [f"{row[part][key]:.2f}" for part in ("train", "val") for key in ("loss", "share")]
            line = next(line for line in table.splitlines() if line.startswith(f"| `{row['checkpoint']}` |"))
            assert " | ".join([*shares, row["kind"]]) in line
    for name in names:
        assert (BASES / name).stat().st_size < LIMIT
        create_clip(ModelSpec("icons_small", str(BASES / name)))
