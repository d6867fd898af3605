"""Finds the storage of a scheme: Local for `file`, a module beside this one, a registered storage, or fsspec."""

from copy import copy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from helip.errors import HelipError
from helip.storage.base import Shard, Storage, scheme_of
from helip.storage.local import Local

_registered: dict[str, Storage] = {"file": Local()}


def register(scheme: str, storage: Storage) -> None:
    """From now on, read addresses that begin with `scheme://` by copies of `storage`."""
    _registered[scheme.lower()] = storage


def _made(scheme: str) -> Storage:
    """The storage in helip/storage/SCHEME.py if that file exists, else one of fsspec. Raises HelipError without one."""
    module = f"{__package__}.{scheme}"
    if scheme.isidentifier() and find_spec(module) is not None:
        return import_module(module).Scheme()
    try:
        from fsspec.registry import known_implementations, registry
    except ImportError as error:
        raise HelipError(f"{scheme}:// is read by fsspec: pip install 'helip[remote]', or copy the shards") from error
    if scheme not in known_implementations and scheme not in registry:
        raise HelipError(
            f"no storage reads {scheme}://: copy the shards to a local disk, or name a storage for the scheme, "
            f"+paths.storages.{scheme}={{_target_: a.B}}"
        )
    from helip.storage.remote import Remote

    return Remote()


class Storages:
    """The storages of a set of shards, each created when its first shard is read."""

    def __init__(self) -> None:
        self._known: dict[str, Storage] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_known": {scheme: copy(storage) for scheme, storage in self._known.items()}}

    def of(self, shard: Shard | str) -> Storage:
        """The storage of a shard. Raises HelipError if no storage and no file system of fsspec has its scheme."""
        scheme = scheme_of(shard)
        if scheme not in self._known:
            if scheme not in _registered:
                register(scheme, _made(scheme))
            self._known[scheme] = copy(_registered[scheme])  # shares no open files
        return self._known[scheme]

    def size(self, shard: Shard) -> int:
        return self.of(shard).size(shard)

    def stamp(self, shard: Shard) -> int | str:
        return self.of(shard).stamp(shard)
