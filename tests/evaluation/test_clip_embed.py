"""Evaluators on a real model compared with open_clip's functions, and on two gloo processes with one."""

import io
import json
import multiprocessing
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import open_clip
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helip.artifacts.datasets import DatasetSpec
from helip.artifacts.shards import ShardIndex
from helip.evaluation.clip_embed import ClipEmbed, WholeBatches, inside_fit_drive
from helip.evaluation.results import clip_benchmark_records
from helip.evaluation.samples import Sampled, values_of
from helip.evaluation.suite import build_evaluators, measure_all
from helip.models.clip import Clip, ModelSpec, create_clip
from tests.evaluation.wds import CAPTIONS, LABELS, NAMES, TEMPLATES, encoded, write_both
from tests.programs.conftest import MODEL, model_weights, shards
from tests.samples import sample, write_tar

__all__ = ["model_weights", "shards"]


@pytest.fixture(scope="module")
def clip(model_weights: Path) -> Clip:
    made = create_clip(ModelSpec(MODEL, str(model_weights)))
    made.model.eval()
    return made


@pytest.fixture(scope="module", autouse=True)
def short_probes():
    """Fewer iterations, because weak strengths use them all, here and in the forked ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("helip.evaluation.probe.ITERATIONS", 15)
        yield


class Numbers(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, number: int) -> tuple[int, int]:
        return number, number


class Signalled(pl.LightningModule):
    """Sends SIGTERM, as a scheduler does, to every loader process at each of the first batches."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def predict_step(self, batch: list[torch.Tensor], batch_idx: int = 0) -> None:
        if batch_idx < 3:
            for process in multiprocessing.active_children():
                process.terminate()
            time.sleep(0.1)
        self.seen += batch[0].tolist()


def test_an_evaluation_inside_a_fit_outlives_sigterm() -> None:
    """The fit then writes its checkpoint."""
    module, trainer = Signalled(), pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    inside_fit_drive(trainer)(module, DataLoader(Numbers(), 2, num_workers=1))
    assert module.seen == list(range(60))


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> list[dict[str, Any]]:
    return write_both(tmp_path_factory.mktemp("sets"))


def measure(clip: Clip, shards: Path, lines: list[dict[str, Any]], scratch: Path, rank: int = 0, world: int = 1):
    """All metrics with their samples, in batches of four."""
    trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        precision_plugin=SimpleNamespace(predict_step_context=torch.inference_mode),
    )
    dataset = DatasetSpec("toy", str(shards), {"train": "0:3", "val": "3:4"})
    index = ShardIndex.build(sorted(shards.glob("*.tar")))
    drive = inside_fit_drive(cast(Any, trainer))
    embed = ClipEmbed(clip, dataset, index, drive, scratch, torch.device("cpu"), rank, "txt", 4, 0)
    return measure_all(build_evaluators(lines), embed)


@pytest.fixture(scope="module")
def alone(clip: Clip, shards: Path, lines: list[dict[str, Any]], tmp_path_factory) -> dict[str, Sampled]:
    return measure(clip, shards, lines, tmp_path_factory.mktemp("alone"))


def embedded(clip: Clip, count: int) -> torch.Tensor:
    """(n, d) by open_clip itself, one picture at a time."""
    pictures = [Image.open(io.BytesIO(encoded(n, "png"))).convert("RGB") for n in range(count)]
    with torch.no_grad():
        model = cast(Any, clip.model)
        return torch.cat([model.encode_image(clip.eval_transform(one)[None], normalize=True) for one in pictures])


def test_zero_shot_equals_open_clips_own_functions(clip: Clip, alone: dict[str, Sampled]) -> None:
    prompts = [lambda name, line=line: line.format(c=name) for line in TEMPLATES]
    weights = open_clip.build_zero_shot_classifier(clip.model, clip.tokenize, NAMES, prompts)  # type: ignore[arg-type]
    logits = 100.0 * embedded(clip, len(LABELS)) @ weights
    label = torch.tensor(LABELS)
    for key, k in (("top1", 1), ("top5", 5)):
        expected = (logits.topk(k).indices == label[:, None]).any(1)
        assert np.array_equal(alone[f"fine/zeroshot_{key}"].values, expected.numpy())
    assert 0 < alone["fine/zeroshot_top1"].value < alone["fine/zeroshot_top5"].value < 1


def test_retrieval_equals_clip_benchmarks_definition(clip: Clip, alone: dict[str, Sampled]) -> None:
    """recall@k by a matrix of positives: whether any right item is among the first k."""
    owner = [image for image, several in enumerate(CAPTIONS) for _ in several]
    with torch.no_grad():
        tokens = clip.tokenize([caption for several in CAPTIONS for caption in several])
        text = cast(Any, clip.model).encode_text(tokens, normalize=True)
    scores = text @ embedded(clip, len(CAPTIONS)).T  # (texts, images)
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(owner)), owner] = True
    for k in (1, 5):
        images = torch.stack([positive[i, scores[i].topk(k).indices].any() for i in range(len(owner))])
        texts = torch.stack([positive[scores[:, i].topk(k).indices, i].any() for i in range(len(CAPTIONS))])
        assert np.array_equal(alone[f"found/t2i_recall@{k}"].values, images.numpy())
        assert np.array_equal(alone[f"found/i2t_recall@{k}"].values, texts.numpy())
    assert len(alone["val/i2t_recall@1"].values) == 8 and len(alone["val/t2i_recall@1"].values) == 16


@pytest.mark.slow
def test_clip_benchmark_itself_reads_the_directories_and_agrees(
    clip: Clip, lines: list[dict[str, Any]], alone: dict[str, Sampled]
) -> None:
    """Runs if clip-benchmark (1.6.2) is installed: pip install --no-deps clip-benchmark."""
    builder = pytest.importorskip("clip_benchmark.datasets.builder")
    from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval  # type: ignore[import-not-found]

    model = cast(Any, clip.model)
    fine = builder.build_wds_dataset("fine", clip.eval_transform, "test", lines[0]["path"])
    assert (fine.classes, fine.templates) == (NAMES, TEMPLATES)
    weights = zeroshot_classification.zero_shot_classifier(model, clip.tokenize, NAMES, TEMPLATES, "cpu", amp=False)
    batches = torch.utils.data.DataLoader(fine.batched(4), batch_size=None)
    logits, label = zeroshot_classification.run_classification(model, weights, batches, "cpu", amp=False)
    for key, k in (("top1", 1), ("top5", 5)):
        assert np.array_equal(alone[f"fine/zeroshot_{key}"].values, (logits.topk(k).indices == label[:, None]).any(1))

    found = builder.build_wds_dataset("found", clip.eval_transform, "test", lines[2]["path"])
    batches = torch.utils.data.DataLoader(found.batched(4), batch_size=None)
    theirs = zeroshot_retrieval.evaluate(model, batches, clip.tokenize, "cpu", amp=False, recall_k_list=[1, 5])
    ours = clip_benchmark_records(values_of(alone), dataset="toy", model="m", pretrained="p")
    (record,) = (one["metrics"] for one in ours if one["dataset"] == "toy/found")
    assert theirs == pytest.approx({name: record[name] for name in theirs}) and len(theirs) == 4


def rank_of_two(rank: int, store: Path, *arguments: Any) -> None:
    """The work of one of two processes."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = measure(*arguments, rank=rank, world=2)
    values: Any = {name.replace("/", ":"): sampled.values for name, sampled in found.items()}
    np.savez(f"{store}-{rank}.npz", **values)
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one_exactly(
    clip: Clip, shards: Path, lines: list[dict[str, Any]], alone: dict[str, Sampled], tmp_path: Path
) -> None:
    """For every sample of every metric: ranks get whole batches, so embeddings are equal to the bit."""
    fork = multiprocessing.get_context("fork")  # torch is imported already: 20 s less than a fresh interpreter
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    arguments = (clip, shards, lines, scratch)
    ranks = [fork.Process(target=rank_of_two, args=(rank, store, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0]
    for rank in range(2):
        with np.load(f"{store}-{rank}.npz") as found:
            assert set(found) == {name.replace("/", ":") for name in alone}
            for name, sampled in alone.items():
                assert np.array_equal(found[name.replace("/", ":")], sampled.values), name
    assert not list(scratch.glob("*"))


def test_numbers_in_the_json_are_fields_too(clip: Clip, tmp_path: Path) -> None:
    values: list[Any] = ["cat", 3, 0, 2.5, True, float("nan"), None, ["a"]]
    metas = [json.dumps({"f": value}).encode() for value in values]
    entries = [(f"{row:05d}", sample(row, json=meta)) for row, meta in enumerate([*metas, b"{}", b"[no json", None])]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", entries)])
    dataset, device = DatasetSpec("toy", str(tmp_path), {}), torch.device("cpu")
    embed = ClipEmbed(clip, dataset, index, cast(Any, None), tmp_path, device, 0, "txt", 4, 0)
    expected = ["cat", "3", "0", "2.5", "", "", "", "", "", "", ""]
    assert embed.fields(np.arange(len(entries)), "f") == expected


def test_class_names_are_embedded_in_the_trainers_precision(clip: Clip, tmp_path: Path) -> None:
    """bf16-mixed gives the result under autocast, and 32-true that without a trainer."""

    def classifier(*precision: Any) -> np.ndarray:
        embed = ClipEmbed(clip, DatasetSpec("toy", None, {}), None, cast(Any, None), tmp_path, device, 0, *precision)
        return embed.classifier(NAMES, ["a {}", "the {}"])

    def of_trainer(precision: Any) -> Any:
        trainer = pl.Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False)
        return trainer.precision_plugin.predict_step_context

    device = torch.device("cpu")
    plain, options = classifier(), ("txt", 4, 0)
    assert np.array_equal(classifier(*options, of_trainer("32-true")), plain)
    half = classifier(*options, of_trainer("bf16-mixed"))
    with torch.autocast("cpu", torch.bfloat16):
        theirs = open_clip.build_zero_shot_classifier(
            cast(Any, clip.model), clip.tokenize, NAMES, ["a {}", "the {}"], device="cpu"
        )
    assert np.array_equal(half, theirs.float().numpy())
    assert not np.array_equal(half, plain) and np.abs(half - plain).max() < 0.02


@pytest.mark.parametrize(("count", "world"), [(10, 2), (12, 3), (3, 2), (4, 2), (9, 4)])
def test_batches_are_dealt_whole(count: int, world: int) -> None:
    def batches(rank: int, of: int) -> list[list[int]]:
        own = list(WholeBatches(count, 4, rank, of))
        return [own[begin : begin + 4] for begin in range(0, len(own), 4)]

    dealt = [batch for rank in range(world) for batch in batches(rank, world)]
    assert sorted(dealt) == sorted(batches(0, 1)) if len(batches(0, 1)) >= world else batches(0, 1)[-1] in dealt
    assert all(batches(rank, world) for rank in range(world))
    assert {row for batch in dealt for row in batch} == set(range(count))
