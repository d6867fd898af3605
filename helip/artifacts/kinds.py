# pyright: strict
"""What a file is that is no tar, by its first bytes or its name, and the command that makes shards of it."""

from pathlib import Path, PurePosixPath

from helip.secrets import without_credentials
from helip.storage.base import Shard

MAGIC = {
    b"\x1f\x8b": "a gzip-compressed file",
    b"\x28\xb5\x2f\xfd": "a zstd-compressed file",
    b"BZh": "a bzip2-compressed file",
    b"\xfd7zXZ": "an xz-compressed file",
    b"PAR1": "a parquet file",
    b"ARROW1": "an arrow file",
    b"PK\x03\x04": "a zip file",
    b"\x89HDF": "an HDF5 file",
    b"version https": "a pointer of git-lfs, whose file was not fetched",
}
SUFFIXES = {
    ".tar.gz": "a gzip-compressed tar",
    ".tgz": "a gzip-compressed tar",
    ".tar.zst": "a zstd-compressed tar",
    ".tar.bz2": "a bzip2-compressed tar",
    ".tar.xz": "an xz-compressed tar",
    ".zip": "a zip file",
    ".parquet": "a parquet file",
    ".arrow": "an arrow file",
    ".csv": "a CSV list",
    ".tsv": "a TSV list",
    ".json": "a JSON file",
    ".jsonl": "a JSON list",
    ".txt": "a text file",
}
# What `helip convert to-shards` does not read, and what to do first.
CURES = {
    ".zip": "unpack it, then `helip convert to-shards FOLDER OUT` makes shards of what it holds",
    ".zst": "unpack it (zstd -d), then `helip convert to-shards FILE OUT` makes shards of it",
    ".jsonl": "docs/your_data.md shows what `helip convert to-shards SOURCE OUT` makes shards of",
}
CURED_BY_MAGIC = {
    b"PK\x03\x04": CURES[".zip"],
    b"\x28\xb5\x2f\xfd": CURES[".zst"],
    b"\x89HDF": CURES[".jsonl"],
    b"version https": "fetch it with `git lfs pull`",
}
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def what_it_is(head: bytes, shard: Shard) -> str:
    """A sentence on a file that is no tar; empty where neither its first bytes nor its name say what it is."""
    kind = next((what for magic, what in MAGIC.items() if head.startswith(magic)), None) or by_name(shard.name)
    cure = next((cure for magic, cure in CURED_BY_MAGIC.items() if head.startswith(magic)), None) or converts(shard)
    return f"{_plain(shard.name)} is {kind}, no plain tar: {cure}" if kind else ""


def by_name(name: str) -> str | None:
    """What a file is by its suffix; None for a tar and what is not known."""
    return next((what for suffix, what in SUFFIXES.items() if name.lower().endswith(suffix)), None)


def what_it_holds(folder: Path) -> str:
    """Of a folder without a .tar: what else lies there, and the command; empty where that is nothing known."""
    names = [PurePosixPath(path.name) for path in sorted(folder.iterdir())][:100_000]
    for suffix in (*SUFFIXES, *PICTURES):
        if count := sum(name.name.lower().endswith(suffix) for name in names):
            cure = CURES[suffix[-4:]] if suffix.endswith((".zip", ".zst")) else converts(folder)
            return f"it holds {count} {suffix} file{'s' if count > 1 else ''}; {cure}"
    return ""


def converts(source: Shard) -> str:
    """The command that makes shards of a source, or what to do before."""
    name = str(source).lower()
    if cure := next((cure for suffix, cure in CURES.items() if name.endswith(suffix)), None):
        return cure
    return f"`helip convert to-shards {_plain(without_credentials(str(source)))} OUT` makes shards of it"


def _plain(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
