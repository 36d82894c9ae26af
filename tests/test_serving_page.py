"""The page in a real browser, over a real server: pictures, slices, regions, answers, languages, sizes."""

import base64
import io
import json
import shutil
from contextlib import contextmanager

import nibabel
import numpy as np
import pytest
from by_heart import saying
from outspoken_models import outspoken
from PIL import Image
from serving_server import running
from serving_studies import axial_slices, body, write_series

from gmai_vl.serving.app import Access, create_app
from gmai_vl.serving.engine import Engine
from gmai_vl.serving.served import Served

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path: .ci/run installs Debian's")

ANSWER = "Here: <ref>liver</ref><box>[[0.10, 0.20, 0.50, 0.60]]</box>"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    models = {"by-heart": saying(ANSWER), "other": outspoken()}
    served = [
        Served(name=name, engine=Engine(vlm), fingerprint=f"fp_{name}", created=1) for name, vlm in models.items()
    ]
    with running(create_app(served, Access(), tmp_path_factory.mktemp("page"))) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(browser, url, *, but=None, **options):
    """Open the page; in the end nothing must have gone wrong in it, `but` for a status, and nobody else been asked."""
    context = browser.new_context(accept_downloads=True, **{"viewport": {"width": 1400, "height": 1000}, **options})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors, foreign = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((url, "blob:", "data:")) else foreign.append(request.url),
    )
    page.goto(url)
    page.locator("#samples button").first.wait_for()
    yield page
    assert [error for error in errors if not but or f"status of {but}" not in error] == []
    assert not foreign
    context.close()


@pytest.fixture
def page(browser, url):
    with opened(browser, url) as page:
        yield page


def until(page, script, arg=None):
    """Wait until `script` is true in the page; Playwright's own waiting evaluates text there, which it forbids."""
    for _ in range(20_000):
        if page.evaluate(script, arg):
            return
    raise AssertionError(script)


def seen(page):
    """Return the pixels of the picture on view."""
    return page.evaluate("document.getElementById('canvas').toDataURL()")


def sample(page, place=0):
    page.locator("#samples button").nth(place).click()
    until(page, "!document.getElementById('controls').hidden")


def ask(page, text):
    """Ask and wait for the answer; return what was sent."""
    page.locator("#question").fill(text)
    with page.expect_request("**/v1/chat/completions") as sent:
        page.locator("#send").click()
    until(page, "document.getElementById('stop').hidden && !document.getElementById('send').disabled")
    return json.loads(sent.value.post_data)


def png(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


def nifti(tmp_path):
    path = tmp_path / "ct.nii.gz"
    values = np.random.default_rng(0).integers(-1000, 1000, (20, 16, 12)).astype(np.int16)
    nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(path)
    return path


def test_a_picture_is_opened_asked_about_and_asked_again(page, tmp_path):
    page.locator("#files").set_input_files(png(tmp_path))
    until(page, "!document.getElementById('controls').hidden")
    sent = ask(page, "what is it?")
    kinds = [part["type"] for part in sent["messages"][0]["content"]]
    assert (kinds, sent["messages"][0]["content"][1]["text"]) == (["image_url", "text"], "what is it?")
    answer = page.locator(".answer .text").first
    assert answer.text_content() == "Here: liver (box 1)"
    again = ask(page, "and what else?")
    assert [message["role"] for message in again["messages"]] == ["user", "assistant", "user"]
    assert again["messages"][1]["content"] == ANSWER
    assert [part["type"] for part in again["messages"][2]["content"]] == ["text"], "the same picture is not sent twice"
    page.locator(".answer button").first.click()
    until(page, "document.querySelector('.answer button').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == ANSWER


def test_an_answer_is_copied_where_the_browser_has_no_clipboard_for_the_page(page, tmp_path):
    """As it has none for plain http from another machine."""
    page.evaluate("navigator.clipboard.writeText('what was there before')")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.locator("#files").set_input_files(png(tmp_path))
    until(page, "!document.getElementById('controls').hidden")
    ask(page, "what is it?")
    page.locator(".answer button").first.click()
    until(page, "document.querySelector('.answer button').textContent === 'Copied'")
    page.locator("#question").press("Control+v")
    assert page.locator("#question").input_value() == ANSWER


def test_the_picture_that_is_sent_is_the_one_of_the_server(page, tmp_path):
    path = png(tmp_path)
    page.locator("#files").set_input_files(path)
    until(page, "!document.getElementById('controls').hidden")
    page.locator("#canvas").focus()
    page.keyboard.press("m")
    sent = ask(page, "what is it?")
    data = sent["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert (pixels == np.asarray(Image.open(path))).all(), "nothing is drawn on it"


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_a_series_is_leafed_through_in_planes_and_windows(page, tmp_path, kind):
    files = [nifti(tmp_path)] if kind == "nifti" else write_series(tmp_path / "s", axial_slices(body((20, 16, 12))))
    page.locator("#files").set_input_files(files)
    until(page, "!document.getElementById('slice-field').hidden")
    until(page, "document.getElementById('slice-number').value === '7 / 12'")
    page.wait_for_load_state("networkidle")
    pictures = [seen(page)]
    for change in (
        lambda: page.locator("#slice").press("ArrowRight"),
        lambda: page.locator("#canvas").press("PageUp"),
        lambda: page.locator("#window").select_option("lung"),
        lambda: page.locator("#plane").select_option("coronal"),
    ):
        with page.expect_response("**/demo/studies/**.png*") as came:
            change()
        assert came.value.status == 200
        page.wait_for_load_state("networkidle")
        until(page, "before => document.getElementById('canvas').toDataURL() !== before", pictures[-1])
        pictures.append(seen(page))
    assert len(set(pictures)) == 5
    assert page.locator("#slice-number").text_content() == "9 / 16"
    if kind == "nifti":
        shape = page.locator("#canvas").bounding_box()
        assert shape["width"] / shape["height"] == pytest.approx(20 / (12 * 3), rel=0.05), "as thick as it is"


def test_a_region_is_marked_by_mouse_and_by_keyboard(page):
    sample(page)
    frame = page.locator("#canvas").bounding_box()
    at = lambda x, y: (frame["x"] + x * frame["width"], frame["y"] + y * frame["height"])  # noqa: E731
    page.mouse.move(*at(0.25, 0.25))
    page.mouse.down()
    page.mouse.move(*at(0.5, 0.5))
    page.mouse.move(*at(0.75, 0.6))
    page.mouse.up()
    assert page.locator("#region").text_content() == "region [[0.25, 0.25, 0.75, 0.60]]"
    assert (
        ask(page, "what is it?")["messages"][0]["content"][-1]["text"]
        == "what is it? (region [[0.25, 0.25, 0.75, 0.60]])"
    )
    page.locator("#canvas").press("Escape")
    assert page.locator("#region").count() == 0
    for key in ("m", "ArrowLeft", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowUp"):
        page.locator("#canvas").press(key)
    assert page.locator("#region").text_content() == "region [[0.33, 0.37, 0.65, 0.65]]"
    assert (
        ask(page, "")["messages"][-1]["content"][-1]["text"] == "What does the region [[0.33, 0.37, 0.65, 0.65]] show?"
    )


def test_boxes_of_an_answer_are_drawn(page):
    sample(page)
    page.wait_for_load_state("networkidle")
    before = seen(page)
    ask(page, "what is it?")
    until(page, "before => document.getElementById('canvas').toDataURL() !== before", before)


def test_two_models_side_by_side(page):
    sample(page)
    page.locator(".settings summary").click()
    page.locator("#beside").select_option("other")
    ask(page, "what is it?")
    assert page.locator(".answer h3").all_text_contents() == ["by-heart", "other"]
    first, second = page.locator(".answer .text").all_text_contents()
    assert first == "Here: liver (box 1)" != second


def test_several_pictures_in_one_question(page):
    sample(page, 0)
    page.locator("#attach").click()
    with page.expect_response("**/demo/samples/**"):
        sample(page, 1)
    page.wait_for_load_state("networkidle")
    sent = ask(page, "which one?")
    assert [part["type"] for part in sent["messages"][0]["content"]] == ["image_url", "image_url", "text"]


def test_an_answer_is_stopped_and_kept(page):
    sample(page)
    page.locator(".settings summary").click()
    page.locator("#model").select_option("other")
    page.locator("#length").fill("2000")
    page.locator("#temperature").fill("1.5")
    page.locator("#question").fill("which organ is shown")
    page.locator("#send").click()
    until(page, "document.querySelector('.answer .text')?.textContent.length > 20")
    page.locator("#stop").click()
    until(page, "document.querySelector('.answer .end').textContent === 'stopped'")
    assert page.locator("#send").is_enabled()


def test_a_fault_of_the_server_is_told(browser, url):
    with opened(browser, url, but=413) as page:
        page.locator("#question").fill("x" * 100_001)
        page.locator("#send").click()
        page.locator("#fault").wait_for()
        assert "100000" in page.locator("#fault").text_content()
        assert page.locator(".round").count() == 0


def test_the_interface_speaks_chinese_and_keeps_to_it(page, url):
    page.locator("#language").click()
    assert page.locator("#send").text_content() == "提问"
    assert page.locator("#notice").text_content() == "仅供研究使用，不用于诊断。"
    assert page.locator("html").get_attribute("lang") == "zh"
    page.locator("#task").select_option("caption")
    assert page.locator("#question").get_attribute("placeholder") == "请描述这张图像。"
    page.reload()
    page.locator("#samples button").first.wait_for()
    assert page.locator("#send").text_content() == "提问"


def test_a_conversation_is_saved_with_the_notice(page):
    sample(page)
    ask(page, "what is it?")
    page.locator("#download").click()
    with page.expect_download() as came:
        page.locator("#save-json").click()
    told = json.loads(came.value.path().read_text())
    assert told["notice"] == "Research use only, not for diagnosis."
    assert told["rounds"][0]["question"] == "what is it?"
    assert "data" not in told["rounds"][0]["pictures"][0]
    page.locator("#with-pictures").check()
    with page.expect_download() as came:
        page.locator("#save-markdown").click()
    text = came.value.path().read_text()
    assert text.startswith("*Research use only")
    assert "data:image/png;base64," in text


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("size", [(360, 740), (1400, 1000)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_everybody_at_any_size(browser, url, size, scheme, language):
    """No serious fault by axe-core's rules, no scrolling to the side, the notice in sight."""
    options = {"viewport": {"width": size[0], "height": size[1]}, "color_scheme": scheme}
    with opened(browser, url, **options) as page:
        if language == "zh":
            page.locator("#language").click()
        sample(page)
        page.locator("#canvas").press("m")
        page.locator(".settings summary").click()
        ask(page, "what is it?")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#notice").is_visible()
        for dialog in (None, "#download"):
            if dialog:
                page.locator(dialog).click()
            found = axe.Axe().run(page).response["violations"]
            serious = [
                (each["id"], [node["html"][:100] for node in each["nodes"]])
                for each in found
                if each["impact"] in ("serious", "critical")
            ]
            assert not serious


def test_it_is_worked_by_keyboard_alone(page):
    """From the top by Tab to a sample, the question and the answer."""
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        if reached[-1] == "sample":
            page.keyboard.press("Enter")
            until(page, "!document.getElementById('controls').hidden")
        if reached[-1] == "question":
            break
    assert "sample" in reached
    page.keyboard.type("what is it?")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.answer .text')?.textContent === 'Here: liver (box 1)'")


def test_a_key_is_asked_for_and_used(browser, tmp_path):
    key = "a key of some length"
    served = [Served(name="tiny", engine=Engine(outspoken()), fingerprint="fp", created=1)]
    with running(create_app(served, Access(key=key), tmp_path)) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.locator("#key-dialog[open]").wait_for()
        assert page.locator("#samples button").count() == 0
        page.locator("#key").fill(key)
        page.locator("#key-form button").click()
        page.locator("#samples button").first.wait_for()
        assert key not in page.evaluate("JSON.stringify(localStorage)")
        context.close()
