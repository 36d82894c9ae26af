"""What the page is told, its files and samples, without a browser."""

import io
import re

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from serving_server import running
from starlette.responses import JSONResponse

from gmai_vl.serving.demo import PAGE, demo_routes
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.samples import SAMPLES


@pytest.fixture(scope="module")
def url():
    app = FastAPI()
    app.include_router(demo_routes(["a", "b"], Limits()))
    app.add_exception_handler(Refusal, lambda _request, bad: JSONResponse(bad.body(), bad.status))
    with running(app) as address:
        yield address


def test_the_page_asks_for_its_own_files_only_and_all_are_there(url):
    page = httpx.get(url).text
    asked = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    for script in PAGE.glob("*.js"):
        asked |= {f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())}
    assert asked
    for path in asked:
        assert path.startswith("/page/")
        assert httpx.get(url + path).status_code == 200
    assert {f"/page/{path.name}" for path in PAGE.iterdir() if path.suffix != ".html"} == asked, "no file without use"
    assert "style=" not in page
    assert "<script>" not in page


@pytest.mark.parametrize("name", ["..%2fdemo.py", "%2e%2e%2fengine.py", "nothing.js", "index.html%00.js", "a" * 5000])
def test_no_name_leads_anywhere_else(url, name):
    assert httpx.get(f"{url}/page/{name}").status_code in (404, 414)
    assert httpx.get(f"{url}/demo/samples/{name}.png").status_code in (404, 414)


def test_every_word_is_there_in_both_languages(url):
    told = httpx.get(f"{url}/demo/about").json()
    assert told["models"] == ["a", "b"]
    assert len(told["tasks"]) == 6
    assert len(told["body_systems"]) == 11
    for entry in (*told["tasks"], *told["body_systems"], *told["samples"]):
        assert set(entry["label"]) == {"en", "zh"}
    words = (PAGE / "words.js").read_text()
    english, chinese = (
        set(re.findall(r'^\s*"?([\w-]+)"?:|, "?([\w-]+)"?: "', part, re.M)) for part in words.split("zh: {", 1)
    )
    named = lambda found: {one or other for one, other in found} - {"en", "zh"}  # noqa: E731
    assert named(english) == named(chinese)


def test_samples_are_pictures_that_differ(url):
    seen = []
    for sample in httpx.get(f"{url}/demo/about").json()["samples"]:
        picture = Image.open(io.BytesIO(httpx.get(f"{url}/demo/samples/{sample['name']}.png", timeout=60).content))
        assert min(picture.size) >= 200
        seen.append(np.asarray(picture.convert("L").resize((32, 32))).tobytes())
        assert sample["credit"]
        assert sample["licence"]
    assert len(set(seen)) == len(seen)
    assert len(seen) >= sum(sample.is_phantom for sample in SAMPLES)
