# pyright: strict
"""The kind of a file that is no tar, by its first bytes or its name, and the command that converts it to shards."""

from pathlib import Path

from helip.artifacts.tar import printable
from helip.secrets import without_credentials
from helip.storage.base import Shard

ZIP = "unpack it, then convert its files: `helip convert to-shards FOLDER OUT`"
ZSTD = "unpack it (zstd -d), then convert it: `helip convert to-shards FILE OUT`"
OTHER = "docs/your_data.md lists the sources that `helip convert to-shards SOURCE OUT` reads"
# kind: (first bytes, suffixes, what to do first with a file that `helip convert to-shards` does not read)
KINDS: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "a gzip-compressed file": (b"\x1f\x8b", (".tar.gz", ".tgz"), ""),
    "a zstd-compressed file": (b"\x28\xb5\x2f\xfd", (".tar.zst",), ZSTD),
    "a bzip2-compressed file": (b"BZh", (".tar.bz2",), ""),
    "an xz-compressed file": (b"\xfd7zXZ", (".tar.xz",), ""),
    "a zip file": (b"PK\x03\x04", (".zip",), ZIP),
    "a parquet file": (b"PAR1", (".parquet",), ""),
    "an arrow file": (b"ARROW1", (".arrow",), ""),
    "an HDF5 file": (b"\x89HDF", (), OTHER),
    "a git-lfs pointer whose file was not fetched": (b"version https", (), "fetch it with `git lfs pull`"),
    "a CSV list": (b"", (".csv",), ""),
    "a TSV list": (b"", (".tsv",), ""),
    "a JSON file": (b"", (".json",), ""),
    "a JSON list": (b"", (".jsonl",), OTHER),
    "a text file": (b"", (".txt",), ""),
}
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def what_it_is(head: bytes, shard: Shard) -> str:
    """A message about a file that is no tar; empty if its first bytes and its name reveal no kind."""
    by_head = (kind for kind, (magic, _, _) in KINDS.items() if magic and head.startswith(magic))
    kind = next(by_head, None) or by_name(shard.name)
    return f"{printable(shard.name)} is {kind}, no plain tar: {KINDS[kind][2] or converts(shard)}" if kind else ""


def by_name(name: str) -> str | None:
    """The kind of a file by its suffix; None for a tar or an unknown suffix."""
    return next((kind for kind, (_, suffixes, _) in KINDS.items() if name.lower().endswith(suffixes)), None)


def what_it_holds(folder: Path) -> str:
    """Known files in a folder without a .tar, and the command that converts them; empty if there are none."""
    names = [path.name.lower() for path in sorted(folder.iterdir())][:100_000]
    cures = {suffix: cure for _, suffixes, cure in KINDS.values() for suffix in suffixes} | dict.fromkeys(PICTURES, "")
    for suffix, cure in cures.items():
        if count := sum(name.endswith(suffix) for name in names):
            first = cure if cure in (ZIP, ZSTD) else converts(folder)  # a list is read with the files beside it
            return f"it holds {count} {suffix} file{'s' if count > 1 else ''}; {first}"
    return ""


def converts(source: Shard) -> str:
    """The command that converts a source to shards."""
    return f"`helip convert to-shards {printable(without_credentials(str(source)))} OUT` makes shards of it"
