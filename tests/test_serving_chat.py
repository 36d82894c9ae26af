"""`gmai chat` on a terminal: turns, pictures of every kind, saving; and the slices that are asked about."""

import json
import os
import pty
import select
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from outspoken_models import outspoken
from PIL import Image

from gmai_vl.foundation import UserError
from gmai_vl.model import Request, respond, save_model
from gmai_vl.records import ImageRef, Turn
from gmai_vl.serving.chat import Chat, open_picture
from gmai_vl.sources.geometry import percentile_window, shown_slice, to_uint8

TOKENS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    save_model(outspoken(), folder / "model")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(folder / "a@axial=1.png")
    volume = np.random.default_rng(1).integers(-1000, 1000, (12, 10, 8)).astype(np.int16)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(folder / "ct.nii.gz")
    return folder


class Terminal:
    """A process that believes to talk to a person."""

    def __init__(self, *words):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "gmai_vl.cli", *map(str, words)]
        environment = os.environ | {"TERM": "dumb", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self._ours = ours

    def type(self, line):
        """Type a line and return what is said until it may be typed again."""
        os.write(self._ours, f"{line}\n".encode())
        return self.until("> ").partition("\n")[2].rpartition("\n")[0].strip()

    def until(self, mark):
        said = b""
        while not said.endswith(mark.encode()):
            assert select.select([self._ours], [], [], 120)[0], said
            said += os.read(self._ours, 4096)
        return said.decode().replace("\r\n", "\n")


def answer(*turns, pictures=()):
    return respond(outspoken(), [Request(turns, tuple(pictures))], max_new_tokens=TOKENS, batch_size=1)[0].text


def test_a_conversation_on_a_terminal(folder, tmp_path):
    terminal = Terminal("chat", "--model", folder / "model", "--max-new-tokens", TOKENS)
    assert "research use only, not for diagnosis" in terminal.until("> ")
    first = terminal.type("what is ct")
    assert first == answer(Turn("user", ("what is ct",)))
    told = terminal.type(f"/image {folder / 'ct.nii.gz'}@coronal=3 lung")
    assert told == "ct.nii.gz; coronal 3 of 0 to 9; window lung of auto, lung, bone, brain, soft-tissue"
    second = terminal.type("and here?")
    pixels = open_picture(f"{folder / 'ct.nii.gz'}@coronal=3", "lung").pixels
    turns = (
        Turn("user", ("what is ct",)),
        Turn("assistant", (first,)),
        Turn("user", (ImageRef(0), "and here?")),
    )
    assert second == answer(*turns, pictures=[pixels])
    terminal.type(f"/save {tmp_path / 'talk.json'}")
    terminal.type(f"/save {tmp_path / 'talk.md'}")
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert [message["role"] for message in saved["messages"]] == ["user", "assistant", "user", "assistant"]
    assert saved["messages"][2]["content"][0]["picture"].startswith("ct.nii.gz")
    assert saved["messages"][3]["content"] == [second]
    assert (tmp_path / "talk.md").read_text().startswith("*research use only, not for diagnosis*")
    terminal.type("/reset")
    assert terminal.type("what is ct") == first
    assert "/save FILE" in terminal.type("/help")
    assert "no such file" in terminal.type("/image nowhere.png")
    assert terminal.type("what is ct")
    os.write(terminal._ours, b"/quit\n")
    assert terminal.process.wait(60) == 0


def test_a_slice_is_the_one_that_training_shows(folder):
    values = np.asarray(nibabel.load(folder / "ct.nii.gz").dataobj)
    expected = to_uint8(shown_slice(values, "sagittal", 5), *percentile_window(values))
    assert (open_picture(f"{folder / 'ct.nii.gz'}@sagittal=5").pixels == expected).all()
    middle = to_uint8(shown_slice(values, "axial", 4), *percentile_window(values))
    assert (open_picture(str(folder / "ct.nii.gz")).pixels == middle).all()


def test_a_name_that_looks_like_a_choice_is_a_name(folder):
    picture = open_picture(str(folder / "a@axial=1.png"))
    assert (picture.pixels == np.asarray(Image.open(folder / "a@axial=1.png"))).all()
    assert picture.told == "a@axial=1.png"


@pytest.mark.parametrize(
    ("text", "window", "said"),
    [
        ("ct.nii.gz@axial=8", None, "slice"),
        ("ct.nii.gz@stored=0", None, "plane"),
        ("ct.nii.gz@series=1", None, "series 1"),
        ("a@axial=1.png", "lung", "window"),
        ("nowhere.dcm", None, "no such file"),
    ],
)
def test_what_is_not_there_is_named(folder, text, window, said):
    with pytest.raises(UserError, match=said):
        open_picture(f"{folder / text}", window)


def test_an_answer_that_is_left_is_kept_as_far_as_it_was_heard(folder):
    with Chat(outspoken(), max_tokens=10**6) as talk:
        pieces = talk.ask("which organ is shown in this picture")
        heard = next(pieces) + next(pieces)
        pieces.close()
        assert talk.turns[-1] == Turn("assistant", (heard,))


def test_a_conversation_that_grows_too_long_says_so(folder):
    with Chat(outspoken(), max_tokens=4) as talk, pytest.raises(UserError, match="/reset"):
        list(talk.ask("xq " * 6_000))
