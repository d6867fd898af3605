"""A target with its partners: no wrong pair, and unreadable rows are replaced and counted."""

from pathlib import Path

import numpy as np
import pytest

from helip.artifacts.shards import ShardIndex
from helip.data import units
from helip.data.order import TargetOrder
from helip.data.partners import MinedPartners, RandomPartners
from helip.data.pipeline import collate
from helip.data.plans.contract import FILLER, PARTNER, TARGET
from helip.data.plans.partners import PartnerPlan
from helip.data.reader import content_digest
from helip.data.units import UnitReader
from helip.errors import HelipError
from tests.data.streams import ring, unit_reader
from tests.samples import picture, sample, write_shards, write_tar

BAD = {3: {"jpg": b"no image"}, 6: {"txt": b"\xff", "json": b"{}"}, 10: {"jpg": picture(10)[:200]}}


def order(read: UnitReader) -> TargetOrder:
    assert isinstance(read.plan, PartnerPlan)
    return read.plan.order


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Path]:
    return write_shards(tmp_path_factory.mktemp("good"), [8, 0, 8])


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> list[Path]:
    """Sixteen rows that are valid in the index, three of which cannot be read."""
    folder = tmp_path_factory.mktemp("damaged")
    entries = [(f"{number:04d}", sample(number, **BAD.get(number, {}))) for number in range(16)]
    return [write_tar(folder / "0.tar", entries[:8]), write_tar(folder / "1.tar", entries[8:])]


def test_zero_wrong_pairs(shards: list[Path]) -> None:
    """In three epochs, every partner is a hard pair of its target, by the content that was read."""
    read = unit_reader(shards, p=2)
    for position in range(3 * read.plan.length):
        unit = read(position)
        target = unit.target.row
        assert (position // 16, target) == order(read)[position]
        assert unit.target.identity[:2] == (target, content_digest(picture(target)))
        assert unit.target.mined.tolist() == sorted((target + n) % 16 for n in range(1, 5))
        for role, partner in unit.slots:
            assert role == PARTNER and (partner.row - target) % 16 in range(1, 5)
            assert partner.identity[1] == content_digest(picture(partner.row))
        assert unit.replaced == 0


def test_unreadable_rows_are_replaced_and_counted_never_mispaired(damaged: list[Path]) -> None:
    read = unit_reader(damaged)
    index = read.index
    assert index.valid.all()  # found only when the bytes are decoded
    replaced = 0
    for position in range(2 * 16):
        unit = read(position)
        _, wanted = order(read)[position]
        (role, partner), target = unit.slots[0], unit.target.row
        assert not {target, partner.row} & BAD.keys()
        assert role == PARTNER and (partner.row - target) % 16 in range(1, 5)
        if wanted in BAD:
            assert unit.replaced >= 1
            ahead = next(n for n in range(1, 16) if order(read)[position + n][1] not in BAD)
            assert target == order(read)[position + ahead][1]  # the next good one in order
        else:
            assert target == wanted
        replaced += unit.replaced
    assert replaced >= 6


def test_an_unreadable_row_fails_with_shard_and_key_when_asked(damaged: list[Path]) -> None:
    read = unit_reader(damaged, on_error="fail", partners=None)
    bad = [position for position in range(16) if order(read)[position][1] in BAD]
    with pytest.raises(HelipError, match=r"[01]\.tar, key 00.*\(row \d+\): .*data\.on_error=skip"):
        read(bad[0])
    good = next(position for position in range(16) if order(read)[position][1] not in BAD)
    assert read(good).slots == []


def test_a_dead_dataset_stops_and_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(units, "IN_A_ROW", 20)
    entries = [(str(number), sample(number, jpg=b"broken")) for number in range(5)]
    read = unit_reader([write_tar(tmp_path / "0.tar", entries)])
    with pytest.raises(HelipError, match=r"20 consecutive rows are unreadable, the last is 0\.tar, key \d"):
        read(0)


def test_a_target_whose_partners_are_all_unreadable_gets_a_filler(damaged: list[Path]) -> None:
    index = ShardIndex.build(damaged)
    rows = ring(16)
    rows[0] = [3, 6, 10, -1]
    partners = MinedPartners(rows, index.valid, 1, 0, "drop", 1)
    read = unit_reader(damaged, partners)
    position = next(n for n in range(16) if order(read)[n][1] == 0)
    unit = read(position)
    (role, filler), batch = unit.slots[0], collate([unit])
    assert role == FILLER and filler.row not in {0, 3, 6, 10}
    assert unit.replaced >= 3 and batch["replaced"] == unit.replaced
    assert batch["target"].tolist() == [0, -1]


@pytest.mark.parametrize(("outliers", "role", "target"), [("random", FILLER, [0, -1]), ("keep", TARGET, [0, 1])])
def test_outliers(shards: list[Path], outliers: str, role: int, target: list[int]) -> None:
    rows = ring(16)
    rows[5] = -1
    index = ShardIndex.build(shards)
    partners = MinedPartners(rows, index.valid, 1, 0, outliers, 1)
    read = unit_reader(shards, partners, keep_outliers=outliers == "keep")
    unit = read(next(n for n in range(16) if order(read)[n][1] == 5))
    assert unit.slots[0][0] == role and unit.slots[0][1].row != 5
    batch = collate([unit])
    assert batch["target"].tolist() == target
    own_mined = rows[int(batch["row"][1])] if outliers == "keep" else np.full(4, -1)
    assert batch["mined"].tolist() == [[-1] * 4, sorted(own_mined.tolist())]


def test_the_random_arm(shards: list[Path]) -> None:
    index = ShardIndex.build(shards)
    read = unit_reader(shards, RandomPartners(index.valid, 2, 0))
    batch = collate([read(position) for position in range(4)])
    assert batch["target"].tolist() == [0, 1, 2, 3, 0, 0, 1, 1, 2, 2, 3, 3]
    assert (batch["mined"] == -1).all()
    rows = batch["row"]
    assert all(rows[i] != rows[t] for i, t in enumerate(batch["target"].tolist()) if i >= 4)


def test_captions_of_a_list_are_drawn_by_epoch_and_row(shards: list[Path]) -> None:
    read = unit_reader(shards, partners=None)
    texts = {tuple(read(position).target.text.tolist()) for position in range(0, 16 * 8)}
    assert len(texts) > 16  # both captions of a row are drawn
    first = [read(position).target.text.tolist() for position in range(16)]
    assert first == [read(position).target.text.tolist() for position in range(16)]


def test_copies_are_recognised_by_content(tmp_path: Path) -> None:
    entries = [("a", sample(0)), ("b", sample(0, txt=b"other")), ("c", sample(1, txt=b"picture number 0"))]
    read = unit_reader([write_tar(tmp_path / "0.tar", entries)], partners=None, caption="txt")
    examples = sorted((read(position).target for position in range(3)), key=lambda example: example.row)
    images, captions = zip(*(example.identity[1:] for example in examples), strict=True)
    assert images[0] == images[1] != images[2] and captions[0] == captions[2] != captions[1]
