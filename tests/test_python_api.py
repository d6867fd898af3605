"""The public names in a program: tensors, messages with argument names, nothing overwritten, one-line reprs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import helip
from helip.errors import HelipError
from helip.mining.reference import hard_pairs

RNG = np.random.default_rng(0)
IMAGE, TEXT = RNG.standard_normal((60, 12)).astype(np.float32), RNG.standard_normal((60, 8)).astype(np.float32)
RULES: dict[str, Any] = {"near_duplicate": 1.0, "min_similarity": -1.0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("grad", [False, True])
def test_tensors_are_embeddings(dtype: torch.dtype, grad: bool) -> None:
    image, text = (torch.from_numpy(side).to(dtype).requires_grad_(grad) for side in (IMAGE, TEXT))
    valid = torch.arange(60) % 7 != 0
    found = helip.mine_hard_pairs(image, text, k=5, valid=valid, **RULES)
    plain = [side.detach().double().numpy() for side in (image, text)]
    assert np.array_equal(found.rows, hard_pairs(plain[0], plain[1], 5, **RULES, valid=valid.numpy())[0])


def test_a_tensor_that_is_no_block_of_memory(tmp_path: Path) -> None:
    wide = torch.from_numpy(np.concatenate([IMAGE, IMAGE], axis=1))[:, ::2]
    found = helip.mine_hard_pairs(wide, TEXT, k=3, **RULES)
    assert np.array_equal(found.rows, hard_pairs(wide.numpy(), TEXT, 3, **RULES)[0])


def test_the_fingerprint_is_kept(tmp_path: Path) -> None:
    helip.mine_hard_pairs(IMAGE, TEXT, k=3, fingerprint="abc").save(tmp_path / "index")
    assert helip.HardPairIndex.load(tmp_path / "index").meta["fingerprint"] == "abc"
    assert "fingerprint" not in helip.mine_hard_pairs(IMAGE, TEXT, k=3).meta


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 60}, "k=60 must be from 1 to 59"),
        ({"score": "jiont"}, "score=jiont is unknown"),
        ({"near_duplicate": 2}, "near_duplicate=2 must be"),
        ({"min_similarity": (0.1, 0.2, 0.3)}, "min_similarity="),
        ({"min_similarity": 0.99}, "min_similarity is 0.99 and near_duplicate 0.98"),
        ({"backend": "fiass"}, "backend=fiass is unknown"),
        ({"pool_size": 0}, "pool_size is 0"),
        ({"min_recall": 1.0}, "min_recall is 1.0"),
        ({"valid": torch.ones(59, dtype=torch.bool)}, "valid must be 60 booleans"),
        ({"text": TEXT[:59]}, "60 image embeddings but 59 text embeddings"),
        ({"text": torch.ones(60, 3, dtype=torch.int64)}, "must be a 2-D float array"),
    ],
)
def test_errors_speak_of_the_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(HelipError) as found:
        helip.mine_hard_pairs(**{"image": IMAGE, "text": TEXT, "k": 5} | arguments)
    assert words in str(found.value)
    assert "helip." not in str(found.value) and "search." not in str(found.value)


@pytest.mark.parametrize("name", ["neardup", "depth", "topk"])
def test_an_unknown_argument_is_a_type_error_of_this_function(name: str) -> None:
    with pytest.raises(TypeError, match=rf"mine_hard_pairs\(\) got an unexpected keyword argument '{name}'"):
        helip.mine_hard_pairs(IMAGE, TEXT, **{name: 3})  # pyright: ignore[reportArgumentType]


def test_an_index_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    first, second = (helip.mine_hard_pairs(IMAGE, TEXT, k=k) for k in (3, 4))
    (tmp_path / "index").mkdir()  # an empty folder is no index
    first.save(tmp_path / "index")
    with pytest.raises(HelipError, match="index exists already: give another folder, or overwrite=True"):
        second.save(tmp_path / "index")
    assert helip.HardPairIndex.load(tmp_path / "index").depth == 3
    second.save(tmp_path / "index", overwrite=True)
    assert helip.HardPairIndex.load(tmp_path / "index").depth == 4
    (tmp_path / "file").write_text("x")
    with pytest.raises(HelipError, match="file exists already"):
        second.save(tmp_path / "file")


def test_representations_are_one_line() -> None:
    index = helip.mine_hard_pairs(IMAGE, TEXT, k=3)
    assert repr(index) == "HardPairIndex(60 rows, 3 partners each, by joint)"
    assert "\n" not in repr(index.topk(2)) and "\n" not in repr(helip.HelipLoss())


AFTER = """
import sys
{imports}
assert ("torch" in sys.modules) == {heavy}
import open_clip
model = open_clip.create_model("emoji_tiny")
assert "emoji_tiny" in open_clip.list_models() and model.visual.image_size
assert not any("registered" in type(finder).__module__ for finder in sys.meta_path)
print(sum(parameter.numel() for parameter in model.parameters()))
"""


@pytest.mark.parametrize(
    ("imports", "heavy"),
    [
        ("import helip", False),
        ("import open_clip, helip", True),
        ("import helip, importlib; importlib.reload(helip)", False),
    ],
)
def test_open_clip_knows_the_embedded_model(imports: str, heavy: bool) -> None:
    code = AFTER.format(imports=imports, heavy=heavy)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 100_000
