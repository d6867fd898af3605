# pyright: strict
"""The kind of a file that is no tar, by its first bytes or its name, and the command that converts it to shards."""

from pathlib import Path, PurePosixPath

from helip.artifacts.tar import printable
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
    b"version https": "a git-lfs pointer whose file was not fetched",
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
# Files that `helip convert to-shards` does not read, and what to do first.
CURES = {
    ".zip": "unpack it, then convert its files: `helip convert to-shards FOLDER OUT`",
    ".zst": "unpack it (zstd -d), then convert it: `helip convert to-shards FILE OUT`",
    ".jsonl": "docs/your_data.md lists the sources that `helip convert to-shards SOURCE OUT` reads",
}
CURED_BY_MAGIC = {
    b"PK\x03\x04": CURES[".zip"],
    b"\x28\xb5\x2f\xfd": CURES[".zst"],
    b"\x89HDF": CURES[".jsonl"],
    b"version https": "fetch it with `git lfs pull`",
}
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def what_it_is(head: bytes, shard: Shard) -> str:
    """A message about a file that is no tar; empty if neither its first bytes nor its name reveal its kind."""
    kind = next((what for magic, what in MAGIC.items() if head.startswith(magic)), None) or by_name(shard.name)
    cure = next((cure for magic, cure in CURED_BY_MAGIC.items() if head.startswith(magic)), None) or converts(shard)
    return f"{printable(shard.name)} is {kind}, no plain tar: {cure}" if kind else ""


def by_name(name: str) -> str | None:
    """The kind of a file by its suffix; None for a tar or an unknown suffix."""
    return next((what for suffix, what in SUFFIXES.items() if name.lower().endswith(suffix)), None)


def what_it_holds(folder: Path) -> str:
    """Known files in a folder without a .tar, and the command that converts them; empty if there are none."""
    names = [PurePosixPath(path.name) for path in sorted(folder.iterdir())][:100_000]
    for suffix in (*SUFFIXES, *PICTURES):
        if count := sum(name.name.lower().endswith(suffix) for name in names):
            cure = CURES[suffix[-4:]] if suffix.endswith((".zip", ".zst")) else converts(folder)
            return f"it holds {count} {suffix} file{'s' if count > 1 else ''}; {cure}"
    return ""


def converts(source: Shard) -> str:
    """The command that converts a source to shards, or what to do first."""
    name = str(source).lower()
    if cure := next((cure for suffix, cure in CURES.items() if name.endswith(suffix)), None):
        return cure
    return f"`helip convert to-shards {printable(without_credentials(str(source)))} OUT` makes shards of it"
