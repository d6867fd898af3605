"""The embedding pass: every row once and in its place; unreadable rows are named."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from helip.artifacts.embeddings import GOOD, UNREADABLE, EmbeddingStore
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from helip.data.transforms import decode_image
from helip.embedding.embedder import Embedder, PictureEmbedder, row_loader
from helip.embedding.encoders import ClipImageEncoder, ClipTextEncoder, Encoders
from helip.errors import HelipError
from tests.embedding.fakes import Bytes, Colours, fake_encoders
from tests.pretend import pretend_gpu
from tests.samples import sample, write_shards, write_tar
from tests.training.tiny import tiny_model


@pytest.fixture(scope="module")
def trainer() -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> ShardIndex:
    folder = tmp_path_factory.mktemp("shards")
    bad = [("x", sample(50, jpg=b"broken")), ("y", sample(51)), ("z", sample(52, txt=b"\xff"))]
    return ShardIndex.build([*write_shards(folder, [6, 4]), write_tar(folder / "00002.tar", bad)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_is_embedded_where_it_belongs(
    index: ShardIndex, trainer: pl.Trainer, tmp_path: Path, workers
) -> None:
    encoders, reader = fake_encoders(), SampleReader(index)
    store = EmbeddingStore.create(tmp_path / "store", len(index), 108, 16, {})
    embedder = Embedder(encoders, store)
    loader = row_loader(encoders, reader, np.arange(13), 4, workers, "skip")
    trainer.predict(embedder, loader, return_predictions=False)
    assert np.asarray(store.state).tolist() == [GOOD] * 10 + [UNREADABLE, GOOD, UNREADABLE]
    for row in np.flatnonzero(store.valid).tolist():
        raw = reader.read(row)
        pixels = encoders.image.transform(decode_image(raw.image))[None]
        assert torch.allclose(torch.tensor(store.image[row]), encoders.image(pixels)[0])
        tokens = encoders.text.tokenize([raw.captions[0]])
        assert torch.allclose(torch.tensor(store.text[row]), encoders.text(tokens)[0])
    assert [reason.split(":")[0] for reason in embedder.reasons] == [
        "00002.tar, key x (row 10)",
        "00002.tar, key z (row 12)",
    ]


@pytest.mark.filterwarnings("ignore")
def test_a_store_of_some_rows(index: ShardIndex, trainer: pl.Trainer, tmp_path: Path) -> None:
    """Evaluation keeps only the rows of its part."""
    encoders, rows = fake_encoders(), np.array([2, 5, 9, 10, 11])
    store = EmbeddingStore.create(tmp_path / "store", 5, 108, 16, {})
    loader = row_loader(encoders, SampleReader(index), rows, 2, 0, "skip")
    trainer.predict(Embedder(encoders, store, rows), loader, return_predictions=False)
    assert np.asarray(store.state).tolist() == [GOOD, GOOD, GOOD, UNREADABLE, GOOD]
    pixels = encoders.image.transform(decode_image(SampleReader(index).read(9).image))[None]
    assert torch.allclose(torch.tensor(store.image[2]), encoders.image(pixels)[0])


@pytest.mark.filterwarnings("ignore")
def test_an_unreadable_row_fails_when_asked(index: ShardIndex, trainer: pl.Trainer, tmp_path: Path) -> None:
    encoders = fake_encoders()
    store = EmbeddingStore.create(tmp_path / "store", len(index), 108, 16, {})
    loader = row_loader(encoders, SampleReader(index), np.arange(13), 4, 0, "fail")
    with pytest.raises(HelipError, match=r"00002\.tar, key x \(row 10\).*data\.on_error=skip"):
        trainer.predict(Embedder(encoders, store), loader, return_predictions=False)
    assert store.valid[:8].all()  # rows written before are kept


@pytest.mark.filterwarnings("ignore")
def test_pictures_go_to_their_positions(trainer: pl.Trainer) -> None:
    encoder, into = fake_encoders().image, np.zeros((7, 108), np.float32)
    pictures, positions = torch.rand(7, 3, 6, 6), torch.randperm(7)
    loader = DataLoader(TensorDataset(pictures, positions), 3)
    trainer.predict(PictureEmbedder(encoder, into), loader, return_predictions=False)
    assert torch.allclose(torch.tensor(into)[positions], encoder(pictures))


@pytest.mark.filterwarnings("ignore")
def test_towers_on_a_gpu_take_their_batches_there(index: ShardIndex, tmp_path: Path, monkeypatch) -> None:
    model = tiny_model(tmp_path).eval()
    transform: Any = open_clip.image_transform(32, is_train=False)
    text = ClipTextEncoder(model, lambda captions: torch.tensor([[len(c) % 60 + 1] * 8 for c in captions]))
    encoders = Encoders("tiny", ClipImageEncoder(model, transform), text)
    stores = [EmbeddingStore.create(tmp_path / name, len(index), 32, 32, {}) for name in ("cpu", "gpu")]
    batch = next(iter(row_loader(encoders, SampleReader(index), np.arange(6), 6, 0, "skip")))
    with torch.no_grad():
        Embedder(encoders, stores[0]).predict_step(batch)
        with pretend_gpu(monkeypatch):
            embedder = Embedder(encoders, stores[1]).to("cuda")
            embedder.predict_step(embedder.transfer_batch_to_device(batch, torch.device("cuda"), 0))
    for name in ("image", "text"):
        cpu, gpu = (np.asarray(getattr(store, name)[:6]) for store in stores)
        np.testing.assert_allclose(gpu, cpu, atol=1e-5)
        assert np.abs(cpu).sum(1).all()


def test_a_draft_shrinks_large_jpegs_and_nothing_else(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    large, small = (Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC) for size in ((500, 400), (60, 50)))
    samples = [(str(n), sample(n, jpg=jpeg(image))) for n, image in enumerate((large, small))]
    reader = SampleReader(ShardIndex.build([write_tar(tmp_path / "00000.tar", samples)]))
    transform: Any = open_clip.image_transform(32, is_train=False)
    encoders = Encoders("tiny", Colours(), Bytes())
    encoders.image.transform = transform
    plain, draft = (
        next(iter(row_loader(encoders, reader, np.arange(2), 2, 0, "fail", draft)))["image"].int()
        for draft in (False, True)
    )
    assert reader.read(0).image and decode_image(reader.read(0).image, 48).size == (63, 50)
    assert 0 < (plain[0] - draft[0]).abs().float().mean() < 6
    assert torch.equal(plain[1], draft[1])


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
