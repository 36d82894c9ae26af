"""Questions to reason about, made from corpora: sides that share nothing, even letters, a folder that is whole."""

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from corpus_recipes import write_recipe, write_sources
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import run_killed_at
from typer.testing import CliRunner

from gmai_vl.cli import app
from gmai_vl.corpus import Corpus, build
from gmai_vl.corpus.images import image_path
from gmai_vl.corpus.schema import SAMPLES
from gmai_vl.evaluation import Question
from gmai_vl.foundation import BadItem, UserError
from gmai_vl.reasoning.items import SIDES, About, Side, read_items, side_file
from gmai_vl.reasoning.questions import build_questions
from gmai_vl.reasoning.questions.item import Item, sound
from gmai_vl.reasoning.questions.letters import with_letters
from gmai_vl.reasoning.questions.manifest import strictest
from gmai_vl.reasoning.questions.sides import FIRST, apart, without_repeats


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    build(write_sources(folder, patients=9, polyps=10), folder / "corpus")
    return folder / "corpus"


@pytest.fixture(scope="module")
def other(corpus: Path) -> Path:
    """The same pictures in another corpus, split by another seed, its polyps under another name."""
    sources = yaml.safe_load((corpus.parent / "recipe.yaml").read_text())["sources"]
    sources[1]["name"] = "more-polyps"
    recipe = write_recipe(corpus.parent, name="other", seed=5, sources=sources)
    build(recipe, corpus.parent / "other")
    return corpus.parent / "other"


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "questions"
    build_questions([corpus], out)
    return out


def rows_of(folder: Path, side: Side) -> list[dict[str, Any]]:
    file = side_file(folder, side)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def all_rows(folder: Path) -> list[tuple[Side, dict[str, Any]]]:
    return [(side, row) for side in SIDES for row in rows_of(folder, side)]


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text("utf-8"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(corpus: Path, to: Path, change: Any) -> Path:
    """Copy a corpus with other samples."""
    shutil.copytree(corpus, to)
    for path in (to / "samples").glob("*.parquet"):
        rows = [change(row) for row in pq.read_table(path).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), path)
    return to


def item(
    *,
    side: Side = "train",
    image: str = "0",
    patient: str | None = None,
    stem: str = "What?",
    options: tuple[str, ...] = ("cyst", "liver"),
    answer: str = "A",
    source: str = "s",
    form: str | None = None,
) -> Item:
    question = Question(
        id="",
        kind="mcq",
        language="en",
        turns=(),
        stem=stem,
        images=(image,),
        options=dict(zip("ABCDEFGHIJKL", options, strict=False)),
        answer=answer,
        source=source,
        patient_id=patient,
        form=form,
    )
    return Item(
        question=sound(question), side=side, license=None, about=About(), picture=Path("x.png"), place=f"{side} {image}"
    )


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


@given(
    st.lists(st.tuples(st.sampled_from(SIDES), st.integers(2, 9), st.sampled_from("pq")), max_size=40),
    st.integers(0, 9),
)
def test_letters_are_dealt_evenly_and_the_right_text_stays_right(kinds: list[tuple[Side, int, str]], seed: int) -> None:
    items = [
        item(side=side, image=str(number), options=tuple(f"text {place}" for place in range(count)), form=form)
        for number, (side, count, form) in enumerate(kinds)
    ]
    dealt = with_letters(items, seed)
    assert dealt == with_letters(items[::-1], seed)
    by_id = {one.id: one for one in items}
    counts: Counter[tuple[Side, int, str]] = Counter()
    for one in dealt:
        assert one.options[one.question.answer] == "text 0"
        assert sorted(one.options.values()) == sorted(by_id[one.id].options.values())
        assert list(one.options) == list("ABCDEFGHI"[: len(one.options)])
        counts[one.side, len(one.options), one.question.answer] += 1
    for side in SIDES:
        for number in range(2, 10):
            of_all = [counts[side, number, letter] for letter in "ABCDEFGHI"[:number]]
            assert max(of_all) - min(of_all) <= 1
    assert len(dealt) == len(items)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SIDES), st.integers(0, 6), st.sampled_from([None, "p", "q", "r"]), st.sampled_from("ab")
        ),
        max_size=14,
    )
)
@settings(max_examples=200)
def test_no_patient_image_or_question_is_on_two_sides(drawn: list[tuple[Side, int, str | None, str]]) -> None:
    items = [item(side=side, image=str(i), patient=patient, stem=stem) for side, i, patient, stem in drawn]
    kept, leaks = apart(items)
    assert Counter(map(id, [*kept, *(one for one, _ in leaks)])) == Counter(map(id, items))
    for one, two in combinations(kept, 2):
        if one.side != two.side:
            assert one.image != two.image and one.id != two.id
            assert one.question.patient_id is None or one.question.patient_id != two.question.patient_id
    for one, reason in leaks:  # by a path of images and patients, something of it is on an earlier side
        reached, grown = [one], True
        while grown:
            more = [two for two in items if two not in reached and any(_tied(two, three) for three in reached)]
            reached, grown = reached + more, bool(more)
        first = min((two.side for two in reached), key=FIRST.index)
        assert FIRST.index(first) < FIRST.index(one.side) and reason.endswith(f" in {first}")
        assert any(two.side == first for two in reached)
    once, repeats = without_repeats(kept, items)
    assert len({one.id for one in once}) == len(once) and len(once) + len(repeats) == len(kept)


def _tied(one: Item, two: Item) -> bool:
    patient = one.question.patient_id
    return one.image == two.image or (patient is not None and patient == two.question.patient_id)


def test_what_is_on_two_sides_is_dropped_from_the_later_one() -> None:
    test, train = item(side="test", image="1", patient="p"), item(side="train", image="2", patient="p")
    val, far = item(side="val", image="1", patient="q"), item(side="train", image="3", patient="q")
    free, stranger = item(side="train", image="4"), item(side="train", image="5", patient="p", source="another")
    kept, leaks = apart([train, far, free, test, val, stranger])
    assert kept == [free, test, stranger]
    assert [(one.image, reason) for one, reason in leaks] == [
        ("2", "its patient is also in test"),
        ("3", "its patient shares an image with one in test"),
        ("1", "its image is also in test"),
    ]


def test_a_question_asked_twice_is_kept_once_and_one_answered_twice_not_at_all() -> None:
    first, again = item(options=("cyst", "liver")), item(stem="what? ", options=("Liver.", "cyst"), answer="B")
    one, two = item(image="2"), item(image="2", answer="B")
    lost = item(side="test", stem="Where?", answer="B", image="3")
    items = [
        first,
        again,
        one,
        two,
        item(stem="Where?"),
        item(options=("cyst", "spleen")),
        item(stem="Where?", image="3"),
    ]
    kept, left_out = without_repeats(items, [*items, lost])
    assert [each.question.stem for each in kept] == ["What?", "Where?", "What?"] and kept[0] is first
    assert [reason for _, reason in left_out] == [
        "is asked before: train 0",
        *["is asked again with another answer"] * 3,
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"options": {"A": "Cyst", "B": "cyst.", "C": "x"}}, "two of its options read alike"),
        ({"options": {"A": "肿瘤", "B": "肿瘤。"}}, "two of its options read alike"),
        ({"options": {"A": "cyst"}}, "has fewer than two options"),
        ({"options": None}, "has fewer than two options"),
        ({"options": {"A": "cyst", "B": " ."}}, "one of its options is empty"),
        ({"options": dict(zip("ABCDEFGHIJ", "klmnopqrst", strict=True))}, "has more than 9 options"),
        ({"answer": "C"}, "its answer is none of its options"),
        ({"answer": None}, "its answer is none of its options"),
        ({"options": {"A": "x", "B": "All of the above"}}, "one of its options speaks of the others"),
        ({"options": {"A": "x", "B": "y", "C": "A and B"}}, "one of its options speaks of the others"),
        ({"options": {"A": "x", "B": "both A, B"}}, "one of its options speaks of the others"),
        ({"options": {"A": "x", "B": "以上都是"}}, "one of its options speaks of the others"),
        ({"images": ()}, "has no image"),
        ({"images": ("1", "2")}, "has several images"),
        ({"stem": " "}, "has no question besides its options"),
        ({"stem": "See <image 2>"}, "it marks an image that it does not have"),
    ],
)
def test_what_has_no_single_answer_in_any_order_is_left_out(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadItem, match=f"^{reason}$"):
        sound(replace(item().question, **change))


@pytest.mark.parametrize("text", ["a cyst", "hepatitis A and B", "10 mm 以上", "no finding", "none of these", "A"])
def test_options_that_only_look_so_are_kept(text: str) -> None:
    assert item(options=(text, "another")).options["A"] == text


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


def test_the_manifest_counts_what_is_there(corpus: Path, made: Path) -> None:
    told = manifest_of(made)
    rows = all_rows(made)
    for name, column in (("sources", "source"), ("forms", "form"), ("languages", "language")):
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        for side, row in rows:
            counted[side][row[column]] += 1
        assert told["counts"][name] == counted
    assert told["counts"]["images"] == {
        side: len({row["image"] for on, row in rows if on == side}) for side in ("train", "val", "test")
    }
    assert told["licences"]["sources"] == {"polyps": "MIT", "skin": "CC0-1.0"}
    assert told["licences"]["strictest"] == "MIT" and told["use"] == "research use only, not for diagnosis"
    assert told["corpora"] == [{"name": "small", "fingerprint": Corpus(corpus).manifest["fingerprint"]}]
    assert (told["seed"], told["limit"], told["hold_out"], told["left_out"]) == (0, None, [], {})


def test_the_manifest_tells_what_one_reaches_who_never_looks(made: Path) -> None:
    answers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)

    def texts(row: dict[str, Any]) -> list[str]:
        return sorted(row[letter] for letter in "ABCDEFGHI" if letter in row)

    for row in rows_of(made, "train"):
        for key in ((row["form"], *texts(row)), (row["form"],), ()):
            answers[key][row[row["answer"]]] += 1
    told = manifest_of(made)["baselines"]
    assert set(told) == {"val", "test"}
    for side in ("val", "test"):
        right = []
        for row in rows_of(made, side):
            keys = ((row["form"], *texts(row)), (row["form"],), ())
            seen = next((answers[key] for key in keys if any(text in answers[key] for text in texts(row))), Counter())
            right.append(max(texts(row), key=lambda text, seen=seen: seen[text]) == row[row["answer"]])
        chance = sum(1 / len(texts(row)) for row in rows_of(made, side)) / len(right)
        assert told[side]["chance"] == pytest.approx(chance, abs=1e-4)
        assert told[side]["majority"] == pytest.approx(sum(right) / len(right), abs=1e-4)


def test_the_strictest_licence() -> None:
    assert strictest(["CC0-1.0", "cc-by-4.0"]) == "CC-BY-4.0"
    assert strictest(["CC-BY-4.0", "CC-BY-SA-4.0"]) == "CC-BY-SA-4.0"
    assert strictest(["CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0"]) == "CC-BY-ND-4.0"
    assert strictest(["CC-BY-NC-ND-4.0", None, "MIT"]) == "unknown"
    assert strictest([None, "research-only"]) == "research-only"


def test_a_folder_that_is_something_else_is_not_replaced(corpus: Path, made: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    shutil.copytree(made, stranger)
    (stranger / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"holds `thesis\.tex`, which no folder of questions has"):
        build_questions([corpus], stranger)
    (stranger / "thesis.tex").unlink()
    (stranger / "manifest.json").write_text('{"form": "GMAI-MMBench"}')
    with pytest.raises(UserError, match="give a new or an empty folder"):
        build_questions([corpus], stranger)
    for out in (corpus / "q", corpus.parent):
        with pytest.raises(UserError, match="give another --out"):
            build_questions([corpus], out)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; give a folder"):
        build_questions([corpus], tmp_path / "file")


def test_a_manifest_that_is_none_is_an_error(corpus: Path, tmp_path: Path) -> None:
    broken = tmp_path / "corpus"
    shutil.copytree(corpus, broken)
    (broken / "manifest.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read"):
        build_questions([broken], tmp_path / "q")
    (broken / "manifest.json").write_text('{"name": 3}')
    with pytest.raises(UserError, match="has no name or fingerprint; build the corpus anew"):
        build_questions([broken], tmp_path / "q")


CALL = (
    "from gmai_vl.reasoning.questions import build_questions; "
    "call = lambda corpus, out: build_questions([corpus], out, seed=1)"
)


def test_a_killed_build_leaves_nothing_half(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "watched" / "out"
    out.parent.mkdir()
    assert run_killed_at(CALL, [corpus, out], out.parent, 30).returncode == -signal.SIGKILL
    assert list(out.parent.glob(".out.*/images/*/*.png")) and not out.exists()


@pytest.mark.long
def test_a_build_killed_at_any_moment_leaves_the_old_folder_the_new_one_or_none(
    corpus: Path, made: Path, tmp_path: Path
) -> None:
    watched = tmp_path / "watched"
    counted = run_killed_at(CALL, [corpus, watched / "out"], watched, 0)
    assert counted.returncode == 0, counted.stderr
    whole = content(watched / "out")
    for moment in range(1, int(counted.stdout) + 1, 9):
        shutil.rmtree(watched)
        shutil.copytree(made, watched / "out")
        assert run_killed_at(CALL, [corpus, watched / "out"], watched, moment).returncode == -signal.SIGKILL
        left = content(watched / "out") if (watched / "out").exists() else {}
        assert left in ({}, content(made), whole), moment


def test_the_command_tells_what_came_out_and_loads_no_torch(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "q"
    arguments = ["reason", "questions", str(corpus), "--out", str(out), "--json", str(tmp_path / "j")]
    script = f"""
import sys
from gmai_vl.cli import main
sys.argv = ["gmai", *{[*arguments, "--hold-out", "polyps"]!r}]
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    counts = manifest_of(out)["counts"]["questions"]
    head, *lines = ran.stdout.splitlines()
    assert head.split() == ["source", *SIDES]
    assert lines[0].split() == ["polyps", "0", "0", "0", str(counts["held_out"])]
    assert lines[2].split() == ["all", *(str(counts[side]) for side in SIDES)]
    assert "who never looks  chance  majority" in ran.stdout
    assert "Research use only, not for diagnosis." in ran.stdout
    assert json.loads((tmp_path / "j").read_text()) == manifest_of(out)


def test_what_is_written_can_be_asked_and_scored(made: Path, tmp_path: Path) -> None:
    rows = rows_of(made, "test")
    said = [{"id": f"own-{row['id']}", "response": f"I see it. Answer: {row['answer']}"} for row in rows]
    said[0]["response"] = "I cannot tell."
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    data, scored = str(made / "test.jsonl"), tmp_path / "score.json"
    arguments = ["eval", "score", "--benchmark", "own", "--data", data, "--predictions", str(tmp_path / "p.jsonl")]
    result = CliRunner().invoke(app, [*arguments, "--json", str(scored)])
    assert result.exit_code == 0, result.output
    score = json.loads(scored.read_text())
    assert score["micro"] == pytest.approx(1 - 1 / len(rows)) and score["n"] == len(rows)
    assert {"source", "modality", "form"} <= score["groups"].keys()
    assert score["n_patients"] == len({row["patient"] for row in rows})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "neither a corpus nor --import given; give one of them"),
        (["x", "--import", "y"], "both corpora and --import given"),
        (["x", "--images", "y"], "--images: goes with --import FILE"),
        (["x"], "no finished corpus"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["reason", "questions", *arguments, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, UserError) and said in str(result.exception)
    assert "\n" not in str(result.exception)
