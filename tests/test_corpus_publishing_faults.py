"""Importing releases with faults: each is named in one line, and nothing goes without a word."""

import json
import re
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_recipes import save
from hypothesis import given
from hypothesis import strategies as st
from publishing_corpus import published, write_corpus

from gmai_vl.corpus import Corpus, verify
from gmai_vl.corpus.importing import import_conversations
from gmai_vl.corpus.publishing.entries import image_paths, llava_entry, message_entry
from gmai_vl.corpus.publishing.exporting import export
from gmai_vl.foundation import UserError, canonical_json
from gmai_vl.records import ImageRef, Provenance, Sample, Turn
from gmai_vl.sources.published import published_conversation, told_of
from gmai_vl.sources.spec import TextSource

Entry = dict[str, Any]


def official(number: int, **changes: Any) -> Entry:
    """An entry as the official release writes it; a change to None takes a key out."""
    entry: Entry = {
        "id": f"2d#cls#histopathology#crc100k#images#NORM#{number}.png",
        "image": f"2d/cls/histopathology/crc100k/NORM/{number}.png",
        "width": 8,
        "height": 6,
        "conversations": [
            {"from": "human", "value": f"<image>\nWhat does picture {number} show?"},
            {"from": "gpt", "value": "Normal colon mucosa."},
        ],
    }
    return entry | changes


def said(*turns: tuple[str, Any]) -> list[Entry]:
    return [{"from": who, "value": value} for who, value in turns]


def release(folder: Path, entries: list[Any], pictures: int = 40) -> Path:
    """Write pictures and one file of entries, those that are texts as they stand; return the file."""
    for number in range(pictures):
        save(folder / "images" / official(number)["image"], np.full((6, 8, 3), number, np.uint8))
    file = folder / "annotations.jsonl"
    file.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in entries))
    return file


QUESTION, ANSWER = ("human", "<image>\nWhat is it?"), ("gpt", "A colon.")
FAULTS: list[tuple[Any, str]] = [
    ('{"id": "broken", "image": ', "is no JSON: Expecting value"),
    ("[1, 2]", "is a list, not an object with columns"),
    (official(1, conversations=said(ANSWER, QUESTION, ANSWER)), "turn 1 is said by the assistant"),
    (official(1, conversations=said(QUESTION)), "does not end with an answer"),
    (official(1, conversations=said(QUESTION, QUESTION, ANSWER)), "turn 2 is said by the user; expected the assistant"),
    (official(1, conversations=said(("robot", "Hm?"), ANSWER)), "turn 1 is said by 'robot'"),
    (official(1, conversations=said(("human", "<image><image>\nBoth?"), ANSWER)), "shows its image 2 times"),
    (
        official(1, conversations=said(("human", "And?"), ("gpt", "See <image>"))),
        "shows its image 1 times, by assistant",
    ),
    (official(1, image=None, conversations=said(QUESTION, ANSWER)), "shows an image, but the row names none"),
    (official(1, image=[official(n)["image"] for n in (1, 2)]), "shows 2 images; one is what can be read so far"),
    (official(1, image={"bytes": "x"}), "the image is a dict, not a text"),
    (official(1, image="/cpfs01/shared/gmai/1.png"), "is no path below `images`"),
    (official(1, image="../../secret.png"), "is no path below `images`"),
    (official(1, conversations=said(("human", "<image>\n"), ANSWER)), "turn 1 is empty"),
    (official(1, conversations=said(QUESTION, ("gpt", None))), "turn 2 is empty"),
    (official(1, conversations=[]), "its conversation is no list of turns"),
    (official(1, conversations=None), "its conversation is no list of turns"),
    (official(1, conversations=said(QUESTION, ("gpt", "x" * 100_001))), "characters, more than the limit"),
    (official(1, conversations=said(QUESTION, ("gpt", "a\u0000b"))), "holds the control character U+0000"),
]


def test_every_fault_of_a_release_is_named_and_the_rest_comes_in(tmp_path: Path) -> None:
    sound = [official(number) for number in range(len(FAULTS) + 8)]
    text = official(0, id="t", image=None, conversations=said(("human", "What is fever?"), ("gpt", "A sign.")))
    file = release(tmp_path, [*sound, text, *(entry for entry, _ in FAULTS)])
    summary = import_conversations(file, tmp_path / "images", tmp_path / "out")
    reasons = {
        row["item"]: row["reason"] for row in Corpus(summary.corpus).rows("ledger") if row["outcome"] == "quarantined"
    }
    assert len(reasons) == len(FAULTS)
    for number, (_, reason) in enumerate(FAULTS, start=len(sound) + 2):
        names = [f"annotations.jsonl@row={number}", f"../annotations.jsonl@row={number}"]
        (found,) = [reasons[name] for name in names if name in reasons] or [f"row {number} is not named"]
        assert reason in found
        assert "\n" not in found
    assert summary.counts["outcomes"]["kept"] == len(sound) + 1
    assert verify(summary.corpus) == []


def test_missing_and_broken_pictures_and_long_ids_are_named(tmp_path: Path) -> None:
    entries = [official(number) for number in range(8)] + [official(8, id="x" * 5000)]
    file = release(tmp_path, entries, pictures=9)
    (tmp_path / "images" / official(0)["image"]).unlink()
    (tmp_path / "images" / official(1)["image"]).write_bytes(b"no picture")
    summary = import_conversations(file, tmp_path / "images", tmp_path / "out")
    told = {Path(row["item"]).name: (row["outcome"], row["reason"]) for row in Corpus(summary.corpus).rows("ledger")}
    assert told["0.png"] == ("quarantined", f"{official(0)['image']}: is no file")
    assert told["1.png"][0] == "quarantined"
    assert "is no PNG" in told["1.png"][1]
    assert told["annotations.jsonl@id"] == (
        "excluded", "the ids of 1 rows have more than 100 characters; the rows go by their numbers",
    )  # fmt: skip
    assert told["8.png"] == ("kept", None)


def dataset_list(folder: Path, text: str | None = None, **changes: Any) -> Path:
    """Write two files of entries, which share pictures, and their list."""
    release(folder, [official(number) for number in range(40)])
    more = said(("human", "<image>\nIs it normal?"), ("gpt", "Yes."))
    (folder / "more.json").write_text(json.dumps([official(number, conversations=more) for number in range(30)]))
    one = {"image_dir": "images", "annotations": "annotations.jsonl", "sample_ratio": 1.0, "length": 40}
    other = {"image_dir": "images", "annotations": "more.json", "length": 30, "data_augment": False}
    file = folder / "list.json"
    file.write_text(text if text is not None else json.dumps({"GMAI-A": one | changes, "GMAI-B": other}, indent=2))
    return file


def test_the_official_list_comes_in_and_files_about_one_picture_come_together(tmp_path: Path) -> None:
    summary = import_conversations(dataset_list(tmp_path), None, tmp_path / "out")
    assert (summary.counts["outcomes"], summary.notes) == ({"kept": 40}, ())
    assert summary.counts["samples"] == 70
    assert verify(summary.corpus) == []


def test_a_ratio_takes_that_share_always_the_same_and_tells_what_it_leaves_out(tmp_path: Path) -> None:
    file = dataset_list(tmp_path, sample_ratio=0.25)
    summary = import_conversations(file, None, tmp_path / "out")
    samples = Corpus(summary.corpus).samples()
    assert len(samples) == len({sample.id for sample in samples}) == 10 + 30
    (row,) = [row for row in Corpus(summary.corpus).rows("ledger") if row["outcome"] == "excluded"]
    assert row["reason"] == "30 of 40 rows are left out by sample_ratio 0.25"
    again = import_conversations(file, None, tmp_path / "again", workers=2)
    assert again.fingerprint == summary.fingerprint
    assert verify(summary.corpus) == []


def test_a_wrong_length_and_augmentation_are_noted(tmp_path: Path) -> None:
    summary = import_conversations(dataset_list(tmp_path, length=38276, data_augment=True), None, tmp_path / "out")
    assert summary.counts["outcomes"] == {"kept": 40}
    length, augmented = summary.notes
    assert "list.json: GMAI-A.length: says 38276, but annotations.jsonl holds 40 entries" in length
    assert "GMAI-A.data_augment" in augmented


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_ratio": 1.5}, r"list\.json: GMAI-A: sample_ratio: .*less than or equal to 1.*given: 1\.5"),
        ({"sample_ratio": 0}, r"list\.json: GMAI-A: sample_ratio: .*greater than 0"),
        ({"sample_ratio": "all"}, r"list\.json: GMAI-A: sample_ratio: "),
        ({"image_dirs": "x"}, r"list\.json: GMAI-A: image_dirs: unknown key; did you mean `image_dir`"),
        ({"annotations": "none.jsonl"}, r"list\.json: GMAI-A\.annotations: `none\.jsonl` is neither below"),
        ({"annotations": "images"}, r"list\.json: GMAI-A\.annotations: .* is no file"),
        ({"image_dir": "none"}, r"list\.json: GMAI-A\.image_dir: `none` is neither below"),
        ({"image_dir": "more.json"}, r"list\.json: GMAI-A\.image_dir: .* is no folder"),
        ({"annotations": "more.json"}, "names an annotation file for it twice"),
        ({"format": "sharegpt"}, r"list\.json: GMAI-A: format: "),
    ],
)
def test_mistakes_in_a_list_are_one_line(tmp_path: Path, changes: Entry, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        import_conversations(dataset_list(tmp_path, **changes), None, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_comma_too_many_of_the_official_example_is_named(tmp_path: Path) -> None:
    text = '{\n  "A": {\n    "image_dir": "images",\n    "annotations": "annotations.jsonl",\n  },\n}\n'
    with pytest.raises(UserError, match=r"list\.json: is no JSON: line 4 has a comma too many before `}`; remove it"):
        import_conversations(dataset_list(tmp_path, text), None, tmp_path / "out")
    with pytest.raises(UserError, match=r"line 1 has a comma too many before `\]`"):
        import_conversations(dataset_list(tmp_path, "[1, 2, ]"), None, tmp_path / "out")
    with pytest.raises(UserError, match="is no JSON: Expecting"):
        import_conversations(dataset_list(tmp_path, '{"A": }'), None, tmp_path / "out")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    return export(write_corpus(folder), "llava", folder / "llava").out


def drop(entry: Entry, key: str) -> None:
    del entry["gmai"][key]


def tell(entry: Entry, **changes: Any) -> None:
    entry["gmai"] |= changes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entry: drop(entry, "kind"), "its `gmai` lacks `kind`"),
        (lambda entry: entry.update(gmai=[1]), "its `gmai` is no object"),
        (lambda entry: tell(entry, kind="essay"), "its `kind` is 'essay'; known: caption"),
        (lambda entry: tell(entry, split="valid"), "its `split` is 'valid'; known: train"),
        (lambda entry: tell(entry, subset="text-single"), "subset text-single with 1 images"),
        (lambda entry: tell(entry, language="de"), "its `language` is 'de'; known: en, zh"),
        (lambda entry: tell(entry, options=["a"]), "has 1 options"),
        (lambda entry: tell(entry, options=["a", "a"]), "has 2 options, 1 of them different"),
        (lambda entry: tell(entry, options="ab"), "its options are no list of texts"),
        (lambda entry: tell(entry, answer="Z"), "the answer 'Z' is no letter of its options"),
        (lambda entry: tell(entry, kind="closed", options=None, answer="maybe"), "is neither of yes, no"),
        (lambda entry: tell(entry, kind="open", options=None, answer=None), "has no answer, though its kind is open"),
        (lambda entry: tell(entry, kind="open"), "kind open with"),
        (lambda entry: tell(entry, messages=[{"role": "user", "content": "x"}]), "`content` is no list of parts"),
        (lambda entry: tell(entry, writer=None), "has no `writer`"),
        (lambda entry: entry.update(id=None), "has no `id`"),
        (lambda entry: entry["conversations"].pop(), "its turns are not user and assistant in turn"),
        (lambda entry: entry["conversations"][0].update(value="What?"), "shows images 0 times and names 1"),
        (lambda entry: entry["conversations"][0].update(value="<image>\nA \ud800"), "a turn holds half of a character"),
        (lambda entry: entry["conversations"][1].update(value=" "), "one of its turns is empty"),
        (lambda entry: entry.update(image=[entry["image"]] * 2), "shows 2 images"),
    ],
)
def test_an_entry_of_ours_that_was_tampered_with_is_named(
    exported: Path, tmp_path: Path, change: Any, reason: str
) -> None:
    entries = [json.loads(line) for line in (exported / "annotations/train/percept.jsonl").read_text().splitlines()]
    number = next(
        number for number, entry in enumerate(entries) if entry["gmai"]["kind"] == "mcq" and
        entry["gmai"]["language"] == "en"
    )  # fmt: skip
    whole = len(entries)
    change(entries[number])
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    summary = import_conversations(tmp_path / "a.jsonl", exported, tmp_path / "out")
    (row,) = [row for row in Corpus(summary.corpus).rows("ledger") if row["outcome"] != "kept"]
    assert row["outcome"] == "quarantined"
    assert row["item"].endswith(f"a.jsonl@row={number + 1}")
    assert reason in row["reason"]
    assert summary.counts["samples"] == whole - 1
    assert verify(summary.corpus) == []


def test_rows_about_one_picture_have_to_agree_and_its_pixels_with_them(exported: Path, tmp_path: Path) -> None:
    entries = [json.loads(line) for line in (exported / "annotations/train/percept.jsonl").read_text().splitlines()]
    pictures = list(dict.fromkeys(entry["image"] for entry in entries))
    changed = ({"split": "val"}, {"modality": "Telepathy"}, {"image_sha256": "0" * 64})
    for picture, changes in zip(pictures, changed, strict=False):
        tell(next(entry for entry in entries if entry["image"] == picture), **changes)
    for entry in entries:
        if entry["image"] == pictures[3]:
            tell(entry, image_sha256="0" * 64)
    entries.append(entries[-1] | {"width": 1})
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    summary = import_conversations(tmp_path / "a.jsonl", exported, tmp_path / "out")
    told = {row["item"]: row["reason"] for row in Corpus(summary.corpus).rows("ledger") if row["outcome"] != "kept"}
    assert "its rows do not agree on `split`: 'val' and 'train'" in told[pictures[0]]
    assert "`modality`: " in told[pictures[1]]
    assert "Telepathy" in told[pictures[1]]
    assert "its rows do not agree on `image_sha256`" in told[pictures[2]]
    assert "its picture has other pixels than the export" in told[pictures[3]]
    (twice,) = [reason for item, reason in told.items() if item.endswith(f"@row={len(entries)}")]
    assert "its id stands in another row too" in twice
    assert len(told) == 5


def test_without_our_key_it_is_a_plain_file_and_sides_are_dealt_anew(exported: Path, tmp_path: Path) -> None:
    entries = [json.loads(line) for line in (exported / "annotations/train/instruct.jsonl").read_text().splitlines()]
    for entry in entries:
        del entry["gmai"]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    summary = import_conversations(tmp_path / "a.jsonl", exported, tmp_path / "out")
    assert summary.counts["samples_by_split"].keys() == {"train", "val"}
    assert {id.split("#")[1] for id in published(summary.corpus)} == {"qa"}
    assert verify(summary.corpus) == []


def test_plain_entries_may_stand_among_ours(exported: Path, tmp_path: Path) -> None:
    ours = (exported / "annotations/test/percept.jsonl").read_text().splitlines()
    plain = json.loads((exported / "annotations/train/percept.jsonl").read_text().splitlines()[0])
    del plain["gmai"]
    (tmp_path / "a.jsonl").write_text("\n".join([*ours, json.dumps(plain)]))
    summary = import_conversations(tmp_path / "a.jsonl", exported, tmp_path / "out")
    assert summary.counts["samples_by_split"]["test"] == len(ours)
    assert summary.counts["samples"] == len(ours) + 1
    assert verify(summary.corpus) == []


def test_folders_and_forms_that_cannot_be_taken_are_one_line(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no files of conversations below `annotations`"):
        import_conversations(exported / "images", None, tmp_path / "out")
    parquet = export(exported.parent / "corpus", "hf", tmp_path / "hf").out / "data" / "train-00000.parquet"
    with pytest.raises(UserError, match=r"train-00000\.parquet: holds its pictures as bytes"):
        import_conversations(parquet, None, tmp_path / "out")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.jsonl").write_text(json.dumps(official(0)))
    (tmp_path / "annotations" / "b.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "?"}]}))
    with pytest.raises(UserError, match=r"b\.jsonl: writes `messages` where a\.jsonl writes `conversations`"):
        import_conversations(tmp_path, None, tmp_path / "out")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
TRICKY = st.sampled_from(["<image>", "\n<image>\n", "a\nb", "\n lead", "trail\n", "<", "image>", " <image> "])


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Samples of any turns about up to three images, each shown once, in any place."""
    images = draw(st.integers(0, 3))
    turns = [[draw(TEXT | TRICKY) for _ in range(draw(st.integers(1, 3)))] for _ in range(2 * draw(st.integers(1, 3)))]
    places: list[list[Any]] = [list(turn) for turn in turns]
    for index in draw(st.permutations(range(images))):
        turn = places[draw(st.integers(0, len(places) - 1))]
        turn.insert(draw(st.integers(0, len(turn))), ImageRef(index))
    roles = ("user", "assistant")
    return Sample(
        id="#".join(draw(st.lists(st.text(string.printable + "病/\x00", max_size=80), min_size=1, max_size=9))) or "x",
        subset="caption" if images else "text-single",
        kind="caption",
        granularity="image",
        language="en",
        images=tuple(draw(st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), min_size=images,
                                   max_size=images, unique_by=lambda name: name[:16]))),
        width=8,
        height=6,
        turns=tuple(Turn(roles[number % 2], tuple(turn)) for number, turn in enumerate(places)),  # type: ignore[arg-type]
        task="cls",
        modality="CT",
        department=None,
        clinical_task=None,
        source="any",
        license=None,
        case_id="any/x",
        patient_id="secret",
        provenance=Provenance(writer="template", prompt_id="x", facts={"form": "caption"}),
        split="val",
    )  # fmt: skip


SPECS = {
    form: TextSource(
        name="any", format="text", root=".", annotations="a", exported=form, id_column="id",
        conversations_column="conversations" if form == "llava" else "messages",
    )  # type: ignore[arg-type]
    for form in ("llava", "messages")
}  # fmt: skip


@given(samples())
def test_any_turns_come_back_as_they_were_in_either_form(sample: Sample) -> None:
    for form, entry in (("llava", llava_entry(sample)), ("messages", message_entry(sample))):
        row = json.loads(json.dumps(entry))
        told = told_of(SPECS[form], row)
        assert told is not None
        back = published_conversation(SPECS[form], row, told, "a@row=1", image_paths(sample))
        assert back.turns == sample.turns
        assert back.published is not None
        assert (back.published.id, back.published.split, back.language) == (sample.id, "val", "en")
        assert "secret" not in canonical_json(row) or "secret" in sample.id
    marks = sum(turn["value"].count("<image>") for turn in llava_entry(sample)["conversations"])
    assert marks == len(sample.images)


@given(samples())
def test_paths_of_images_are_plain_short_below_images_and_unique(sample: Sample) -> None:
    paths = image_paths(sample)
    assert len({path.lower() for path in paths}) == len(sample.images)
    for path in paths:
        assert re.fullmatch(r"images(/[A-Za-z0-9_=@+][A-Za-z0-9_=@+.-]*)+-[0-9a-f]{16}\.png", path), path
        assert max(map(len, path.split("/"))) <= 100
        assert len(path) < 1_000
