"""Importing conversations: every form, nothing lost, killed at any moment and finished to the same corpus."""

import json
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_recipes import save
from killing import run_killed_at

from gmai_vl.corpus import Corpus, verify
from gmai_vl.corpus.importing import import_conversations
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef

CALL = (
    "from gmai_vl.corpus.importing import import_conversations; "
    "call = lambda file, images, out: import_conversations(file, images, out)"
)


def llava(number: int) -> dict[str, Any]:
    """An entry as the official release writes it."""
    return {
        "id": f"2d#cls#histopathology#crc100k#images#NORM#{number}.png",
        "image": f"images/2d/cls/histopathology/crc100k/NORM/{number}.png",
        "width": 8,
        "height": 6,
        "conversations": [
            {"from": "human", "value": f"<image>\nWhat does picture {number} show?"},
            {"from": "gpt", "value": "正常结肠黏膜" if number % 2 else "Normal colon mucosa."},
        ],
    }


def messages(number: int) -> dict[str, Any]:
    asked = [{"type": "image", "image": llava(number)["image"]}, {"type": "text", "text": f"What is {number}?"}]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": f"It is {number}."}]}


def pictures(root: Path, count: int) -> None:
    for number in range(count):
        save(root / llava(number)["image"], np.full((6, 8, 3), number, np.uint8))


def texts(corpus: Path) -> dict[str, list[str]]:
    return {sample.case_id: [turn.text for turn in sample.turns] for sample in Corpus(corpus).samples()}


def test_the_official_form_comes_in_word_for_word(tmp_path: Path) -> None:
    pictures(tmp_path, 40)
    (tmp_path / "percept.json").write_text(json.dumps([llava(number) for number in range(40)], ensure_ascii=False))
    summary = import_conversations(tmp_path / "percept.json", tmp_path, tmp_path / "out", license="CC-BY-4.0")
    corpus = Corpus(summary.corpus)
    assert verify(summary.corpus) == []
    assert summary.counts["outcomes"] == {"kept": 40}
    assert summary.counts["samples_by_split"] == {"train": 38, "val": 2}
    for sample in corpus.samples():
        number = int(Path(sample.case_id).stem)
        asked, answered = llava(number)["conversations"]
        assert sample.turns[0].content == (ImageRef(0), asked["value"].removeprefix("<image>\n"))
        assert sample.turns[1].text == answered["value"]
        assert (sample.language, sample.license) == ("zh" if number % 2 else "en", "CC-BY-4.0")
        assert (corpus.image(sample.images[0]) == number).all()


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize("form", [llava, messages])
def test_every_kind_of_file_gives_the_same_conversations(tmp_path: Path, ending: str, form: Any) -> None:
    pictures(tmp_path, 4)
    entries = [form(number) for number in range(4)]
    file = tmp_path / f"some data.{ending}"
    if ending == "json":
        file.write_text(json.dumps(entries))
    elif ending == "jsonl":
        file.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    else:
        column = "conversations" if form is llava else "messages"
        rows = [entry | {column: json.dumps(entry[column])} for entry in entries]
        pq.write_table(pa.Table.from_pylist(rows), file)
    summary = import_conversations(file, tmp_path, tmp_path / "out")
    assert summary.name == "some-data"
    said = {case.rpartition("/")[2]: turns for case, turns in texts(summary.corpus).items()}
    expected = "Normal colon mucosa." if form is llava else "It is 2."
    assert len(said) == 4
    assert said["2.png"][1] == expected


def test_text_alone_and_pictures_that_are_missing(tmp_path: Path) -> None:
    pictures(tmp_path, 2)
    alone = {"conversations": [{"from": "human", "value": "What is fever?"}, {"from": "gpt", "value": "A sign."}]}
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in (llava(0), llava(1), llava(2), alone)))
    summary = import_conversations(tmp_path / "a.jsonl", None, tmp_path / "out")
    assert summary.counts["outcomes"] == {"kept": 3, "quarantined": 1}
    subsets = [sample.subset for sample in Corpus(summary.corpus).samples()]
    assert sorted(subsets) == ["instruct", "instruct", "text-single"]
    assert verify(summary.corpus) == []


def test_killed_at_any_moment_it_is_finished_to_the_same_corpus(tmp_path: Path) -> None:
    _kill(tmp_path, times=3)


@pytest.mark.long
def test_killed_at_twenty_moments(tmp_path: Path) -> None:
    _kill(tmp_path, times=20)


def _kill(tmp_path: Path, times: int) -> None:
    pictures(tmp_path, 12)
    file = tmp_path / "percept.json"
    file.write_text(json.dumps([llava(number) for number in range(12)]))
    whole = import_conversations(file, tmp_path, tmp_path / "whole")
    expected = {path.relative_to(whole.corpus) for path in whole.corpus.rglob("*") if path.is_file()}
    counted = tmp_path / "counted"
    moments = int(run_killed_at(CALL, [file, tmp_path, counted], counted, 0).stdout)
    for moment in random.Random(3).sample(range(1, moments + 1), times):
        out = tmp_path / f"out{moment}"
        assert run_killed_at(CALL, [file, tmp_path, out], out, moment).returncode == -signal.SIGKILL
        assert import_conversations(file, tmp_path, out).fingerprint == whole.fingerprint, f"moment {moment}"
        assert {path.relative_to(out) for path in out.rglob("*") if path.is_file()} == expected, f"moment {moment}"


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        import_conversations(tmp_path / "none.json", None, tmp_path / "out")
    (tmp_path / "a.json").write_text('[{"question": "a", "answer": "b"}]')
    with pytest.raises(UserError, match="neither `conversations` nor `messages`"):
        import_conversations(tmp_path / "a.json", None, tmp_path / "out")
    (tmp_path / "b.json").write_text("[")
    with pytest.raises(UserError, match="is no JSON"):
        import_conversations(tmp_path / "b.json", None, tmp_path / "out")
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(UserError, match=r"c\.txt does not end in"):
        import_conversations(tmp_path / "c.txt", None, tmp_path / "out")
    with pytest.raises(UserError, match="--images"):
        import_conversations(tmp_path / "a.json", tmp_path / "nosuch", tmp_path / "out")
    assert not (tmp_path / "out").exists()
