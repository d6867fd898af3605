"""Shards behind an address (s3, http, https; also gs, az and hf), read by ranges through a block cache.

Decision: fsspec implements the protocols (the extra `remote`). The block cache is ours, because fsspec's caches are
neither bounded nor shared by processes. A process pins a shard to its version (ETag, else time and size) at the first
access. Requests ask for that version only, and another version is an error.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from helip.errors import HelipError
from helip.secrets import without_credentials
from helip.storage.ahead import Ahead
from helip.storage.base import Address, Shard, scheme_of
from helip.storage.blocks import BLOCK, KEEP, BlockCache

TRIES, FIRST_WAIT, LONGEST_WAIT = 7, 0.2, 8.0  # seconds; 15 s together
SILENCE = 30.0  # seconds without a byte before a request is repeated
FRESH = 30.0  # seconds for which the size and version of a shard are not requested again
AHEAD = 64  # rows that are fetched before they are read, if the cache has room for eight blocks of each
GIB = 1 << 30


@dataclass(frozen=True)
class Facts:
    """Size and version of a shard, as its server reports them."""

    size: int
    version: str
    etag: str | None
    changed: float


@dataclass
class CacheSettings:
    """Where blocks are kept, and how many bytes of them (paths.cache, paths.cache_bytes)."""

    folder: Path = Path(os.environ.get("HELIP_CACHE", gettempdir())) / f"helip-blocks-{os.getuid()}"
    limit: int = 20 * GIB


cache_settings = CacheSettings()  # of this process; the programs set it before they open a shard
known_facts: dict[str, tuple[float, Facts]] = {}  # of this process, with the time of the answer


def keep_blocks(folder: Path, limit: int) -> None:
    """Set the cache of this process and of those that it starts. Raises HelipError for a limit below 16 blocks."""
    if not isinstance(limit, int) or limit < 16 * BLOCK:
        raise HelipError(f"paths.cache_bytes={limit} must be at least {16 * BLOCK:,} bytes")
    cache_settings.folder, cache_settings.limit = folder.absolute(), limit


class Remote:
    """Implements helip.storage.base.Storage by fsspec."""

    window = 8 * BLOCK  # a scan asks for this much at once and skips members that are larger

    def __init__(self, **options: Any) -> None:
        """`options` are arguments of fsspec's file system, such as `endpoint_url` of s3."""
        self.options: dict[str, Any] = options
        self.cache_settings: CacheSettings | None = None  # those of another process after unpickling
        self._reset()

    def _reset(self) -> None:
        self._systems: dict[tuple[int, str], Any] = {}
        self._pinned: dict[str, Facts] = {}
        self._ranged = False  # whether the last answer was a range
        self._background = Ahead(self._fetch_block)

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "cache_settings": self.cache_settings or cache_settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._reset()

    @cached_property
    def cache(self) -> BlockCache:
        settings = self.cache_settings or cache_settings
        return BlockCache(settings.folder, settings.limit)

    @property
    def ahead(self) -> int:
        return min(AHEAD, self.cache.limit // BLOCK // 8)

    def prefetch(self, shard: Shard, offset: int, size: int) -> None:
        """Does nothing until an answer was a range: a server without ranges would send a whole shard per block."""
        if self._ranged or not scheme_of(shard).startswith("http"):
            self._system(scheme_of(shard))
            for number in range(offset // BLOCK, -(-(offset + size) // BLOCK)):
                self._background.ask((shard, number))

    def _fetch_block(self, block: tuple[Shard, int]) -> None:
        """Put a block into the cache unless it is there. Tries once: `read` tries again."""
        (shard, number), first = block, block[1] * BLOCK
        facts = self._pin(shard)
        what = _named(shard, facts)
        if first < facts.size and self.cache.get(what, number, 0, 1) is None:
            self._kept(what, *self._fetched(shard, facts, first, min(first + BLOCK, facts.size), tries=1), first, first)

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        facts = self._pin(shard)
        stop = min(offset + size, facts.size)
        if offset >= stop:
            return b""
        what = _named(shard, facts)
        numbers = range(offset // BLOCK, -(-stop // BLOCK))
        found: dict[int, bytes] = {}
        for number in numbers:
            first = number * BLOCK
            self._background.wait((shard, number))
            cached = self.cache.get(what, number, max(0, offset - first), min(BLOCK, stop - first))
            if cached is not None and len(cached) == min(BLOCK, stop - first) - max(0, offset - first):
                found[number] = cached
        for first, last in _runs([number for number in numbers if number not in found]):
            if first not in found:  # otherwise it came with the whole shard
                fetched = self._fetched(shard, facts, first * BLOCK, min((last + 1) * BLOCK, facts.size))
                found |= self._kept(what, *fetched, offset, stop)
        return b"".join(found[number] for number in numbers)

    def _kept(self, what: str, begin: int, data: bytes, offset: int, stop: int) -> dict[int, bytes]:
        """Cache the blocks of `data`, which begins at byte `begin`, and return their parts between `offset` and `stop`.

        All blocks of a whole shard are cached if they fit, because the next miss would fetch the whole shard again.
        """
        parts: dict[int, bytes] = {}
        fits = len(data) <= KEEP * self.cache.limit
        for number in range(begin // BLOCK, -(-(begin + len(data)) // BLOCK)):
            first = number * BLOCK
            block = data[first - begin : first - begin + BLOCK]
            wanted = first < stop and first + BLOCK > offset
            if wanted or fits:
                self.cache.put(what, number, block)
            if wanted:
                parts[number] = block[max(0, offset - first) : stop - first]
        return parts

    def size(self, shard: Shard) -> int:
        return self._facts(shard).size

    def stamp(self, shard: Shard) -> str:
        return self._facts(shard).version

    def changed(self, shard: Shard) -> float:
        return self._facts(shard).changed

    def list(self, pattern: str) -> list[Shard]:
        address, scheme = Address(pattern), scheme_of(pattern)
        if not scheme.startswith("http") and (pattern.endswith("/") or any(sign in pattern for sign in "*?[")):
            names = self._tried(address, lambda: self._system(scheme).glob(pattern + "*.tar" * pattern.endswith("/")))
            return [Address(f"{scheme}://{name.split('://', 1)[-1]}") for name in sorted(names)]
        try:
            self._facts(address)
        except FileNotFoundError:
            return []
        return [address]

    def _pin(self, shard: Shard) -> Facts:
        if (facts := self._pinned.get(str(shard))) is None:
            facts = self._pinned.setdefault(str(shard), self._facts(shard))
        return facts

    def _facts(self, shard: Shard) -> Facts:
        asked, facts = known_facts.get(str(shard), (0.0, None))
        if facts is None or asked + FRESH < time.monotonic():
            scheme = scheme_of(shard)
            anew = {"refresh": True} if scheme == "s3" else {}
            facts = self._tried(shard, lambda: _facts(self._system(scheme).info(str(shard), **anew)))
            known_facts[str(shard)] = (time.monotonic(), facts)
        return facts

    def _fetched(
        self, shard: Shard, facts: Facts, start: int, stop: int, tries: int | None = None
    ) -> tuple[int, bytes]:
        """First byte and content of a range, or of the whole shard if the server has no range requests."""

        def fetch() -> tuple[int, bytes]:
            data = self._range(shard, facts, start, stop)
            if len(data) not in (stop - start, facts.size):
                raise ConnectionError(f"{len(data):,} of {stop - start:,} bytes came")
            self._ranged = len(data) == stop - start
            return start if self._ranged else 0, data

        return self._tried(shard, fetch, tries)

    def _range(self, shard: Shard, facts: Facts, start: int, stop: int) -> bytes:
        system = self._system(scheme_of(shard))
        if scheme_of(shard).startswith("http"):
            headers = {"Accept-Encoding": "identity"}
            if facts.etag and not facts.etag.startswith("W/"):
                headers["If-Match"] = facts.etag
            return system.cat_file(str(shard), start=start, end=stop, headers=headers)
        with system.open(str(shard), "rb", cache_type="none") as file:
            if str(file.details.get("ETag") or facts.etag) != str(facts.etag):
                raise _changed(shard)
            file.seek(start)
            return file.read(stop - start)

    def _tried(self, shard: Shard, action: Any, tries: int | None = None) -> Any:
        """The result of an action; temporary errors are retried with growing waits."""
        tries = tries or TRIES
        for attempt in range(tries):
            try:
                return action()
            except (FileNotFoundError, HelipError):
                raise
            except Exception as error:
                if getattr(error, "status", None) == 412 or type(error).__name__ == "FileExpired":
                    raise _changed(shard) from None
                last = error
                if isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403):
                    break
            if attempt + 1 < tries:
                time.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * (0.5 + random.random()))
        reason = without_credentials(f"{type(last).__name__}: {last}").splitlines()[0][:200]
        raise HelipError(
            f"shard {without_credentials(str(shard))} cannot be reached ({reason}): check the address, the credentials "
            "and the network, then run the same command again"
        ) from None

    def _system(self, scheme: str) -> Any:
        """fsspec's file system, one per process because its event loop does not survive a fork."""
        key = (os.getpid(), scheme)
        if key not in self._systems:
            try:
                import fsspec

                options = {"skip_instance_cache": True, "use_listings_cache": False} | self.options
                if scheme.startswith("http"):
                    from aiohttp import ClientTimeout

                    patience = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
                    options = {"client_kwargs": {"timeout": patience}} | options
                self._systems[key] = fsspec.filesystem(scheme, **options)
            except (ImportError, ValueError) as error:
                raise HelipError(f"{scheme}:// cannot be read here ({error}): pip install 'helip[remote]'") from error
        return self._systems[key]


def _named(shard: Shard, facts: Facts) -> str:
    """Names one version of a shard in the cache."""
    return f"{without_credentials(str(shard))}\0{facts.version}"


def _facts(info: dict[str, Any]) -> Facts:
    if info.get("type") == "directory":
        raise FileNotFoundError(info["name"])
    etag = info.get("ETag") or info.get("etag")
    when: Any = info.get("LastModified") or info.get("Last-Modified") or info.get("last_modified") or info.get("mtime")
    if isinstance(when, str):
        when = parsedate_to_datetime(when)
    changed = when.timestamp() if hasattr(when, "timestamp") else float(when or 0)
    if info.get("size") is None:
        raise HelipError(
            f"{without_credentials(info['name'])} is on a server that does not report its size: copy it to a local disk"
        )
    return Facts(int(info["size"]), str(etag or f"{info['size']}-{changed}"), etag, changed)


def _changed(shard: Shard) -> HelipError:
    place = without_credentials(str(shard))
    return HelipError(f"shard {place} changed since it was indexed: run the command again to index it anew")


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of adjacent numbers."""
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1]
