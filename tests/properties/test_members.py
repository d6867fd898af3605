"""Rows, images and captions of random tars against webdataset's own grouping under the same preference."""

import io
import tarfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_iterator

from helip.artifacts.members import CAPTIONS, IMAGES, Members
from helip.artifacts.shard_scan import scan_shard
from helip.storage.local import Local

SUFFIXES = ("jpg", "JPG", "png", "webp", "txt", "text", "caption", "json", "cls", "seg.png", "left.jpg", "0.txt", "npy")
FOLDERS = st.sampled_from(["", "a/", "a.b/", "./", "a/b.c/d/", "__x__/", "__x/"])
BASES = st.sampled_from(["0", "1", "00", "é", "a b", "_", "k-1"])
SAMPLES = st.lists(
    st.tuples(FOLDERS, BASES, st.lists(st.sampled_from(SUFFIXES), max_size=6, unique_by=str.lower)),
    max_size=8,
    unique_by=lambda sample: sample[:2],
)
MAPPED = st.sampled_from(
    [
        Members(),
        Members.of({"image": ["left.jpg", "png"]}),
        Members.of({"caption": ["0.txt", "caption"]}),
        Members.of({"image": ["png", "jpg"], "caption": ["text"]}),
    ]
)


def write(path: Path, samples, strangers: bool) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number, (folder, base, suffixes) in enumerate(samples):
            for place, suffix in enumerate(suffixes):
                names = [f"{folder}{base}.{suffix}"]
                names += ["README", f"a/.hidden{number}-{place}", "d.x/nothing"] if strangers else []
                for name in names:
                    data = f"{number} {place} {name}".encode()
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def by_webdataset(path: Path, members: Members) -> list[tuple[str, list[bytes]]]:
    """Key, and the contents of image, caption and metadata of each sample, empty where there is none."""
    with open(path, "rb") as stream:
        files = [one | {"__url__": ""} for one in tar_file_iterator(stream)]  # type: ignore[arg-type]
    found = []
    for sample in group_by_keys(iter(files)):
        columns = (members.image, members.caption, ("json",))
        found.append((sample["__key__"], [next((sample[s] for s in order if s in sample), b"") for order in columns]))
    return found


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SAMPLES, MAPPED, st.booleans())
def test_samples_are_those_of_webdataset(tmp_path: Path, samples, members: Members, strangers: bool) -> None:
    path = tmp_path / "0.tar"
    write(path, samples, strangers)
    scan, local = scan_shard(path, members), Local()
    ours = [
        (
            key,
            [local.read(path, int(at), max(0, int(size))) for at, size in zip(offset, sizes, strict=True)],
        )
        for key, offset, sizes in zip(scan.keys.to_pylist(), scan.offset, scan.size, strict=True)
    ]
    assert ours == by_webdataset(path, members)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(["jpg", "png", "txt", "json"]), st.permutations(["jpg", "png", "txt", "json"]))
def test_the_order_of_members_changes_nothing(tmp_path: Path, one, other) -> None:
    for name, orders in (("a", one), ("b", other)):
        write(tmp_path / f"{name}.tar", [("", "0", orders)], False)
    local = Local()

    def read(path: Path) -> list[str]:
        scan = scan_shard(path, Members())
        return [
            local.read(path, int(at), int(size)).decode()[4:]
            for at, size in zip(scan.offset[0], scan.size[0], strict=True)
        ]

    assert read(tmp_path / "a.tar") == read(tmp_path / "b.tar") == ["0.jpg", "0.txt", "0.json"]


def test_the_defaults_are_what_the_documentation_says() -> None:
    said = (Path(__file__).parents[2] / "docs/datasets.md").read_text()
    assert f"[{', '.join(IMAGES)}]" in said and f"[{', '.join(CAPTIONS)}]" in said
