"""Sources of seven pairs in each layout that `helip convert to-shards` reads."""

import csv
import json
import subprocess
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from webdataset.writer import ShardWriter

from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader
from tests.samples import picture

CAPTIONS = ["plain", 'comma, "quoted"', "ünïcode 🧯", "two\nlines", "=SUM(A1)", "1984", "x" * 5000]
Pairs = list[tuple[list[str], bytes]]


def captions_of(number: int) -> list[str]:
    return [CAPTIONS[number], *(f"again {n} of {number}" for n in range(number % 3))]


def expected(several: bool = False) -> Pairs:
    return [(captions_of(n)[: None if several else 1], picture(n)) for n in range(len(CAPTIONS))]


def photos(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(CAPTIONS)):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    return [f"{number}.jpg" for number in range(len(CAPTIONS))]


def write_csv(path: Path, lines: list[list[str]], separator: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(lines)
    return path


def comma_list(root: Path) -> Path:
    names = photos(root / "images")
    lines = [[f"images/{name}", CAPTIONS[n]] for n, name in enumerate(names)]
    return write_csv(root / "list.csv", [["filepath", "title"], *lines])


def tab_list(root: Path) -> Path:
    names = photos(root / "images")
    lines = [[f"images/{name}", CAPTIONS[n]] for n, name in enumerate(names)]
    return write_csv(root / "list.tsv", [["image", "caption"], *lines], "\t")


def flickr8k(root: Path) -> Path:
    lines = [[name, text] for n, name in enumerate(photos(root / "Images")) for text in captions_of(n)]
    return write_csv(root / "captions.txt", [["image", "caption"], *lines]).parent


def flickr30k(root: Path) -> Path:
    """As distributed by Kaggle: a space behind each separator, no quoting."""
    lines = ["image_name| comment_number| comment"]
    for n, name in enumerate(photos(root / "flickr30k_images")):
        lines += [f"{name}| {m}| {text}" for m, text in enumerate(one_line(text) for text in captions_of(n))]
    (root / "results.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "results.csv"


def tokens(root: Path) -> Path:
    lines = [
        f"{name}#{m}\t{one_line(text)}"
        for n, name in enumerate(photos(root / "Flicker8k_Dataset"))
        for m, text in enumerate(captions_of(n))
    ]
    (root / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "Flickr8k.token.txt"


def one_line(text: str) -> str:
    return text.replace("\n", " ")


def image_folder(root: Path) -> Path:
    lines = [{"file_name": name, "text": CAPTIONS[n]} for n, name in enumerate(photos(root))]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


def image_folder_csv(root: Path) -> Path:
    write_csv(
        root / "metadata.csv", [["file_name", "caption"], *([n, CAPTIONS[i]] for i, n in enumerate(photos(root)))]
    )
    return root


def data_set(root: Path) -> datasets.Dataset:
    names = photos(root / "photos")
    content = {"image": [str(root / "photos" / name) for name in names], "caption": CAPTIONS, "n": list(range(7))}
    return datasets.Dataset.from_dict(content).cast_column("image", datasets.Image())


def hub_parquet(root: Path) -> Path:
    """With the bytes of the images, as push_to_hub writes it."""
    (root / "data").mkdir(parents=True)
    for part, numbers in enumerate((range(4), range(4, 7))):
        images = [{"bytes": picture(n), "path": None} for n in numbers]
        rows = datasets.Dataset.from_dict({"image": images, "caption": [CAPTIONS[n] for n in numbers]})
        path = root / f"data/train-0000{part}-of-00002.parquet"
        rows.cast_column("image", datasets.Image()).to_parquet(path)
    return root


def saved_arrow(root: Path) -> Path:
    """With the paths of the images, as save_to_disk writes it."""
    data_set(root / "of").save_to_disk(root / "saved")
    return root / "saved"


def caption_lists(root: Path) -> Path:
    """Images as {bytes, path} and a list of captions for each, in two arrow files of one split."""
    images = [{"bytes": picture(n), "path": f"{n}.png"} for n in range(7)]
    features = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
    content = {"image": images, "captions": [[text, f"again {text}"] for text in CAPTIONS]}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(root / "saved", num_shards=2)
    return root / "saved"


def plain_parquet(root: Path) -> Path:
    root.mkdir(parents=True)
    table = {"jpg": [picture(n) for n in range(7)], "txt": CAPTIONS, "score": np.arange(7.0)}
    pq.write_table(pa.table(table), root / "t.parquet", row_group_size=3)
    return root / "t.parquet"


def coco(root: Path) -> Path:
    """The layout of cocodataset.org: images in another order than annotations."""
    names = photos(root / "train2017")
    content = {
        "info": {},
        "licenses": [],
        "images": [{"id": 100 + n, "file_name": name, "coco_url": f"http://c/{n}"} for n, name in enumerate(names)],
        "annotations": [
            {"id": 10 * n + m, "image_id": 100 + n, "caption": text}
            for n in reversed(range(7))
            for m, text in enumerate(captions_of(n))
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations/captions_train2017.json").write_text(json.dumps(content))
    return root / "annotations/captions_train2017.json"


def pairs(root: Path) -> Path:
    for n, name in enumerate(photos(root)):
        (root / name).with_suffix(".txt").write_text(CAPTIONS[n])
    return root


def packed_by_tar(root: Path) -> Path:
    """As GNU tar packs a folder: members in the order of the disk, not of the names."""
    pairs(root / "in")
    subprocess.run(["tar", "czf", str(root / "all.tar.gz"), "-C", str(root / "in"), "."], check=True)
    return root / "all.tar.gz"


def packed_by_webdataset(root: Path) -> Path:
    root.mkdir(parents=True)
    with ShardWriter(f"{root}/%03d.tar.gz", maxcount=4, verbose=0) as shards:
        for n, caption in enumerate(CAPTIONS):
            shards.write({"__key__": f"k{n}", "jpg": picture(n), "txt": caption})
    return root


def read_back(out: Path) -> Pairs:
    index = ShardIndex.build(sorted(out.glob("*.tar")), on_error="fail")
    assert index.valid.all()
    reader = SampleReader(index)
    found = []
    for row in range(len(index)):
        more = reader.metadata(row).get("captions", [])
        assert reader.captions(row) == tuple(more[:1] or [reader.metadata(row)["caption"]])
        found.append((more or list(reader.captions(row)), reader.image_bytes(row)))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
