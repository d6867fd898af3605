"""The authors' files: converted both ways, pairs read by url, and fault 1 refused."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from helip import mine_hard_pairs
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader, url_of
from helip.errors import HelipError
from helip.formats.from_released import from_released
from helip.formats.kinship import by_captions, by_embeddings, kinship
from helip.formats.shards_to_csv import shards_to_csv
from helip.formats.to_released import to_released
from tests.formats.released import TOPICS, files, hard_pairs, loader_order, topical_shards, write_theirs
from tests.samples import sample, write_shards, write_tar


@pytest.mark.parametrize("source", ["toy_hard_sample.csv", "toy_hard_sample_dict.json"])
def test_theirs_to_ours_to_theirs(tmp_path: Path, source: str) -> None:
    """55 ids per target: all files are equal byte by byte, and the index between has the same rows."""
    count = 60
    index = ShardIndex.build(write_shards(tmp_path / "tars", [30, 30]))
    shards_to_csv(index, tmp_path / "list", "toy")
    pairs = hard_pairs(count, 55, index.fingerprint)
    for row in range(count):  # every other row, hardest first
        pairs.rows[row] = [(row + 1 + n) % count for n in range(55)]
    write_theirs(tmp_path / "theirs", pairs, range(count), [f"u{row}" for row in range(count)])
    url_index = tmp_path / "theirs/url_index/toy_url_index.json"
    report = from_released(tmp_path / "theirs" / source, index, tmp_path / "ours", url_index)
    assert report.sentences() == ["60 targets with 3,300 hard pairs were mapped to rows"] and report.agree == 1.0
    ours = HardPairIndex.load(tmp_path / "ours")
    assert (np.asarray(ours.rows) == pairs.rows).all() and np.isnan(ours.scores).all()
    written = to_released(ours, tmp_path / "list/toy.csv", tmp_path / "again", "toy")
    assert written == ["60 of 60 lines have hard pairs"]
    assert files(tmp_path / "again") == files(tmp_path / "theirs")


def test_ids_of_the_loader_are_read_by_url_and_leave_corrected(
    tmp_path: Path, index: ShardIndex, training_list: Path
) -> None:
    pairs = hard_pairs(len(index), 6, index.fingerprint)
    ids = np.argsort(loader_order(index)).tolist()
    write_theirs(tmp_path / "theirs", pairs, ids, [f"http://u/{row}" for row in range(len(index))])
    arguments = tmp_path / "theirs/toy_hard_sample.csv", index
    report = from_released(*arguments, tmp_path / "ours", tmp_path / "theirs/url_index/toy_url_index.json")
    assert report.agree < 0.2 and "training that looks them up by row pairs unrelated rows" in report.sentences()[-1]
    ours = HardPairIndex.load(tmp_path / "ours")
    assert (np.asarray(ours.rows) == pairs.rows).all()
    to_released(ours, training_list, tmp_path / "corrected", "toy")
    with open(tmp_path / "corrected/toy_hard_sample.csv", newline="") as file:
        lines = [[int(entry) for entry in line] for line in csv.reader(file)]
    assert all(len(line) == 51 and set(line[1:]) == set(pairs.rows[line[0]].tolist()) for line in lines)
    again = tmp_path / "corrected/url_index/toy_url_index.json"
    report = from_released(tmp_path / "corrected/toy_hard_sample.csv", index, tmp_path / "twice", again)
    assert report.agree == 1 and report.counts["partners_repeated"] == len(index) * 44
    assert (np.asarray(HardPairIndex.load(tmp_path / "twice").rows)[:, :6] == pairs.rows).all()


def test_ids_that_are_rows_beside_urls_in_loader_order_are_refused(tmp_path: Path, index: ShardIndex) -> None:
    """Fault 1: the two files are in different orders, and an id would be read as another row."""
    pairs = hard_pairs(len(index), 6, index.fingerprint)
    count = len(index)
    write_theirs(tmp_path / "rows", pairs, range(count), [f"http://u/{row}" for row in range(count)])
    ids = np.argsort(loader_order(index)).tolist()
    write_theirs(tmp_path / "ids", pairs, ids, [f"http://u/{row}" for row in range(count)])
    url_index = tmp_path / "ids/url_index/toy_url_index.json"
    with pytest.raises(
        HelipError, match=r"in another order than the rows .* less in common than read by row; say --order row"
    ):
        from_released(tmp_path / "rows/toy_hard_sample.csv", index, tmp_path / "ours", url_index)
    assert not (tmp_path / "ours").exists()
    from_released(tmp_path / "rows/toy_hard_sample.csv", index, tmp_path / "ours", order="row")
    assert (np.asarray(HardPairIndex.load(tmp_path / "ours").rows) == pairs.rows).all()


@pytest.mark.parametrize("shift", [1, -1])
def test_ids_that_are_off_by_one_row_are_refused(tmp_path: Path, shift: int) -> None:
    """The url index lacks a row, or the shards lack a url: ids increase with the rows, but all are wrong."""
    topic = np.random.default_rng(0).integers(0, len(TOPICS), 120)
    members = [sample(row, txt=TOPICS[topic[row]].encode()) for row in range(120)]
    index = ShardIndex.build([write_tar(tmp_path / "0.tar", [(f"{row:04d}", m) for row, m in enumerate(members)])])
    known = {f"u{row}": row - shift for row in range(120) if row >= shift}
    (tmp_path / "urls.json").write_text(json.dumps(known))
    kin = [[row, *(r for r in range(120) if r != row and topic[r] == topic[row])] for row in range(120)]

    def convert(name: str, by: int) -> np.ndarray:
        lines = [[row - by for row in line if row >= by] for line in kin if line[0] >= by]
        (tmp_path / "hard.csv").write_text("\ufeff" + "".join(",".join(map(str, line)) + "\n" for line in lines))
        from_released(tmp_path / "hard.csv", index, tmp_path / name, tmp_path / "urls.json")
        return np.asarray(HardPairIndex.load(tmp_path / name).rows)

    rows = convert("ids", shift)
    assert all(topic[other] == topic[row] for row in range(120) for other in rows[row] if other >= 0)
    with pytest.raises(HelipError, match=r"\(0\.0% of the ids .* less in common than read by row; say --order row"):
        convert("lines", 0)


def test_nothing_is_replaced(tmp_path: Path, index: ShardIndex) -> None:
    """An existing folder, such as that of the shards, is not replaced by the index; nor is a file."""
    (tmp_path / "hard.csv").write_text("0,6\n6,0\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"dear")
    for name in ("mine", "hard.csv"):
        with pytest.raises(HelipError, match=f"{name} is there already: name a new folder, or remove it"):
            from_released(tmp_path / "hard.csv", index, tmp_path / name, order="row")
    assert (tmp_path / "mine/photo.jpg").read_bytes() == b"dear" and len(list(tmp_path.iterdir())) == 2


def test_pairs_that_have_nothing_in_common_are_refused_and_embeddings_can_tell(tmp_path: Path) -> None:
    """Captions without content ("picture number 7"): only embeddings show which rows are related."""
    index = ShardIndex.build(write_shards(tmp_path / "tars", [21, 21, 21, 21]))
    pairs = hard_pairs(len(index), 6, index.fingerprint)
    ids = np.argsort(loader_order(index)).tolist()
    write_theirs(tmp_path / "theirs", pairs, ids, [f"u{row}" for row in range(len(index))])
    csv_path, url_index = tmp_path / "theirs/toy_hard_sample.csv", tmp_path / "theirs/url_index/toy_url_index.json"
    with pytest.raises(HelipError, match="no more in common than random ones"):
        from_released(csv_path, index, tmp_path / "ours", url_index)
    rng = np.random.default_rng(0)
    sides = [rng.normal(size=(6, 12))[np.arange(84) % 6] + 0.3 * rng.normal(size=(84, 12)) for _ in range(2)]
    from_released(csv_path, index, tmp_path / "ours", url_index, similarity=by_embeddings(*sides))
    assert (np.asarray(HardPairIndex.load(tmp_path / "ours").rows) == pairs.rows).all()
    shuffled = [side[rng.permutation(84)] for side in sides]
    with pytest.raises(HelipError, match="no more in common"):
        from_released(csv_path, index, tmp_path / "no", url_index, similarity=by_embeddings(*shuffled))
    from_released(csv_path, index, tmp_path / "unseen", url_index, order="url")


def test_what_does_not_map_is_counted(tmp_path: Path) -> None:
    urls: list[str | None] = [f'http://u/{row}?q="a,b"\n<i>&' for row in range(84)]
    urls[3], urls[10], urls[20] = None, urls[5], "http://unknown"
    index = topical_shards(tmp_path / "tars", urls=urls)
    known = {
        url: number for number, url in enumerate(dict.fromkeys(url for url in urls if url)) if "unknown" not in url
    }
    known |= {"http://gone/1": 900, "http://gone/2": 901}
    (tmp_path / "urls.json").write_text(json.dumps(known))
    row_of = {known[url]: row for row, url in reversed(list(enumerate(urls))) if url in known}
    lines = [
        [ident, ident, *[i for i in row_of if i != ident and row_of[i] % 6 == row_of[ident] % 6]] for ident in row_of
    ]
    lines[0] += [lines[0][2], 900]
    lines += [[0, 6], [901, 5], [5000, 5]]
    (tmp_path / "hard.csv").write_text("".join(",".join(map(str, line)) + "\r\n" for line in lines))
    report = from_released(tmp_path / "hard.csv", index, tmp_path / "ours", tmp_path / "urls.json")
    assert report.facts() == {
        "targets": 81,
        "pairs": report.counts["pairs"],
        "urls_not_in_shards": 2,
        "rows_not_in_urls": 1,
        "rows_without_url": 1,
        "rows_of_repeated_url": 1,
        "targets_without_row": 2,
        "targets_repeated": 1,
        "partners_without_row": 1,
        "partners_of_themselves": 81,
        "partners_repeated": 1,
        "agree": report.agree,
    }
    assert "key 000000020 (row 20) has the url" in report.sentences()[-1]
    ours = HardPairIndex.load(tmp_path / "ours")
    assert (ours.counts()[[3, 10, 20]] == 0).all() and (ours.counts() > 0).sum() == 81
    assert all(other % 6 == row % 6 for row in range(84) for other in ours.rows[row].tolist() if other >= 0)
    assert ours.meta["imported"]["report"]["targets"] == 81 and ours.meta["fingerprint"] == index.fingerprint


@pytest.mark.parametrize(
    ("urls", "hard", "sentence"),
    [
        ('{"a": 0, "b": 0}', "0,1\n", "must map every url to an id of its own"),
        ('{"a": "0"}', "0,1\n", "must map every url to an id of its own"),
        ('["a"]', "0,1\n", "must be a JSON object"),
        ("{", "0,1\n", "cannot be read as JSON"),
        ('{"a": 0}', "0,1\n1,x\n", r"hard\.csv, line 2: 'x' is no id"),
        ('{"a": 0}', "0,1\n\n1,-2\n", r"hard\.csv, line 3: -2 is no id"),
        ('{"a": 0}', "0,1\n1.5,2\n", r"hard\.csv, line 2: '1\.5' is no id"),
        ('{"a": 0}', "\n", "lists no hard pairs"),
        ('{"a": 0}', "0,1\n", r"no url of .*urls\.json is in .*: these are other data"),
        ("{}", "0,1\n", r"no url of .*urls\.json is in .*: these are other data"),
        ('{"http://u/0": 0}', "7,1\n", "no target of .* has a row in .*: these are other data"),
        ('{"http://u/0": 2147483648}', "0,1\n", "of its own, a whole number from 0 to 2,147,483,647"),
        ('{"http://u/0": 0}', f"0,{10**30}\n", r"line 1: 10+ is no id, a whole number from 0 to 2,147,483,647"),
        ('{"http://u/0": 0}', f"0,1\n0,{'9' * 5000}\n", r"line 2: '9{40}' is no id"),
        ('{"http://u/0": 0}', "0,1,\n", r"line 1: '' is no id"),
        ('{"http://u/0": 0}', "0\n", "lists no hard pairs"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, index: ShardIndex, urls: str, hard: str, sentence: str) -> None:
    (tmp_path / "urls.json").write_text(urls)
    (tmp_path / "hard.csv").write_text(hard)
    with pytest.raises(HelipError, match=sentence):
        from_released(tmp_path / "hard.csv", index, tmp_path / "ours", tmp_path / "urls.json")
    assert not (tmp_path / "ours").exists()


def test_more_that_cannot_be_read(tmp_path: Path, index: ShardIndex) -> None:
    (tmp_path / "hard.csv").write_bytes(b"0,\xff\n")
    (tmp_path / "hard.json").write_text('{"0": [1, 2.5]}')
    (tmp_path / "lists.json").write_text('{"0": 1}')
    for name, sentence in (
        ("hard.csv", "is not UTF-8"),
        ("hard.json", r"target '0': '2\.5' is no id"),
        ("lists.json", "target '0' has no list"),
        ("none.csv", "cannot be read"),
    ):
        with pytest.raises(HelipError, match=sentence):
            from_released(tmp_path / name, index, tmp_path / "ours", order="row")
    with pytest.raises(HelipError, match="give --url-index, or say --order row"):
        from_released(tmp_path / "hard.csv", index, tmp_path / "ours")


@pytest.mark.slow
@pytest.mark.skipif(not {"HELIP_DATA", "HELIP_REAL_EMBEDDINGS"} <= os.environ.keys(), reason="needs real data")
def test_on_real_pairs(tmp_path: Path) -> None:
    """Flickr8k, ids in the order of 8 workers: captions alone identify the right reading of the ids."""
    index = ShardIndex.build(sorted(Path(os.environ["HELIP_DATA"], "flickr8k").glob("*.tar")))
    sides = [np.load(Path(os.environ["HELIP_REAL_EMBEDDINGS"]) / f"{name}.npy") for name in ("image", "text")]
    pairs = mine_hard_pairs(*sides, k=50)
    order, reader = loader_order(index, 8, 100), SampleReader(index)
    ids, urls = np.argsort(order).tolist(), [url_of(reader, row) or "" for row in range(len(index))]
    write_theirs(tmp_path / "ids", pairs, ids, urls)
    write_theirs(tmp_path / "rows", pairs, range(len(index)), urls)
    url_index = tmp_path / "ids/url_index/toy_url_index.json"
    from_released(tmp_path / "ids/toy_hard_sample.csv", index, tmp_path / "ours", url_index)
    assert (np.asarray(HardPairIndex.load(tmp_path / "ours").rows) == pairs.rows).all()
    with pytest.raises(HelipError, match="less in common than read by row"):
        from_released(tmp_path / "rows/toy_hard_sample.csv", index, tmp_path / "no", url_index)
    targets, partners = np.arange(2000), pairs.rows[:2000, 0].astype(np.int64)
    for measure in (by_captions(reader), by_embeddings(*sides)):
        right = kinship(targets, partners, measure)
        wrong = kinship(np.array(order)[targets], np.array(order)[partners], measure)
        print(f"standard errors above chance: read right {right:.1f}, read wrong {wrong:.1f}")
        assert right > 40 and abs(wrong) < 4
