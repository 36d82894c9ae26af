"""Questions to reason about, made from corpora: their words, letters, pictures, and sides that share nothing."""

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reasoning_questions import all_rows, build_corpus, build_other, changed, content, manifest_of, rows_of

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.images import image_path
from gmai_vl.foundation import UserError
from gmai_vl.reasoning.items import Side, read_items, side_file
from gmai_vl.reasoning.questions import build_questions


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_corpus(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def other(corpus: Path) -> Path:
    return build_other(corpus)


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "questions"
    build_questions([corpus], out)
    return out


def test_each_side_has_the_choices_of_that_side_of_the_corpus_word_for_word(corpus: Path, made: Path) -> None:
    opened, asked = Corpus(corpus), 0
    for side in ("train", "val", "test"):
        samples = {(sample.images[0], sample.turns[0].text): sample for sample in opened.samples(side)}
        wanted = [sample for sample in samples.values() if sample.kind == "mcq"]
        items = read_items(made, side)
        assert len(items.questions) == len(wanted) > 0
        for question in items.questions:
            (image,) = question.images
            name = Path(image).stem
            sample = next(
                sample
                for sample in wanted
                if sample.images == (name,)
                and sample.turns[0].text.startswith(question.stem + "\nA. ")
                and sorted(sample.options.values()) == sorted(question.options.values())
            )
            assert question.options[question.answer] == sample.options[sample.answer]
            assert question.language == sample.language
            assert np.array_equal(items.image(image), opened.image(name))
            about = items.about[question.id]
            assert (about.case_id, about.difficulty) == (sample.case_id, None)
            assert (made / about.corpus).resolve() == corpus.resolve()
            assert about.fingerprint == opened.manifest["fingerprint"]
            assert question.labels["source"] == sample.source
            assert question.labels["form"] == sample.provenance.facts["form"]
            asked += 1
    assert asked == sum(manifest_of(made)["counts"]["questions"].values())
    assert not side_file(made, "held_out").exists()
    with pytest.raises(UserError, match=r"held_out\.jsonl: no such file; .* where that side has questions"):
        read_items(made, "held_out")


def test_options_stand_in_a_new_order(corpus: Path, made: Path) -> None:
    old = {
        (sample.images[0], frozenset(sample.options.values())): tuple(sample.options.values())
        for sample in Corpus(corpus).samples()
        if sample.kind == "mcq"
    }
    rows = [row for _, row in all_rows(made)]
    new = [tuple(row[letter] for letter in "ABCD" if letter in row) for row in rows]
    same = [old[Path(row["image"]).stem, frozenset(order)] == order for row, order in zip(rows, new, strict=True)]
    assert 0 < sum(same) < len(rows) / 2


def test_right_letters_are_even_among_questions_with_equally_many_options(made: Path) -> None:
    right: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for side, row in all_rows(made):
        right[side, sum(letter in row for letter in "ABCDEFGHI")][row["answer"]] += 1
    assert len(right) > 3
    for (_, number), counts in right.items():
        of_all = [counts[letter] for letter in "ABCDEFGHI"[:number]]
        assert max(of_all) - min(of_all) <= 1 and sum(of_all) == counts.total()


def test_held_out_sources_are_on_no_other_side(corpus: Path, tmp_path: Path) -> None:
    built = build_questions([corpus], tmp_path / "q", hold_out=["polyps"])
    assert {side: set(counts) for side, counts in built.sources.items()} == {
        "train": {"skin"}, "val": {"skin"}, "test": {"skin"}, "held_out": {"polyps"},
    }  # fmt: skip
    every = [sample for sample in Corpus(corpus).samples() if sample.kind == "mcq" and sample.source == "polyps"]
    assert built.questions["held_out"] == len(every)
    assert manifest_of(tmp_path / "q")["hold_out"] == ["polyps"]
    with pytest.raises(UserError, match=r"--hold-out polypps: no source .* did you mean `polyps`\?"):
        build_questions([corpus], tmp_path / "q", hold_out=["polypps"])


def test_corpora_that_share_pictures_share_none_between_sides(corpus: Path, other: Path, tmp_path: Path) -> None:
    built = build_questions([corpus, other], tmp_path / "q", hold_out=["more-polyps"])
    sides: dict[str, set[Side]] = defaultdict(set)
    for side, row in all_rows(tmp_path / "q"):
        sides[row["image"]].add(side)
        sides[row["patient"]].add(side)
    assert all(len(on) == 1 for on in sides.values())
    skin = {sample.images[0] for sample in Corpus(corpus).samples() if sample.source == "skin" and sample.images}
    assert {row["source"] for _, row in all_rows(tmp_path / "q")} == {"skin", "more-polyps"}
    assert len({row["image"] for _, row in all_rows(tmp_path / "q") if row["source"] == "skin"}) <= len(skin)
    reasons = built.left_out
    assert reasons["its image is also in held_out"] > 0  # the polyps of the first corpus, by their other name
    assert reasons["its image is also in test"] > 0
    taken = sum(sample.kind == "mcq" for one in (corpus, other) for sample in Corpus(one).samples())
    assert sum(built.questions.values()) + sum(reasons.values()) == taken


def test_a_corpus_that_is_given_twice_counts_once(corpus: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "copy")
    built = build_questions([corpus, tmp_path / "copy"], tmp_path / "q")
    assert built.questions == manifest_of(made)["counts"]["questions"]
    assert built.left_out == {"is asked before": sum(built.questions.values())}


def test_the_same_corpora_and_seed_give_the_same_bytes(corpus: Path, other: Path, tmp_path: Path) -> None:
    one = build_questions([corpus, other], tmp_path / "one", seed=3)
    two = build_questions([other, corpus], tmp_path / "two", seed=3)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    deep = build_questions([corpus, other], tmp_path / "deep" / "er", seed=3)
    assert one.fingerprint == two.fingerprint == deep.fingerprint
    seed = build_questions([corpus, other], tmp_path / "seed", seed=4)
    assert seed.fingerprint != one.fingerprint
    assert {row["id"] for _, row in all_rows(tmp_path / "seed")} == {row["id"] for _, row in all_rows(tmp_path / "one")}


def test_patients_are_told_by_hash_only(corpus: Path, made: Path) -> None:
    ids = {sample.id: sample for sample in Corpus(corpus).samples()}
    patients = defaultdict(set)
    for _, row in all_rows(made):
        told = json.dumps({name: value for name, value in row.items() if name != "about"})
        assert not any(f"p{number}_" in told for number in range(9)) and row["id"] not in ids
        of_case = next(s.patient_id or s.images[0] for s in ids.values() if s.case_id == row["about"]["case_id"])
        patients[row["source"], of_case].add(row["patient"])
    assert all(len(hashes) == 1 for hashes in patients.values())
    assert len(set().union(*patients.values())) == len(patients)


def test_images_are_links_to_those_of_the_corpus_and_lie_there_once(corpus: Path, made: Path) -> None:
    files = [path for path in (made / "images").rglob("*") if path.is_file()]
    assert {f"images/{path.parent.name}/{path.name}" for path in files} == {row["image"] for _, row in all_rows(made)}
    for path in files:
        assert path.samefile(image_path(corpus, path.stem))


def test_a_corpus_on_another_disk_is_copied(corpus: Path, made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    build_questions([corpus], tmp_path / "q")
    old = {name: data for name, data in content(made).items() if name.startswith("images/")}
    assert {name: data for name, data in content(tmp_path / "q").items() if name.startswith("images/")} == old


def test_a_changed_image_is_an_error_and_leaves_what_was_there(corpus: Path, tmp_path: Path) -> None:
    broken = changed(corpus, tmp_path / "corpus", lambda row: row)
    build_questions([broken], tmp_path / "q")
    before = content(tmp_path / "q")
    path = image_path(broken, Path(rows_of(tmp_path / "q", "test")[0]["image"]).stem)
    path.unlink()
    with pytest.raises(UserError, match=r"this image of the corpus is missing; run `gmai data verify"):
        build_questions([broken], tmp_path / "q")
    path.write_bytes(next(other for other in (broken / "images").rglob("*.png")).read_bytes())
    with pytest.raises(UserError, match="holds other pixels than its name says"):
        build_questions([broken], tmp_path / "q")
    assert content(tmp_path / "q") == before and {each.name for each in tmp_path.iterdir()} == {"corpus", "q"}


def test_samples_whose_options_cannot_be_told_are_counted(corpus: Path, tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        if row["kind"] == "mcq" and row["source"] == "polyps":
            row["messages"][0]["content"][1]["text"] = "What is this?"
        elif row["kind"] == "mcq":  # as others write them, with an instruction above the options
            stem, *_ = row["messages"][0]["content"][1]["text"].split("\nA. ")
            listed = " ".join(f"({letter}) {text}" for letter, text in zip("ABCD", row["options"], strict=False))
            row["messages"][0]["content"][1]["text"] = f"{stem}\nOptions:\n{listed}\nAnswer now."
        return row

    built = build_questions([changed(corpus, tmp_path / "corpus", change)], tmp_path / "q")
    polyps = sum(sample.kind == "mcq" and sample.source == "polyps" for sample in Corpus(corpus).samples())
    assert built.left_out == {"its options are not those in its words": polyps}
    assert not any("Options" in row["question"] or "Answer" in row["question"] for _, row in all_rows(tmp_path / "q"))
    closed = changed(corpus, tmp_path / "closed", lambda row: row | {"kind": "closed"})
    with pytest.raises(UserError, match="no multiple-choice question is left: there are none"):
        build_questions([closed], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_limit_holds_for_each_side_and_mixes_forms(corpus: Path, made: Path, tmp_path: Path) -> None:
    built = build_questions([corpus], tmp_path / "q", limit=8)
    assert max(built.questions.values()) == 8
    whole = manifest_of(made)["counts"]["questions"]
    assert built.left_out["beyond --limit"] == sum(whole.values()) - sum(built.questions.values()) > 0
    assert len({row["form"] for row in rows_of(tmp_path / "q", "train")}) > 3
