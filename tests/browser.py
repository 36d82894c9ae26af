"""A real browser for tests of pages: Chromium without a window, where there is one."""

import html
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

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
