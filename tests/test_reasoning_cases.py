"""The cases that questions are about: found or not and why, what the reward `facts` and a comparison make of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from construction_corpus import changed
from corpus_recipes import write_recipe, write_sources
from reasoning_models import save_taught

from gmai_vl.corpus import Corpus, build
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, build_model, save_model
from gmai_vl.reasoning.cases import find_cases
from gmai_vl.reasoning.compare import Model, compare_models
from gmai_vl.reasoning.grpo import GrpoRecipe, grpo
from gmai_vl.reasoning.grpo import run as grpo_run
from gmai_vl.reasoning.items import SIDES, About, Side, read_items, side_file
from gmai_vl.reasoning.questions import build_questions
from gmai_vl.reasoning.rewards.facts import verdicts_on
from gmai_vl.writing import measured

THOUGHT = "There is a polyp."
"""True of all pictures of polyps and of none of skin."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A corpus, questions about it without and with the skin held out, and a checkpoint that has one thought."""
    folder = tmp_path_factory.mktemp("cases")
    write_sources(folder, patients=4, polyps=10)
    build(write_recipe(folder, languages={"en": 1.0}), folder / "corpus")
    build_questions([folder / "corpus"], folder / "both")
    build_questions([folder / "corpus"], folder / "apart", hold_out=["skin"])
    for questions in ("both", "apart"):
        rewrite(folder / questions, in_the_same_words)
    save_taught(folder / "both", folder / "taught", "A", THOUGHT)
    return folder


def rewrite(folder: Path, change: Callable[[int, dict], dict]) -> None:
    for side in SIDES:
        if (file := side_file(folder, side)).is_file():
            rows = [change(number, row) for number, row in enumerate(rows_of(folder, side))]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def in_the_same_words(number: int, row: dict) -> dict:
    """Ask everything alike: a tiny model has its answer ready for the words that it was taught with only."""
    kept = {key: value for key, value in row.items() if key not in "ABCDEFGHI"}
    return kept | {"question": "What is it?", "A": "polyp", "B": "skin", "answer": "AB"[row["source"] == "skin"]}


def rows_of(folder: Path, side: Side = "train") -> list[dict]:
    return [json.loads(line) for line in (folder / f"{side}.jsonl").read_text("utf-8").splitlines()]


def copied(base: Path, name: str, about: dict, share: int = 1, of: str = "both") -> Path:
    """Copy questions, every `share`th of them with something else in its `about`."""
    shutil.copytree(base / of, base / name)
    rewrite(base / name, lambda number, row: row | {"about": row["about"] | about} if number % share == 0 else row)
    return base / name


def test_what_is_said_of_a_found_case_is_what_is_said_of_the_case_itself(base):
    items = read_items(base / "both", "train")
    cases = find_cases(base / "both", items.about)
    assert (len(cases.packed), cases.unknown) == (len(items.questions), {})
    corpus = Corpus(base / "corpus")
    thought = (
        "There is a polyp on the left. It is small. It lies in the upper left. It covers 8.8 % of the image. There are "
        "two polyps. The image is 24 x 20 pixels. This is an endoscopic image. There is no polyp. There is a nevus."
    )
    spoken = set()
    for question in items.questions:
        case = corpus.case(str(items.about[question.id].case_id))
        told = dict(verdicts_on(thought, "en", cases.of(question.id)))
        assert told == dict(verdicts_on(thought, "en", measured(case)))
        spoken |= set(told.items())
    assert len(spoken) > 10
    assert len(set(map(id, cases.packed.values()))) == len({about.case_id for about in items.about.values()})


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"case_id": None}, "the question names no case"),
        ({"corpus": None}, "the question names no case"),
        ({"corpus": "elsewhere"}, "the corpus of its case is not there"),
        ({"fingerprint": "0" * 64}, "the corpus of its case has been changed"),
        ({"case_id": "polyps/none.png"}, "the corpus has no such case"),
    ],
)
def test_a_case_that_is_not_the_one_named_is_unknown(base, about, why):
    known = next(iter(read_items(base / "both", "train").about.values()))
    cases = find_cases(base / "both", {"a": known.model_copy(update=about), "b": known})
    assert cases.unknown == {"a": why} and cases.of("a") is None and cases.of("b") is not None


def test_cases_without_annotation_or_with_a_damaged_one_are_unknown(base, tmp_path):
    def change(rows):
        of_polyps = [row for row in rows if row["source"] == "polyps"]
        of_polyps[0]["modality"] = None
        of_polyps[1]["task"] = "qa"
        of_polyps[2]["image"] = None
        of_polyps[3]["findings"][0]["mask"] = [1, 2]
        return rows

    corpus = Corpus(changed(base / "corpus", tmp_path / "corpus", change))
    ids = [row["case_id"] for row in corpus.rows("cases", ["case_id", "source"]) if row["source"] == "polyps"]
    about = {id: About(corpus="corpus", fingerprint=corpus.manifest["fingerprint"], case_id=id) for id in ids}
    cases = find_cases(tmp_path, about)
    assert list(map(cases.unknown.get, ids[:5])) == [
        *["its case is not annotated"] * 3,
        "its case cannot be read",
        None,
    ]
    assert set(cases.packed) == set(ids[4:])


def recipe(base: Path, questions: str, out: str, **changes) -> GrpoRecipe:
    """A run whose only step asks every question: what it logs is of them all."""
    fields = {
        "name": "r",
        "out": out,
        "model": {"init": "taught"},
        "questions": questions,
        "group": 2,
        "questions_per_step": len(rows_of(base / questions)),
        "temperature": 0.05,
        "max_new_tokens": 60,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "rewards": {"facts": 1.0},
        "precision": "fp32",
        "drop_settled": False,
    }
    return GrpoRecipe(**fields | changes)


def steps(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_thoughts_are_paid_by_what_the_case_of_their_question_says(base, capsys):
    rows = rows_of(base / "both")
    final = grpo(recipe(base, "both", "whole"), base=base)
    (step,) = steps(base / "whole")
    assert step["faults"] == 0 and step["reward_format"] == 1
    polyps = sum(row["source"] == "polyps" for row in rows)
    assert 0 < polyps < len(rows) and step["reward_facts"] == pytest.approx(polyps / len(rows))
    assert f"r: {len(rows)} of {len(rows)} questions have a case for `facts`\n" in capsys.readouterr().err
    told = json.loads((final / "provenance.json").read_text())
    assert told["cases"] == {"known": len(rows), "unknown": {}} and told["faults"] == {}


def test_questions_without_a_case_earn_nothing_for_facts_and_are_counted(base, capsys):
    rows = rows_of(copied(base, "half", {"case_id": "none"}, share=2))
    final = grpo(recipe(base, "half", "partly"), base=base)
    (step,) = steps(base / "partly")
    paid = sum(row["source"] == "polyps" and row["about"]["case_id"] != "none" for row in rows)
    assert paid and step["reward_facts"] == pytest.approx(paid / len(rows)) and step["faults"] == 0
    known, unknown = len(rows) // 2, len(rows) - len(rows) // 2
    said = f"r: {known} of {len(rows)} questions have a case for `facts` ({unknown}: the corpus has no such case)\n"
    assert said in capsys.readouterr().err
    counted = {"known": known, "unknown": {"the corpus has no such case": unknown}}
    assert json.loads((final / "provenance.json").read_text())["cases"] == counted


def test_facts_that_nothing_can_be_held_against_are_one_line(base):
    rows = rows_of(copied(base, "imported", {"corpus": None, "fingerprint": None, "case_id": None}))
    message = (
        rf"^rewards.facts: 1, but none of the {len(rows)} questions in imported has a known case \({len(rows)}: the "
        r"question names no case\); build them from corpora that are at hand, or set it to 0$"
    )
    with pytest.raises(UserError, match=message):
        grpo(recipe(base, "imported", "none"), base=base)


def test_cases_are_read_only_where_facts_count(base, tmp_path):
    for name in ("corpus", "both", "taught"):
        shutil.copytree(base / name, tmp_path / name)
    (tmp_path / "corpus/cases.parquet").write_bytes(b"damaged")
    final = grpo(recipe(base, "both", "out", rewards={}), base=tmp_path)
    assert {"cases", "cases_sha256"}.isdisjoint(json.loads((final / "provenance.json").read_text()))
    with pytest.raises(UserError, match=r"cases.parquet: cannot be read"):
        grpo(recipe(base, "both", "other"), base=tmp_path)


def test_a_stopped_run_goes_on_to_the_same_bits_and_with_the_same_cases_only(base, tmp_path, monkeypatch):
    class Stopping(grpo_run.Log):
        def on_log(self, args, state, control, logs=None, **more):
            super().on_log(args, state, control, logs, **more)
            if state.global_step == 2:
                raise InterruptedError

    for name in ("corpus", "both", "taught"):
        shutil.copytree(base / name, tmp_path / name)
    varied = {"temperature": 0.6, "learning_rate": 1e-4, "questions_per_step": 4, "max_steps": 3, "state": {"every": 1}}
    whole = grpo(recipe(base, "both", "whole", **varied), base=tmp_path)
    with monkeypatch.context() as stopping, pytest.raises(InterruptedError):
        stopping.setattr(grpo_run, "Log", Stopping)
        grpo(recipe(base, "both", "stopped", **varied), base=tmp_path)
    (tmp_path / "corpus").rename(tmp_path / "gone")
    with pytest.raises(UserError, match="was begun with another cases_sha256; --overwrite begins anew"):
        grpo(recipe(base, "both", "stopped", **varied), base=tmp_path, resume=True)
    (tmp_path / "gone").rename(tmp_path / "corpus")
    final = grpo(recipe(base, "both", "stopped", **varied), base=tmp_path, resume=True)
    assert (final / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    earned = [[step["reward_facts"] for step in steps(tmp_path / name)] for name in ("whole", "stopped")]
    assert earned[0] == earned[1] and len(earned[0]) == 3 and any(earned[0])


def compared(base: Path, questions: Path, out: Path) -> dict:
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), base / "untaught")
    models = [Model("base", base / "untaught"), Model("taught", base / "taught")]
    return compare_models(models, questions, out, max_new_tokens=60)


def test_a_comparison_tells_how_many_thoughts_are_contradicted(base, tmp_path):
    told = compared(base, base / "apart", tmp_path / "out")["models"]
    for side, share in (("test", 0.0), ("held_out", 1.0)):
        n = len(rows_of(base / "apart", side))
        assert told["taught"]["sides"][side]["facts"] == {
            "questions": n, "thoughts": n, "statements": n, "true": 1 - share, "contradicted": share,
        }  # fmt: skip
        assert told["base"]["sides"][side]["facts"] == {
            "questions": n, "thoughts": 0, "statements": 0, "true": None, "contradicted": None,
        }  # fmt: skip
        line = f"reasoning,taught,measured,*,{side} thoughts contradicted,{100 * share:.1f},,,{n}"
        written = (tmp_path / "out/compare.csv").read_text().splitlines()
        assert any(row.startswith(line.split("*")[0]) and row.endswith(line.split("*")[1]) for row in written)
    assert json.loads((tmp_path / "out/compare.json").read_text())["models"] == told


def test_a_comparison_tells_nothing_where_no_case_is_known(base, tmp_path):
    questions = copied(base, "changed", {"fingerprint": "0" * 64}, of="apart")
    told = compared(base, questions, tmp_path / "out")["models"]["taught"]["sides"]
    assert (told["test"]["facts"], told["held_out"]["facts"]) == (None, None)
    assert "contradicted" not in (tmp_path / "out/compare.md").read_text()
