# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Resolve folders, patterns and lists to the ordered list of shards."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import braceexpand

from helip.artifacts.kinds import by_name, what_it_holds, what_it_is
from helip.errors import HelipError
from helip.secrets import without_credentials
from helip.storage.base import Address, Shard, as_shard
from helip.storage.schemes import Storages

HOW_TO_GET = "docs/datasets.md says how to get the shards; HELIP_DATA or paths.data says where they are"


def resolve_shards(path: str | Path | Iterable[str | Path]) -> list[Shard]:
    """The tars of a folder, a file, a pattern with braces or `*`, several of these joined by `::`, or a list of these.

    Raises:
        HelipError: braces do not match, a file is no tar, or there are no shards.
    """
    if not isinstance(path, str | Path):
        return [shard for one in path for shard in resolve_shards(one)]
    if isinstance(path, Path) and not os.path.lexists(path):
        raise HelipError(f"shard {path} does not exist: check dataset.path")
    if isinstance(path, Path) or os.path.exists(path):
        return _expanded(path, [as_shard(path)])
    if path.startswith("pipe:"):
        raise HelipError(f"dataset.path={path} is a command, but HELIP reads shards by offset: name the tars")
    if "::" in path:  # as open_clip joins several
        return resolve_shards(path.split("::"))
    try:
        names = list(braceexpand.braceexpand(path))
    except ValueError as error:
        raise HelipError(f"dataset.path={path} has unmatched braces: give DIR/{{00000..00331}}.tar") from error
    return _expanded(path, [as_shard(name) for name in names])


def _expanded(path: str | Path, named: list[Shard]) -> list[Shard]:
    storages = Storages()

    def there(shard: Shard) -> list[Shard]:
        return storages.of(shard).list(str(shard))

    if len(named) > 1 and isinstance(named[0], Address):  # one request to a server each
        with ThreadPoolExecutor(16) as pool:
            lists = list(pool.map(there, named))
    else:
        lists = [there(shard) for shard in named]
    found = {str(shard): one for shard, one in zip(named, lists, strict=True)}
    shards = [shard for one in named for shard in found[str(one)]]
    shown = without_credentials(str(path))
    if not shards:
        if Path(path).is_dir():
            held = what_it_holds(Path(path))
            raise HelipError(f"no .tar file in {shown}: {held or HOW_TO_GET}")
        raise HelipError(f"no shards at {shown}: {HOW_TO_GET}")
    if missing := [shard for shard in named if not found[str(shard)]]:
        raise HelipError(
            f"{len(missing)} of the {len(named)} shards of {shown} are missing, the first is "
            f"{missing[0].name}: fetch them, or set dataset.path to the shards that you have"
        )
    for shard in shards:
        if isinstance(shard, Path) and not shard.is_file():
            raise HelipError(f"{shard} is a broken link or no file: restore or remove it")
        if by_name(shard.name) is not None:
            raise HelipError(what_it_is(b"", shard))
    return shards
