"""The language model writer asks a server of this project, and gets what the model behind it says."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from author import author
from by_heart import saying
from corpus_recipes import RECIPE, write_recipe
from serving_server import running
from stub_server import Act, Question, Stub
from test_corpus_llm import llm_recipe, texts

from gmai_vl.corpus import build, verify
from gmai_vl.corpus.tables import table_rows
from gmai_vl.records import ImageRef, Turn
from gmai_vl.serving.app import Access, create_app
from gmai_vl.serving.engine import Engine
from gmai_vl.serving.served import Served

CAPTION = "This is a dermoscopy image. The image shows melanoma."


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))


def captions_of_skin(folder: Path, url: str, **writer: Any) -> Path:
    """Return a recipe for captions by a model at `url` of pictures that show melanoma or nevus, as many of each."""
    written = yaml.safe_load(llm_recipe(folder, url, zh_share=0, **writer).read_text())
    return write_recipe(folder, **written | {"subsets": ["caption"], "sources": RECIPE["sources"][:1]})


def first_wish(folder: Path) -> tuple[Turn, ...]:
    """Return what the writer asks about a melanoma, as a model takes it."""
    wishes: list[tuple[Turn, ...]] = []
    says = author()

    def script(question: Question) -> Act:
        if "\n- melanoma" in question.prompt:
            wishes.append(tuple(Turn(turn["role"], _content(turn["content"])) for turn in question.body["messages"]))
        return says(question)

    folder.mkdir()
    with Stub(script) as stub:
        build(captions_of_skin(folder, stub.url), folder / "out")
    return wishes[0]


def _content(given: Any) -> tuple[str | ImageRef, ...]:
    if isinstance(given, str):
        return (given,)
    return tuple(piece["text"] if piece["type"] == "text" else ImageRef(0) for piece in given)


def test_what_is_true_is_kept_and_what_is_not_goes_out(tmp_path: Path) -> None:
    vlm = saying(json.dumps({"caption": CAPTION}), first_wish(tmp_path / "first"))
    served = [Served(name="author", engine=Engine(vlm, running=4), fingerprint="fp", created=1)]
    with running(create_app(served, Access(), tmp_path / "studies")) as url:
        build(captions_of_skin(tmp_path, f"{url}/v1", structured="none", temperature=0), tmp_path / "out")
    assert texts(tmp_path / "out").count(CAPTION) == 5
    assert verify(tmp_path / "out") == []
    outcomes = sorted(draft["outcome"] for draft in table_rows(tmp_path / "out", "drafts"))
    assert outcomes == ["kept"] * 5 + ["quarantined"] * 5
