"""A small HTTP server of a folder, with or without ranges, with an ETag, a latency, and faults on demand."""

import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("reset", "503", "truncated", "wrong length")


@dataclass
class Server:
    """Behaviour of a server, and counts of its requests.

    Attributes:
        faults: faults of the next requests for data, in order; None serves.
    """

    folder: Path
    ranges: bool = True
    etag: bool = True
    latency: float = 0.0
    url: str = ""
    faults: list[str | None] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def addresses(self, shards: list[Path]) -> list[str]:
        return [f"{self.url}/{shard.name}" for shard in shards]


def forget(cache: Path) -> None:
    """Delete all cached blocks."""
    for block in cache.rglob("*-*"):
        block.unlink()


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            time.sleep(server.latency)
            path = server.folder / self.path.split("?", 1)[0].lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            state = path.stat()
            etag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if server.ranges else None
            if body and server.etag and self.headers.get("If-Match", etag) != etag:
                self.send_error(412)
                return
            first, last = (int(asked[1]), min(int(asked[2]), state.st_size - 1)) if asked else (0, state.st_size - 1)
            with path.open("rb") as file:
                file.seek(first)
                part = file.read(last + 1 - first)
            with server.lock:
                fault = server.faults.pop(0) if body and server.faults else None
                server.injected[fault or ""] += 1
                server.requests += 1
                server.sent += len(part) if body else 0
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True  # unsent data make it a reset for the client
                return
            if fault == "503":
                self.send_error(503)
                return
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {first}-{last}/{state.st_size}")
            if server.etag:
                self.send_header("ETag", etag)
            if not server.ranges:
                self.send_header("Accept-Ranges", "none")
            if fault == "wrong length":
                part = part[: len(part) // 2]
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if body:
                self.wfile.write(part[: len(part) // 2] if fault == "truncated" else part)
            if fault == "truncated":
                self.close_connection = True

    return Handler


@contextmanager
def serving(folder: Path, **how: bool | float) -> Iterator[Server]:
    """Serve a folder on 127.0.0.1."""
    server = Server(folder, **how)  # type: ignore[arg-type]
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(server))
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
