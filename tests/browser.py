"""A real browser for tests of pages: Chromium without a window, where there is one."""

import base64
import html
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

_PLUMBING = """
import fcntl, os, sys
free = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
os.dup2(free[0], 3)
os.dup2(free[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads its messages from 3 and writes them to 4, whatever numbers the pipes have here."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def dump(page: Path, fragment: str = "") -> str:
    """Return the document of `page` at `#fragment` once its scripts have run; skip the test if no browser is found."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is on the path")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            found,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--window-size=1400,1000",
            "--virtual-time-budget=4000",
            "--enable-logging=stderr",
            "--dump-dom",
            f"{page.resolve().as_uri()}#{fragment}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    title = re.search("<title>.*</title>", page.read_text(encoding="utf-8"))
    assert title
    if title[0] not in done.stdout:  # a crash, or a browser that may not read this folder
        pytest.skip(f"{found} does not open files here: {done.stderr[-200:]}")
    errors = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert not errors, errors
    return done.stdout


def text_of(document: str, element_id: str) -> str:
    """Return the text of an element of `document` that holds text alone."""
    found = re.search(rf'id="{element_id}"[^>]*>([^<]*)<', document)
    assert found, element_id
    return html.unescape(found[1])


@contextmanager
def opened(
    page: Path, downloads: Path, *, width: int = 1400, height: int = 1000, dark: bool = False
) -> Iterator["Tab"]:
    """Open `page` in a browser that saves files in `downloads`; skip the test if no browser is found.

    The browser is spoken to over two pipes, in the DevTools protocol: JSON messages, each ended by a zero byte.
    """
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is on the path")
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = f"--headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={profile}"
        command = [sys.executable, "-c", _PLUMBING, str(to_browser), str(from_browser), found, *flags.split()]
        process = subprocess.Popen(command, pass_fds=(to_browser, from_browser), stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        try:
            with os.fdopen(ours_out, "wb", buffering=0) as out, os.fdopen(ours_in, "rb", buffering=0) as back:
                tab = Tab(out, back)
                tab.start(page, downloads, width, height, dark)
                yield tab
                assert not tab.errors, tab.errors
        finally:
            process.kill()
            process.wait()


class Tab:
    """A page in a browser, with hands."""

    def __init__(self, out: IO[bytes], back: IO[bytes]) -> None:
        self._out, self._back = out, back
        self._number = 0
        self._session: str | None = None
        self._read = b""
        self.errors: list[str] = []
        self._seen: list[str] = []

    def start(self, page: Path, downloads: Path, width: int, height: int, dark: bool) -> None:
        """Open `page` and wait until it is loaded."""
        behaviour = {"behavior": "allow", "downloadPath": str(downloads.resolve()), "eventsEnabled": True}
        self.call("Browser.setDownloadBehavior", behaviour)
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.go(page)

    def go(self, page: Path) -> None:
        """Load `page`, also anew."""
        self._seen.clear()
        done = self.call("Page.navigate", {"url": page.resolve().as_uri()})
        assert page.is_file(), page
        if done.get("errorText") in ("net::ERR_ACCESS_DENIED", "net::ERR_FILE_NOT_FOUND"):  # it is confined elsewhere
            pytest.skip(f"the browser may not read {page.parent}: {done['errorText']}")
        assert "errorText" not in done, done
        self.wait_for("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return the value of `script` in the page."""
        done = self.call("Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True})
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys one after the other, by their names in the DOM (`Tab`, `j`, `1`)."""
        for key in keys:
            code = {"Tab": 9, "Enter": 13}.get(key, ord(key.upper()[0]))
            text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, "windowsVirtualKeyCode": code} | text)
            self.call("Input.dispatchKeyEvent", {"type": "keyUp", "key": key, "windowsVirtualKeyCode": code})

    def write(self, text: str) -> None:
        """Write `text` where the cursor is."""
        self.call("Input.insertText", {"text": text})

    def picture(self, path: Path) -> None:
        """Save the whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])

    def wait_for(self, event: str) -> None:
        """Wait until the browser has told of `event`, also before this call."""
        while event not in self._seen:
            self._message()

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self._back], [], [], 60)[0], "the browser says nothing"
            piece = os.read(self._back.fileno(), 2**20)
            assert piece, "the browser is gone"
            self._read += piece
        one, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        method, told = message.get("method"), message.get("params", {})
        if method:
            self._seen.append(method)
        if method == "Browser.downloadProgress":
            self._seen.append(f"download {told['state']}")
        if method == "Runtime.exceptionThrown" or (method == "Log.entryAdded" and told["entry"]["level"] == "error"):
            self.errors.append(json.dumps(told))
        return message
