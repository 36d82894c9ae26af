"""`gmai chat`: one question, answered with the notice."""

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from gmai_vl.cli.chat import NOTICE, chat
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, Request, build_model, generate, save_model
from gmai_vl.records import ImageRef, Turn

APP = typer.Typer()
APP.command()(chat)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    save_model(build_model(ModelSettings(preset="tiny-clip"), seed=0), folder / "model")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / "a.png")
    return folder


def ask(folder, *words):
    return CliRunner().invoke(APP, ["--model", str(folder / "model"), "--max-new-tokens", "6", *words])


def test_the_answer_is_the_models_with_the_notice(folder):
    result = ask(folder, "--image", str(folder / "a.png"), "what is it? A")
    pixels = np.asarray(Image.open(folder / "a.png"))
    request = Request((Turn("user", (ImageRef(0), "what is it? A")),), (pixels,))
    vlm = build_model(ModelSettings(preset="tiny-clip"), seed=0)
    (answer,) = generate(vlm, [request], max_new_tokens=6, batch_size=1)
    assert result.stdout.strip() == f"{NOTICE}\n{answer}".strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "PROMPT: is missing"),
        (["--image", "nowhere.png", "x"], r"nowhere\.png"),
        (["--image", __file__, "x"], "test_cli_chat"),
    ],
)
def test_mistakes_are_the_users(folder, words, message):
    result = ask(folder, *words)
    assert isinstance(result.exception, UserError), result.output
    with pytest.raises(UserError, match=message):
        raise result.exception
