"""Shards cut off at every byte, shards that change under a reader, flipped bytes in every artefact."""

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from helip.artifacts.shards import ShardIndex
from helip.artifacts.sums import SUMS, check_sums
from helip.data.reader import SampleReader, Unreadable
from helip.errors import HelipError
from helip.mining.block_store import BlockStore
from helip.mining.miner import mine
from helip.mining.settings import SearchSettings
from helip.mining.vectors import open_pairs
from tests.faults.artefacts import make_index, make_shards, make_store, small
from tests.faults.injected import in_child
from tests.samples import write_tar


def test_a_shard_cut_off_at_every_byte_gives_its_samples_or_a_sentence(tmp_path: Path) -> None:
    """No length changes the bytes of a sample or raises another error."""
    path = write_tar(tmp_path / "0.tar", [(f"k{n}", small(n)) for n in range(3)])
    whole = {f"k{n}": small(n) for n in range(3)}
    size, read, sentences = path.stat().st_size, 0, 0
    for length in range(size - 1, -1, -1):
        os.truncate(path, length)
        try:
            index = ShardIndex.build([path])
        except HelipError as error:
            assert "nothing in the 1 shards" in str(error)
            sentences += 1
            continue
        reader = SampleReader(index)
        for row in range(len(index)):
            try:
                raw = reader.read(row)
            except Unreadable:
                continue
            expected = whole[index.key(row)]
            assert raw.image == expected["jpg"] and raw.captions == (expected["txt"].decode(),)
            read += 1
    assert size == 10_240 and sentences > 500 and read > 10_000


def test_a_shard_rewritten_in_place_is_never_read_by_old_offsets(tmp_path: Path) -> None:
    """Same size and number of samples, another order: the size alone does not show it."""
    path = write_tar(tmp_path / "0.tar", [(f"k{n}", small(n)) for n in range(3)])
    index = ShardIndex.build([path])
    write_tar(path, [(f"k{n}", small(n)) for n in (2, 0, 1)])
    assert path.stat().st_size == int(index.shard_bytes[0])
    for row in range(3):
        with pytest.raises(HelipError, match=r"0\.tar, key k\d \(row \d\) does not lie where it was indexed"):
            SampleReader(index).read(row)
    path.unlink()
    with pytest.raises(HelipError, match="can no longer be opened"):
        SampleReader(index).read(0)


@pytest.mark.parametrize("make", [make_index, make_store, make_shards])
def test_every_flipped_byte_is_found_by_its_sum(tmp_path: Path, make: Callable[[Path], Callable[[], object]]) -> None:
    """Each byte of each file, also of the sums; loading accepts or refuses it with a message."""
    folder = tmp_path / "artefact"
    load = make(folder)
    assert check_sums(folder) == [] and load() is not None
    tried = 0
    for path in sorted(folder.iterdir()):
        good = path.read_bytes()
        for place in range(len(good)):
            bad = bytearray(good)
            bad[place] ^= 1 << (place % 8)
            path.write_bytes(bad)
            assert check_sums(folder), f"byte {place} of {path.name}"
            if path.name != SUMS:
                with suppress(HelipError):
                    load()
            tried += 1
        path.write_bytes(good)
    assert tried > 1000 and check_sums(folder) == []


@pytest.mark.parametrize("make", [make_index, make_store])
def test_an_array_cut_off_at_every_byte_is_refused(
    tmp_path: Path, make: Callable[[Path], Callable[[], object]]
) -> None:
    folder = tmp_path / "artefact"
    load = make(folder)
    for path in folder.glob("*.npy"):
        good = path.read_bytes()
        for length in range(len(good)):
            path.write_bytes(good[:length])
            with pytest.raises(HelipError):
                load()
        path.write_bytes(good)
    assert load() is not None


def test_a_damaged_file_of_keys_ends_in_a_sentence(tmp_path: Path) -> None:
    """In an own process: the Arrow reader trusts the lengths in a file, and may then read anywhere."""
    folder = tmp_path / "artefact"
    make_shards(folder)
    path = folder / "keys.arrow"
    good = path.read_bytes()

    def refused_or_read() -> None:
        flipped = (good[:place] + bytes([good[place] ^ 0x81]) + good[place + 1 :] for place in range(len(good)))
        for damaged in (*flipped, *(good[:length] for length in range(0, len(good), 16))):
            path.write_bytes(damaged)
            with suppress(HelipError):
                index = ShardIndex.load(folder)
                assert all(index.where(row) for row in range(len(index)))

    assert in_child(refused_or_read) == 0


def test_a_place_before_the_shard_begins_is_no_place(tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    make_shards(folder)
    for name, sentence in (("offset", "does not lie where it was indexed"), ("starts", "columns differ")):
        good = (folder / f"{name}.npy").read_bytes()
        array = np.load(folder / f"{name}.npy")
        array.flat[0] -= 1 << 40
        np.save(folder / f"{name}.npy", array)
        with pytest.raises(HelipError, match=sentence):
            SampleReader(ShardIndex.load(folder)).read(0)
        (folder / f"{name}.npy").write_bytes(good)


@pytest.mark.parametrize("make", [make_index, make_store, make_shards])
def test_an_artefact_is_not_to_be_deleted_because_no_file_can_be_opened(tmp_path: Path, make) -> None:
    """The message must be about the machine, because "delete the folder" would cost hours."""
    load = make(tmp_path / "artefact")

    def without_handles() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        with pytest.raises(OSError, match="Too many open files"):
            load()

    assert in_child(without_handles) == 0


@pytest.mark.parametrize(
    "damage", [lambda good: good[: len(good) // 2], lambda good: b"", lambda good: b"Q" + good[1:]]
)
def test_a_damaged_block_of_an_unfinished_search_is_searched_again(tmp_path: Path, damage) -> None:
    """A damaged plan is refused by name."""
    generator, settings = np.random.default_rng(0), SearchSettings(depth=3, block_rows=8, backend="exact")
    pairs = open_pairs(generator.random((24, 6)), generator.random((24, 4)))
    whole = mine(pairs, tmp_path / "whole", settings, progress=False)
    with mock.patch.object(BlockStore, "assemble", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        mine(pairs, tmp_path / "index", settings, progress=False)
    (partial,) = tmp_path.glob("index.partial-*")
    plan, block = partial / "plan.json", partial / "block-00000001.npz"
    good = plan.read_bytes()
    plan.write_bytes(damage(good))
    with pytest.raises(HelipError, match=r"plan\.json is damaged \(.*: delete .*start the same command again"):
        mine(pairs, tmp_path / "index", settings, progress=False)
    plan.write_bytes(good)
    block.write_bytes(damage(block.read_bytes()))
    with pytest.raises(HelipError, match=r"a damaged block was removed .*: start the same command again"):
        mine(pairs, tmp_path / "index", settings, progress=False)
    found = mine(pairs, tmp_path / "index", settings, progress=False)
    assert (found.rows == whole.rows).all() and (found.scores == whole.scores).all()
