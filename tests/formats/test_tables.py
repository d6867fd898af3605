"""Hard pairs as parquet: opened by pyarrow, by `datasets`, and collated by sentence-transformers."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.errors import HelipError
from helip.formats.to_parquet import write_pairs
from helip.formats.to_sentence_transformers import write_tuples
from tests.samples import picture, sample, write_shards, write_tar


def ring(index: ShardIndex, depth: int = 4) -> HardPairIndex:
    """The partners of a row are those after it; the last row has none, row 0 only one."""
    count = len(index)
    rows = (np.arange(count)[:, None] + np.arange(1, depth + 1)) % count
    rows[-1], rows[0, 1:] = -1, -1
    scores = np.where(rows < 0, 0, 0.9 - 0.1 * np.arange(depth)).astype(np.float32)
    return HardPairIndex(rows.astype(np.int32), scores, scores / 2, scores / 4, {"fingerprint": index.fingerprint})


def test_rows_and_scores_with_keys_and_urls(tmp_path: Path) -> None:
    urls = ['u,"0"\n', None, "u", "u", "<b>", "ü"]
    members = [sample(n, json=json.dumps({"url": url}).encode()) for n, url in enumerate(urls)]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", [(f"k/{n}", m) for n, m in enumerate(members)])])
    pairs = ring(index)
    pairs.scores[2] = np.nan
    assert write_pairs(pairs, index, tmp_path / "pairs.parquet") == 5
    lines = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert [line["row"] for line in lines] == [0, 1, 2, 3, 4] and [line["url"] for line in lines] == urls[:5]
    assert lines[0]["partner_rows"] == [1] and lines[0]["partner_urls"] == [None]
    assert lines[1]["partner_keys"] == ["k/2", "k/3", "k/4", "k/5"] and lines[1]["partner_urls"] == urls[2:]
    assert np.allclose(lines[1]["scores"], [0.9, 0.8, 0.7, 0.6]) and lines[2]["scores"] == [None] * 4
    assert np.allclose(lines[1]["scores_text"], np.array([0.9, 0.8, 0.7, 0.6]) / 4)


@pytest.mark.slow
def test_tuples_open_in_datasets_and_sentence_transformers(tmp_path: Path) -> None:
    """Images decode, columns have the order that the losses expect, and sentence-transformers collates a batch."""
    datasets = pytest.importorskip("datasets")
    collators = pytest.importorskip("sentence_transformers.sentence_transformer.data_collator")
    members = [sample(n) for n in range(8)]
    members[3]["txt"] = b'<i>hostile</i>, "quoted"\nlines\x07'
    members[5]["jpg"] = b"no image"
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", [(str(n), m) for n, m in enumerate(members)])])
    path = tmp_path / "tuples.parquet"
    assert write_tuples(ring(index), index, path, negatives=3) == {"written": 5, "left_out": 3}
    found = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    first = found[0]
    assert isinstance(first["anchor"], Image.Image) and first["positive"] == "picture number 1"
    assert [first[f"negative_{n}"] for n in (1, 2, 3)] == [
        "picture number 2",
        '<i>hostile</i>, "quoted"\nlines\x07',
        "picture number 4",
    ]
    seen: list[list] = []

    def preprocess(inputs: list, prompt: object = None, task: object = None) -> dict[str, torch.Tensor]:
        seen.append(inputs)
        return {"size": torch.tensor([len(inputs)])}

    batch = collators.SentenceTransformerDataCollator(preprocess)([found[n] for n in range(3)])
    assert list(batch) == [f"{name}_size" for name in found.column_names]
    assert all(isinstance(image, Image.Image) for image in seen[0]) and all(isinstance(t, str) for t in seen[1])


def test_images_carry_the_note_that_makes_datasets_decode_them(tmp_path: Path) -> None:
    """`datasets` reads it only if the column has exactly the type of its Image (the slow test above)."""
    index = ShardIndex.build(write_shards(tmp_path, [6]))
    write_tuples(ring(index), index, tmp_path / "t.parquet", negatives=1)
    schema = pq.read_schema(tmp_path / "t.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["anchor"] == {"_type": "Image"} and features["negative_1"] == {"dtype": "string", "_type": "Value"}
    assert str(schema.field("anchor").type) == "struct<bytes: binary, path: string>"
    assert str(schema.field("positive").type) == "string"


def test_tuples_of_captions_and_their_limits(tmp_path: Path) -> None:
    index = ShardIndex.build(write_shards(tmp_path, [6]))
    write_tuples(ring(index), index, tmp_path / "t.parquet", negatives=2, anchor="caption")
    line = pq.read_table(tmp_path / "t.parquet").to_pylist()[0]
    assert line["anchor"] == "picture number 1" and line["negative_2"]["bytes"] == picture(3)
    for negatives, anchor in ((0, "image"), (5, "image"), (1, "text")):
        with pytest.raises(HelipError, match="give 1 to 4, and image or caption"):
            write_tuples(ring(index), index, tmp_path / "n.parquet", negatives, anchor)
    other = ShardIndex.build(write_shards(tmp_path / "other", [7]))
    with pytest.raises(HelipError, match=r"the hard pairs were mined on other shards \(fingerprint"):
        write_pairs(ring(index), other, tmp_path / "n.parquet")
    few = ring(index)
    few.rows[:, 1:] = -1
    with pytest.raises(HelipError, match="no row has 2 hard pairs that can be read"):
        write_tuples(few, index, tmp_path / "n.parquet", negatives=2)


@pytest.mark.parametrize("anchor", ["image", "caption"])
def test_negatives_of_a_tuple_are_distinct_by_content(tmp_path: Path, anchor: str) -> None:
    """Rows 0 to 11 have four captions and six pictures among them; each partner list holds repeats of both."""
    members = [sample(n, txt=f"caption {n % 4}".encode(), jpg=picture(n % 6)) for n in range(12)]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", [(str(n), m) for n, m in enumerate(members)])])
    rows = np.array([[(row + 1 + n) % 12 for n in range(11)] for row in range(12)], np.int32)
    scores = np.tile(np.linspace(1, 0.1, 11, dtype=np.float32), (12, 1))
    pairs = HardPairIndex(rows, scores, scores, scores, {"fingerprint": index.fingerprint})
    assert write_tuples(pairs, index, tmp_path / "t.parquet", 3, anchor) == {"written": 12, "left_out": 0}
    for line in pq.read_table(tmp_path / "t.parquet").to_pylist():
        used = [line["positive"], *(line[f"negative_{n}"] for n in (1, 2, 3))]
        contents = [value["bytes"] if isinstance(value, dict) else value for value in used]
        assert len(set(contents)) == 4
    with pytest.raises(HelipError, match="no row has"):
        write_tuples(pairs, index, tmp_path / "n.parquet", 4 if anchor == "image" else 6, anchor)
