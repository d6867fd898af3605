"""The two halves of a training transform against the whole; the packed batch against the plain one."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory
from torchvision import transforms

from helip.data.batch import Packed, pack, unpack
from helip.data.byte_transforms import ByteCrop, split_still, split_transform
from helip.data.pipeline import StepPositions, TrainingStream
from helip.data.transforms import seeded_transform
from tests.data.streams import batches, same, unit_reader
from tests.samples import write_shards

SIZE = 48


def open_clip_transform(**settings: Any) -> Any:
    return open_clip.image_transform(SIZE, is_train=True, **settings)


def photo(width: int = 160, height: int = 120) -> Image.Image:
    """Smooth waves with grain."""
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    waves = np.stack([np.sin(x + y), np.cos(x - 2 * y), np.sin(2 * x)], axis=2)
    grain = np.random.default_rng(0).normal(0, 8, waves.shape)
    return Image.fromarray((127 + 110 * waves + grain).clip(0, 255).astype(np.uint8))


def test_open_clips_crop_is_pillows_within_one_level() -> None:
    """The same box, cut and resized by torchvision and Pillow, then open_clip's own ToTensor and Normalize."""
    whole = open_clip_transform()
    crop, normalize = split_transform(whole)
    assert isinstance(crop, ByteCrop) and normalize is not None
    for seed, image in enumerate([photo(), photo(120, 160), photo(30, 30), photo(300, 90)]):
        top, left, height, width = crop.box(*image.size, random.Random(seed))
        resized = transforms.functional.resized_crop(image, top, left, height, width, [SIZE, SIZE], crop_mode())  # type: ignore[arg-type]
        theirs = np.asarray(resized).astype(int)
        ours = crop(image, seed)
        assert ours.shape == (3, SIZE, SIZE) and ours.dtype == torch.uint8
        difference = np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs)
        print(f"seed {seed}: largest difference {difference.max()}, share that differs {(difference > 0).mean():.4f}")
        assert difference.max() <= 1 and (difference > 0).mean() < 0.02
        finish = transforms.Compose(whole.transforms[2:])
        assert torch.equal(normalize(ours[None])[0], finish(as_image(ours)))


def as_image(pixels: torch.Tensor) -> Any:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def crop_mode() -> transforms.InterpolationMode:
    return transforms.InterpolationMode.BICUBIC


def test_boxes_are_drawn_as_torchvision_draws_them() -> None:
    """Means of top, left, height and width over 4,000 draws, and the fallback for shapes that no crop fits."""
    theirs: Any = transforms.RandomResizedCrop(SIZE, (0.3, 1.0))
    crop = ByteCrop((SIZE, SIZE), (0.3, 1.0), (3 / 4, 4 / 3))
    torch.manual_seed(0)
    draw = random.Random(0)
    image: Any = photo()
    own = np.array([crop.box(160, 120, draw) for _ in range(4000)], float)
    other = np.array([theirs.get_params(image, [0.3, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)], float)
    np.testing.assert_allclose(own.mean(0), other.mean(0), atol=5 * other.std(0).max() / 60)
    np.testing.assert_allclose(own.std(0), other.std(0), rtol=0.1)
    whole = ByteCrop((SIZE, SIZE), (1.0, 1.0), (3 / 4, 4 / 3))
    for size in ((400, 20), (20, 400), (900, 1), (1, 900)):
        fallback = theirs.get_params(Image.new("RGB", size), [1.0, 1.0], [3 / 4, 4 / 3])
        assert whole.box(*size, random.Random(1)) == tuple(fallback)


def test_a_crop_depends_on_its_seed_alone() -> None:
    crop, _ = split_transform(open_clip_transform())
    before = torch.get_rng_state(), random.getstate()
    first = crop(photo(), 3)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    random.seed(9)
    torch.manual_seed(9)
    assert torch.equal(first, crop(photo(), 3)) and not torch.equal(first, crop(photo(), 4))


@pytest.mark.parametrize(
    "jitter", [{"color_jitter": (0.3, 0.3, 0.3, 0.1), "color_jitter_prob": 1.0}, {"use_timm": True}]
)
def test_other_augmentations_keep_their_own_steps(jitter) -> None:
    whole = open_clip_transform(aug_cfg=jitter)
    half, normalize = split_transform(whole)
    assert not isinstance(half, ByteCrop) and normalize is not None
    assert torch.equal(normalize(half(photo(), 5)[None])[0], seeded_transform(whole, photo(), 5))


def test_what_cannot_be_split_stays_whole() -> None:
    for whole in (transforms.ToTensor(), transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()])):
        half, normalize = split_transform(whole)
        assert normalize is None and torch.equal(half(photo(), 0), seeded_transform(whole, photo(), 0))


def test_a_packed_batch_is_the_batch(tmp_path: Path) -> None:
    read = unit_reader(write_shards(tmp_path, [7, 5]))
    expected = batches(read, 3, 4)
    stream = TrainingStream(StepPositions(0, 3, 4, 0, 1), read)
    packed = list(DataLoader(stream, batch_size=None, num_workers=1, collate_fn=pack))
    assert all(isinstance(one, Packed) and one.buffer.dtype == torch.uint8 for one in packed)
    assert all(same(unpack(one), other) for one, other in zip(packed, expected, strict=True))
    odd = expected[0] | {"image": torch.arange(15, dtype=torch.uint8).view(1, 3, 5, 1)}  # ends in the middle of a word
    assert same(unpack(pack(odd)), odd)  # type: ignore[arg-type]


def test_a_packed_batch_survives_the_thread_that_pins_memory(tmp_path: Path, monkeypatch) -> None:
    """pin_memory turns tuples into lists; it runs only with a GPU."""
    (batch,) = batches(unit_reader(write_shards(tmp_path, [7])), 1, 4)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self.clone())
    pinned = pin_memory(pack(batch))
    assert isinstance(pinned, Packed) and same(unpack(pinned), batch)


def test_a_still_transform_in_two_halves_is_the_whole_bit_for_bit() -> None:
    whole: Any = open_clip.image_transform(SIZE, is_train=False)
    half, normalize = split_still(whole)
    assert normalize is not None
    assert half(photo()).dtype == torch.uint8
    assert torch.equal(normalize(half(photo())[None])[0], whole(photo()))
    alone = transforms.ToTensor()
    assert split_still(alone) == (alone, None)
