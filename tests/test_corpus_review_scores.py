"""Scores that come back: agreement as published, verdicts at the mark, every bad input told in one line."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_sheets import fill_in, handed_out, table

from gmai_vl.corpus import Corpus, verify
from gmai_vl.corpus.review.agreement import ordinal_alpha, pairwise_alpha
from gmai_vl.corpus.review.record import check_fingerprint, forget_source, passed_sources, write_record
from gmai_vl.corpus.review.rubric import AXES
from gmai_vl.corpus.review.scores import Rater, Review, read_review, read_scores
from gmai_vl.corpus.review.verdict import Verdict, agreement, bootstrap, verdicts
from gmai_vl.corpus.withdraw import withdraw
from gmai_vl.foundation import UserError

UNITS = st.lists(st.lists(st.integers(1, 5), max_size=5), max_size=12)


def columns(*raters: str) -> list[list[int]]:
    """Return the scores of each unit, from one line of scores for each rater; `.` is none."""
    return [[int(score) for score in unit if score != "."] for unit in zip(*(map(str.split, raters)), strict=True)]


def test_alpha_of_krippendorffs_own_examples() -> None:
    """K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): A, two observers and two values; C, four
    observers with missing values, ordinal."""
    two = columns("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")
    assert ordinal_alpha(two) == pytest.approx(0.095, abs=0.0005)
    four = columns(
        "1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."
    )
    assert ordinal_alpha(four) == pytest.approx(0.815, abs=0.0005)


@given(UNITS)
def test_alpha_is_one_less_observed_over_expected_counted_out(units: list[list[int]]) -> None:
    """All pairs are looked at one by one, as the definition has it, with no table of coincidences."""
    pairable = [unit for unit in units if len(unit) > 1]
    values = sorted(score for unit in pairable for score in unit)
    if len(set(values)) < 2:
        assert ordinal_alpha(units) is None
        return

    def distance(one: int, other: int) -> float:
        low, high = sorted((one, other))
        strictly = sum(low < value < high for value in values)
        ends = values.count(low) + values.count(high) if low != high else 0
        return (strictly + ends / 2) ** 2

    observed = sum(
        distance(a, b) / (len(unit) - 1)
        for unit in pairable
        for i, a in enumerate(unit)
        for j, b in enumerate(unit)
        if i != j
    )
    expected = 2 * sum(distance(a, b) for a, b in combinations(values, 2)) / (len(values) - 1)
    alpha = ordinal_alpha(units)
    assert alpha == pytest.approx(1 - observed / expected)
    assert alpha <= 1


@given(UNITS, st.randoms(use_true_random=False))
def test_alpha_knows_the_order_of_values_only(units: list[list[int]], rng: object) -> None:
    alpha = ordinal_alpha(units)
    stretched = {1: 1, 2: 7, 3: 8, 4: 50, 5: 51}
    moved = [[stretched[score] for score in unit] for unit in units]
    for unit in moved:
        rng.shuffle(unit)  # type: ignore[attr-defined]
    assert ordinal_alpha(moved) == (None if alpha is None else pytest.approx(alpha))
    assert ordinal_alpha([[6 - score for score in unit] for unit in units]) == (
        None if alpha is None else pytest.approx(alpha)
    )


def test_alpha_of_full_agreement_chance_and_opposition() -> None:
    assert ordinal_alpha([[1, 1, 1], [4, 4, 4]]) == 1
    assert ordinal_alpha([[3, 3], [3, 3]]) is None  # nothing that could have differed
    assert ordinal_alpha([[1], [5]]) is None
    assert (ordinal_alpha([[1, 5], [5, 1]]) or 0) < 0
    rng = np.random.default_rng(0)
    assert abs(ordinal_alpha(rng.integers(1, 6, (4000, 2)).tolist()) or 1) < 0.05
    assert pairwise_alpha({"a": 1, "b": 5}, [{"a": 1, "b": 5}, {"a": 5, "b": 1}, {}]) == pytest.approx(0.25)


def test_the_interval_of_a_mean() -> None:
    values = np.random.default_rng(1).integers(1, 6, 30).astype(float).tolist()
    low, high = bootstrap(values) or (0.0, 0.0)
    by_normal = 1.96 * np.std(values) / np.sqrt(30)
    assert (low, high) == pytest.approx((np.mean(values) - by_normal, np.mean(values) + by_normal), abs=0.06)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap([2.0]) is None


def review_of(pairs: int, *sources: str) -> Review:
    names = {f"{source}{number}": source for source in sources for number in range(pairs)}
    return Review(corpus="c", fingerprint="f", seed=0, per_source=pairs, source_of=names)


def rater(name: str, review: Review, level_of: Callable[[str], int | None]) -> Rater:
    levels = {pair: level for pair in review.source_of if (level := level_of(pair)) is not None}
    return Rater(name=name, scores={pair: dict.fromkeys(AXES, level) for pair, level in levels.items()}, comments={})


def judged(review: Review, *raters: Rater, mark: float = 3.0) -> dict[str, Verdict]:
    return verdicts(review, raters, ["a", "z"], mark)


def test_a_mean_of_exactly_the_mark_passes_and_a_hair_more_fails() -> None:
    review = review_of(3, "a")
    thirds = [rater(name, review, lambda pair, level=level: level) for name, level in (("x", 2), ("y", 3), ("z", 4))]
    assert judged(review, *thirds)["a"].verdict == "pass"
    one_more = rater("w", review, lambda pair: 4 if pair == "a0" else 3)
    found = judged(review, *thirds, one_more)["a"]
    assert found.people is not None
    assert (found.verdict, found.people.mean) == ("fail", pytest.approx(3 + 1 / 12))
    assert judged(review, *thirds, one_more, mark=3.1)["a"].verdict == "pass"
    assert judged(review, rater("v", review, lambda pair: 1), mark=1.0)["a"].verdict == "pass"


def test_people_decide_where_there_are_any_and_the_judge_elsewhere() -> None:
    review = review_of(4, "a", "b")
    judge = rater("llm:m (prompt 1)", review, lambda pair: 1)
    person = rater("Ann", review, lambda pair: 5 if pair.startswith("a") else None)
    found = judged(review, judge, person)
    assert (found["a"].verdict, found["a"].by) == ("fail", "people")
    assert (found["b"].verdict, found["b"].by) == ("pass", "judge")
    assert (found["z"].verdict, found["z"].by, found["z"].why) == ("none", None, "no pair of it was handed out")
    assert found["a"].judge is not None and found["a"].judge.mean == 1


def test_no_verdict_while_those_who_decide_left_pairs_out() -> None:
    review = review_of(4, "a")
    judge = rater("llm:m", review, lambda pair: 1)
    half = rater("Ann", review, lambda pair: 1 if pair in ("a0", "a1") else None)
    found = judged(review, judge, half)["a"]
    assert (found.verdict, found.by, found.why) == ("none", None, "people scored 2 of 4 pairs")
    other_half = rater("Bo", review, lambda pair: 1 if pair in ("a2", "a3") else None)
    whole = judged(review, judge, half, other_half)["a"]
    assert whole.people is not None
    assert (whole.verdict, whole.people.raters, whole.people.agreement["clarity"]) == ("pass", 2, None)


def test_agreement_of_people_and_of_the_judge_with_them() -> None:
    review = review_of(5, "a")
    people = [rater(name, review, lambda pair: int(pair[1]) + 1) for name in ("x", "y")]
    judge = rater("llm:m", review, lambda pair: max(1, int(pair[1])))
    told = agreement([*people, judge])
    assert told["people"] == dict.fromkeys(AXES, 1.0)
    against = told["judges"]["llm:m"]["clarity"]
    assert against["difference"] == pytest.approx(-0.8)
    assert against["alpha"] == pytest.approx(ordinal_alpha([[n + 1, max(1, n)] for n in range(5)]))


def test_from_sheets_to_verdicts_and_back_to_the_corpus(tmp_path: Path) -> None:
    corpus, drawn, sheets, review = handed_out(tmp_path)
    with pytest.raises(UserError, match=r"was never reviewed \(no review.json\); review it with"):
        passed_sources(corpus)
    fill_in(sheets, review, "Ann", lambda source: 2 if source == "skin" else 4)
    fill_in(sheets, review, "李雷", lambda source: 1 if source == "skin" else 5)
    returned = read_scores(sheets, review)
    assert [each.name for each in returned.raters] == ["Ann", "李雷"]
    assert returned.faults == returned.notes == ()
    found = verdicts(review, returned.raters, ["skin", "polyps"], 3.0)
    record = write_record(corpus, review, returned.raters, found, 3.0)
    assert json.loads((corpus.path / "review.json").read_text(encoding="utf-8")) == json.loads(json.dumps(record))
    assert "Ann" not in (corpus.path / "review.json").read_text(encoding="utf-8")
    assert passed_sources(corpus) == {"skin"}
    polyps = record["sources"]["polyps"]
    assert (polyps["verdict"], polyps["by"], polyps["people"]["mean"]) == ("fail", "people", 4.5)
    by_id = {pair.sample.id: pair.sample.source for pair in drawn.pairs}
    assert {entry["sample"]: entry["source"] for entry in record["poor"]} == {
        sample: source for sample, source in by_id.items() if source == "polyps"
    }
    assert verify(corpus.path) == []


def test_a_table_filled_in_by_hand_comes_back_as_spreadsheets_write_it(tmp_path: Path) -> None:
    _, _, sheets, review = handed_out(tmp_path)
    text = (sheets / "sheet.csv").read_text(encoding="utf-8-sig")
    filled = text.replace(",,,,,,\n", ",1,２, 3 ,4,,\n")
    assert filled != text
    semicolons = "\n".join(
        ["pair;medical_accuracy;clarity;completeness;imaging_relevance"] + [f"{p};1;2;3;4" for p in review.source_of]
    )
    (sheets / "sheet.csv").write_text(filled, encoding="utf-8", newline="")
    (sheets / "Sheet_Bo.csv").write_text(semicolons, encoding="utf-8-sig")
    returned = read_scores(sheets, review)
    assert returned.faults == returned.notes == ()
    assert [each.name for each in returned.raters] == ["Bo", "sheet"]
    for each in returned.raters:
        assert each.scores == {pair: dict(zip(AXES, (1, 2, 3, 4), strict=True)) for pair in review.source_of}


HEAD = "pair,medical_accuracy,clarity,completeness,imaging_relevance,comment,rater\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            HEAD + "{0},1,2,3,6,,A\n",
            "row 2: imaging_relevance: `6` is no score; give a whole number from 1 (best) to 5",
        ),
        (HEAD + "{0},1,2.5,3,4,,A\n", "row 2: clarity: `2.5` is no score"),
        (HEAD + "{0},good,2,3,4,,A\n", "row 2: medical_accuracy: `good` is no score"),
        (HEAD + '{0},1,2,3,4,"two\nlines",A\n{1},0,1,1,1,,A\n', "row 3: medical_accuracy: `0` is no score"),
        (HEAD + "{0},1,2,3,4,,A\n{0},1,2,3,4,,A\n", "row 3: pair {0} stands in row 2 too; remove one of them"),
        (HEAD + "feed,1,2,3,4,,A\nbeef,1,1,1,1,,A\n", "row 2 (and 1 more rows): pair `feed` is not of this review"),
        (HEAD + ",1,2,3,4,,A\n", "row 2: pair `` is not of this review"),
        (HEAD + "{0},1,2,3\n", "row 2: has 4 cells, the head 7; mend it from sheet.csv"),
        (HEAD.replace("clarity,", ""), "row 1: column `clarity` is missing or stands twice"),
        (HEAD + '{0},1,2,3,4,"open', "is no CSV (unexpected end of data); save it again as CSV UTF-8"),
        (HEAD + "{0},1,2,3,4,,A\n{1},1,2,3,4,,B\n", "column rater: holds several names, `A`, `B`; one file is of one"),
        ("", "row 1: column `pair` is missing"),
        ("pair,\x1b[2Jclarity\n", "row 1: column `medical_accuracy` is missing"),
        (HEAD + "{0},\x1b[2J,2,3,4,,A\n", r"`\x1b[2J` is no score"),
    ],
)
def test_a_bad_file_is_told_in_one_line_with_its_row(tmp_path: Path, content: str, told: str) -> None:
    review = review_of(2, "a")
    path = tmp_path / "scores-x.csv"
    path.write_text(content.format("a0", "a1"), encoding="utf-8")
    (fault,) = read_scores(tmp_path, review).faults
    assert fault.startswith(f"{path}: ")
    assert told.format("a0") in fault
    assert fault.isprintable()


def test_files_that_cannot_be_read_or_are_of_one_rater_are_told(tmp_path: Path) -> None:
    review = review_of(1, "a")
    (tmp_path / "gbk.csv").write_bytes((HEAD + "a0,1,1,1,1,结肠,A\n").encode("gb18030"))
    (tmp_path / "ann.xlsx").write_bytes(b"PK")
    (tmp_path / "notes.txt").write_text("not a table")
    for name in ("ann", "ann (1)"):
        (tmp_path / f"{name}.csv").write_text(HEAD + "a0,1,1,1,1,, ANN\n")
    faults = read_scores(tmp_path, review).faults
    assert [fault.removeprefix(f"{tmp_path}/").split(";")[0] for fault in faults] == [
        "ann.csv: rater `ANN` has the file ann (1).csv too",
        "ann.xlsx: is not read",
        "gbk.csv: is not UTF-8",
    ]


def test_what_is_unfinished_is_told_and_does_not_count(tmp_path: Path) -> None:
    review = review_of(3, "a")
    (tmp_path / "x.csv").write_text(HEAD + "a0,1,1,1,1,,X\na1,1,,3,,,X\na2,,,,,later,X\n")
    (tmp_path / "y.csv").write_text(HEAD + "a0,,,,,,Y\n")
    returned = read_scores(tmp_path, review)
    assert returned.faults == ()
    assert [note.removeprefix(f"{tmp_path}/") for note in returned.notes] == [
        "x.csv: row 3: clarity, imaging_relevance: empty; fill it in, the row counts for nothing until then",
        "x.csv: 1 of 3 pairs have all their scores",
        "y.csv: no pair has all its scores; it counts for nothing yet",
    ]
    (only,) = returned.raters
    assert (only.scores, only.comments) == ({"a0": dict.fromkeys(AXES, 1)}, {"a2": "later"})


def test_sheets_of_another_corpus_or_state_are_refused(tmp_path: Path) -> None:
    corpus, _, sheets, review = handed_out(tmp_path)
    with pytest.raises(UserError, match=r"nosuch/review.json: no such file; give the folder that"):
        read_review(tmp_path / "nosuch")
    (tmp_path / "review.json").write_text('{"sources": {}}')
    with pytest.raises(UserError, match="is no record of sheets"):
        read_review(tmp_path)
    withdraw(corpus.path, "polyps", [])
    with pytest.raises(UserError, match=rf"the sheets were drawn from `small` with {review.fingerprint[:12]}; draw"):
        check_fingerprint(Corpus(corpus.path), read_review(sheets))


def reviewed(folder: Path) -> Corpus:
    corpus, _, sheets, review = handed_out(folder)
    fill_in(sheets, review, "Ann", lambda source: 2 if source == "skin" else 4)
    returned = read_scores(sheets, review)
    write_record(corpus, review, returned.raters, verdicts(review, returned.raters, [], 3.0), 3.0)
    return corpus


def test_verify_tells_a_review_of_another_state(tmp_path: Path) -> None:
    path = reviewed(tmp_path).path
    assert verify(path) == []
    record = json.loads((path / "review.json").read_text())
    (path / "review.json").write_text(json.dumps(record | {"fingerprint": "0" * 64}))
    (finding,) = verify(path)
    assert finding.startswith("review.json: is of the corpus as it was before (fingerprint 000000000000, now ")
    with pytest.raises(UserError, match=r"corpus/review.json: is of the corpus as it was before"):
        passed_sources(Corpus(path))
    (path / "review.json").write_text("[]")
    (finding,) = verify(path)
    assert finding.startswith("review.json: cannot be read")


def test_a_withdrawn_source_leaves_the_review_and_the_others_keep_their_verdicts(tmp_path: Path) -> None:
    path = reviewed(tmp_path).path
    result = withdraw(path, "polyps", [tmp_path])
    assert [(each.kind, each.why) for each in result.descendants if each.kind == "review sheets"] == [
        ("review sheets", "shows 6 pairs of a source of the name `polyps`")
    ]
    text = (path / "review.json").read_text()
    assert "polyps" not in text
    assert json.loads(text)["fingerprint"] == result.fingerprint
    assert passed_sources(Corpus(path)) == {"skin"}
    assert verify(path) == []


def test_a_withdrawal_that_begins_again_finds_the_review_as_it_should_be(tmp_path: Path) -> None:
    corpus = reviewed(tmp_path)
    before = corpus.manifest["fingerprint"]
    forget_source(corpus.path, "polyps", before, "f" * 64)
    once = (corpus.path / "review.json").read_text()
    forget_source(corpus.path, "polyps", before, "f" * 64)
    assert (corpus.path / "review.json").read_text() == once
    assert json.loads(once)["fingerprint"] == "f" * 64
    (corpus.path / "review.json").write_text("{")
    forget_source(corpus.path, "polyps", before, "f" * 64)
    assert not (corpus.path / "review.json").exists()
    forget_source(corpus.path, "polyps", before, "f" * 64)


def test_a_review_that_was_stale_stays_stale_after_a_withdrawal(tmp_path: Path) -> None:
    path = reviewed(tmp_path).path
    record = json.loads((path / "review.json").read_text())
    (path / "review.json").write_text(json.dumps(record | {"fingerprint": "0" * 64}))
    withdraw(path, "polyps", [])
    assert "polyps" not in (path / "review.json").read_text()
    (finding,) = verify(path)
    assert "as it was before" in finding


def test_the_sheet_itself_does_not_count_while_it_is_empty(tmp_path: Path) -> None:
    _, _, sheets, review = handed_out(tmp_path)
    assert read_scores(sheets, review).raters == ()
    assert len(table(sheets / "sheet.csv")) == len(review.source_of)
