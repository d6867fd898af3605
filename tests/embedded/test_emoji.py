"""The shards that come with the package: layout, sizes, and no sample of one part in another."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from experiments.emoji.build import LIMIT
from helip.embedded import EMOJI, emoji_shards
from helip.errors import HelipError

PARTS = ("train", "val", "test", "concepts")
FIELDS = ["caption", "url", "key", "status", "width", "height"]
FIELDS += ["hexcode", "style", "group", "subgroup", "tags", "skintone"]


def _members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def shards() -> dict[str, list[dict[str, bytes]]]:
    return {part: [_members(shard) for shard in emoji_shards(part)] for part in PARTS}


@pytest.fixture(scope="module")
def records(shards) -> dict[str, list[dict]]:
    return {
        part: [json.loads(members[name]) for members in shards[part] for name in members if name.endswith(".json")]
        for part in PARTS
    }


def test_parts_name_every_shard_once_in_contiguous_ranges_with_true_counts(records) -> None:
    parts = json.loads((EMOJI / "parts.json").read_text())
    names = [name for part in PARTS for name in parts[part]["shards"]]
    assert names == sorted(path.name for path in EMOJI.glob("*.tar"))
    for part in PARTS:
        assert parts[part]["count"] == len(records[part])
        assert parts[part]["styles"] == Counter(record["style"] for record in records[part])
        assert parts[part]["concepts"] == len({record["hexcode"] for record in records[part]})


def test_samples_are_in_the_layout_of_img2dataset(shards) -> None:
    keys = []
    for part in PARTS:
        for shard, members in zip(emoji_shards(part), shards[part], strict=True):
            names = list(members)
            own = [name.removesuffix(".webp") for name in names if name.endswith(".webp")]
            assert names == [f"{key}.{kind}" for key in own for kind in ("webp", "txt", "json")]
            assert own == [f"{shard.stem}{place:04d}" for place in range(len(own))]
            statistics = json.loads(shard.with_name(f"{shard.stem}_stats.json").read_text())
            assert statistics["successes"] == len(own)
            keys += own
    assert len(set(keys)) == len(keys) > 4000


def test_json_holds_the_fields_and_agrees_with_text_and_key(shards) -> None:
    for members in (members for part in PARTS for members in shards[part]):
        for name in members:
            if name.endswith(".json"):
                record, key = json.loads(members[name]), name.removesuffix(".json")
                assert list(record) == FIELDS
                assert record["key"] == key and record["status"] == "success"
                assert record["caption"] == members[f"{key}.txt"].decode("utf-8") != ""
                assert record["group"] and record["subgroup"] and record["url"].startswith("https://")
                assert len(members[name]) <= 512


def test_every_image_decodes_to_64_pixels_and_is_a_drawing_on_white(shards) -> None:
    for members in (members for part in PARTS for members in shards[part]):
        for name, data in members.items():
            if name.endswith(".webp"):
                picture = Image.open(io.BytesIO(data)).convert("L")
                assert picture.size == (64, 64)
                low, high = picture.getextrema()
                # the palest drawing (the white flag) still differs from blank paper
                assert high - low > 15, name  # type: ignore[operator]


def test_headers_name_no_owner_and_no_time() -> None:
    for shard in EMOJI.glob("*.tar"):
        with tarfile.open(shard) as tar:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} == {(0, 0, 0, "", 0o644)}
            assert not tar.pax_headers


def test_training_sees_neither_openmoji_nor_a_held_out_concept(records) -> None:
    trained = {record["hexcode"] for record in records["train"]}
    assert "openmoji" not in {record["style"] for record in records["train"]}
    assert {record["style"] for part in ("val", "test") for record in records[part]} == {"openmoji"}
    assert not trained & {record["hexcode"] for record in records["concepts"]}
    held_out = {record["caption"] for record in records["concepts"]}
    assert not held_out & {record["caption"] for part in ("train", "val", "test") for record in records[part]}
    assert {record["hexcode"] for part in ("val", "test") for record in records[part]} <= trained


def test_val_and_test_are_disjoint_and_their_captions_unique(records) -> None:
    captions = {part: [record["caption"] for record in records[part]] for part in ("val", "test")}
    for part in ("val", "test"):
        assert len(set(captions[part])) == len(captions[part]) >= 200
        assert {record["skintone"] for record in records[part]} >= {"", "1", "5"}
    assert not set(captions["val"]) & set(captions["test"])


def test_held_out_concepts_have_siblings_in_training_and_all_their_styles(records) -> None:
    trained = {record["subgroup"] for record in records["train"]}
    styles: dict[str, set[str]] = {}
    for record in records["concepts"]:
        assert record["subgroup"] in trained
        styles.setdefault(record["hexcode"], set()).add(record["style"])
    assert all({"noto", "twemoji", "openmoji"} <= found for found in styles.values())


def test_families_of_hard_pairs_are_complete(records) -> None:
    names = {record["caption"] for part in PARTS for record in records[part]}
    hours = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    assert {f"{hour}{half}" for hour in hours for half in (" o\u2019clock", "-thirty")} <= names
    assert {f"keycap: {digit}" for digit in "0123456789#*"} <= names
    assert {f"{who}firefighter" for who in ("", "man ", "woman ")} <= names
    tones = ("light", "medium-light", "medium", "medium-dark", "dark")
    assert {f"thumbs up: {tone} skin tone" for tone in tones} <= names
    assert sum(name.startswith("flag: ") for name in names) > 240


def test_fluent_holds_only_what_microsoft_released(records) -> None:
    fluent = [record for part in PARTS for record in records[part] if record["style"] == "fluent"]
    assert not [record["caption"] for record in fluent if record["caption"].startswith("flag:")]
    assert not {"paperclip", "linked paperclips", "video game", "technologist"} & {r["caption"] for r in fluent}
    assert not [record["caption"] for record in fluent if "technologist" in record["caption"]]


def test_the_folder_keeps_within_its_limit_and_carries_its_licences() -> None:
    files = [path for path in EMOJI.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LIMIT <= 15_500_000
    licences = {path.name for path in (EMOJI / "LICENSES").iterdir()}
    attribution = (EMOJI / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert licences and all(f"LICENSES/{name}" in attribution for name in licences)
    for package in json.loads((EMOJI / "build.json").read_text())["packages"].values():
        assert f"`{package['name']}` {package['version']}" in attribution


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(HelipError, match="no part 'trian'"):
        emoji_shards("trian")
