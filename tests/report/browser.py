"""Opens a page in a real browser: its errors, the pictures that it does not show, and a screenshot.

It uses Chromium's DevTools protocol over two pipes: JSON messages that end in a zero byte, without a package.

    python -m tests.report.browser PAGE.html OUT.png [--width 1200] [--dark] [--height 900]
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PICTURES = """JSON.stringify([...document.images].map((image) => image.complete && image.naturalWidth > 0))"""


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Visit:
    """Record of a page that was opened.

    Attributes:
        complaints: exceptions, console errors and warnings, and violations of the content security policy.
        requests: addresses that it requested, except itself and data URIs.
        pictures: for each picture whether it is shown.
        overflow: pixels by which the page is wider than the window.
        screenshot: PNG.
    """

    complaints: list[str]
    requests: list[str]
    pictures: list[bool]
    overflow: int
    screenshot: bytes


class Browser:
    """A headless Chromium, as a context manager."""

    def __init__(self, executable: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="helip-chromium-", ignore_cleanup_errors=True)
        ours_in, its_out = os.pipe()
        its_in, ours_out = os.pipe()
        arguments = [executable, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        arguments += ["--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={self._profile.name}"]
        # The browser uses its descriptors 3 and 4 for the protocol.
        script = 'exec 3<&"$0" 4>&"$1"; shift 1; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, str(its_in), str(its_out), *arguments],
            pass_fds=(its_in, its_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_in)
        os.close(its_out)
        self._read, self._write = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb", buffering=0)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._read.close()
        self._write.close()
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command; other messages that arrive meanwhile are appended to `events`."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = self._read.read(1 << 20)
            assert piece, "the browser is gone"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def wait(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._receive())

    def visit(
        self, page: Path, width: int = 1200, height: int = 900, dark: bool = False, whole: bool = True, script: str = ""
    ) -> Visit:
        """Open a page from disk, run `script` in it, and record it."""
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        address = page.absolute().as_uri()
        self.call("Page.navigate", url=address)
        self.wait("Page.loadEventFired")
        if script:
            done = self.call("Runtime.evaluate", expression=script, awaitPromise=True)
            assert "exceptionDetails" not in done, done
        pictures = json.loads(self.call("Runtime.evaluate", expression=PICTURES)["result"]["value"])
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        overflow = self.call("Runtime.evaluate", expression=wide)["result"]["value"]
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        self.call("Page.disable")
        return Visit(self._complaints(), self._requests(address), pictures, overflow, base64.b64decode(shot["data"]))

    def _complaints(self) -> list[str]:
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(parameters["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
            elif event.get("method") == "Runtime.consoleAPICalled":
                found.append(json.dumps(parameters["args"]))
        return found

    def _requests(self, own: str) -> list[str]:
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"].split("#")[0] for event in sent]
        return [address for address in addresses if address != own and not address.startswith("data:")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=900, help="of the window; 0: the whole page")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--script", default="", help="run in the page first, such as scrollTo(0, 900)")
    asked = parser.parse_args()
    executable = find_chromium()
    assert executable, "no chromium on PATH"
    with Browser(executable) as browser:
        seen = browser.visit(asked.page, asked.width, asked.height, asked.dark, False, asked.script)
    asked.out.write_bytes(seen.screenshot)
    print(f"{len(seen.pictures)} pictures, {seen.pictures.count(False)} missing; wider by {seen.overflow} px")
    print("\n".join([*seen.complaints, *seen.requests]) or "no complaint, no request")


if __name__ == "__main__":
    main()
