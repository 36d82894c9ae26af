"""What is handed out for review: pairs drawn fairly, a table that no spreadsheet runs, a page that a rater can use."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from browser import opened
from hypothesis import given
from hypothesis import strategies as st
from review_sheets import handed_out, table

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.review.cells import as_written, defused, scores_text
from gmai_vl.corpus.review.draw import _choose, draw, pair_name, shares
from gmai_vl.corpus.review.rubric import AXES, rubric
from gmai_vl.corpus.review.scores import read_scores
from gmai_vl.corpus.review.sheets import facts_for_people, write_sheets
from gmai_vl.foundation import UserError

STRATA = st.tuples(st.sampled_from(["caption", "percept", "instruct"]), st.sampled_from(["en", "zh"]))


@given(st.dictionaries(STRATA, st.integers(1, 200), min_size=1), st.integers(1, 60))
def test_every_stratum_has_its_share(sizes: dict[tuple[str, str], int], number: int) -> None:
    given_ = shares(sizes, number)
    total = sum(sizes.values())
    number = min(number, total)
    assert sum(given_.values()) == number
    for stratum, count in given_.items():
        assert count <= sizes[stratum]
        assert count < max(1, number * sizes[stratum] / total) + 1
        if number >= len(sizes):
            assert count >= 1
    if all(number * size / total >= 1 for size in sizes.values()):
        assert all(abs(given_[each] - number * sizes[each] / total) < 1 for each in sizes)


HEADS = st.lists(st.tuples(st.sampled_from(["a", "b"]), STRATA, st.integers(0, 30)), min_size=1, max_size=150).map(
    lambda entries: [
        {
            "id": f"{source}{index}",
            "source": source,
            "subset": stratum[0],
            "language": stratum[1],
            "case_id": f"c{case}",
        }
        for index, (source, stratum, case) in enumerate(entries)
    ]
)


@given(HEADS, st.integers(1, 20), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_draw_ignores_the_order_and_takes_what_there_is(
    heads: list[dict[str, str]], number: int, seed: int, rng: object
) -> None:
    chosen = _choose(heads, number, seed)
    sources = Counter(head["source"] for head in heads)
    assert len(set(chosen)) == len(chosen)
    assert Counter(each[0] for each in chosen) == {source: min(number, size) for source, size in sources.items()}
    rng.shuffle(heads)  # type: ignore[attr-defined]
    assert _choose(heads, number, seed) == chosen


@given(st.lists(st.integers(0, 30), min_size=1, max_size=100), st.integers(13, 40))
def test_no_case_gives_a_second_pair_before_all_have_given_one(cases: list[int], number: int) -> None:
    same = {"source": "a", "subset": "caption", "language": "en"}
    heads = [same | {"id": str(index), "case_id": f"c{case}"} for index, case in enumerate(cases)]
    drawn_from = {cases[int(each)] for each in _choose(heads, number, 0)}
    assert len(drawn_from) == min(number, len(set(cases)))


def test_another_seed_draws_other_pairs_and_the_same_seed_the_same(tmp_path: Path) -> None:
    corpus, drawn, sheets, _ = handed_out(tmp_path, per_source=9)
    assert draw(Corpus(corpus.path), 9, seed=0) == drawn
    other = draw(corpus, 9, seed=1)
    assert {pair.name for pair in other.pairs} != {pair.name for pair in drawn.pairs}
    assert drawn.sources == other.sources == {"polyps": 9, "skin": 9}
    languages = Counter(pair.sample.language for pair in drawn.pairs if pair.sample.source == "polyps")
    assert set(languages) == {"en", "zh"}
    assert not write_sheets(corpus, drawn, sheets)
    with pytest.raises(UserError, match="sheets: is not empty and holds another review"):
        write_sheets(corpus, other, sheets)
    with pytest.raises(UserError, match="is the corpus; give another folder"):
        write_sheets(corpus, drawn, corpus.path)


def test_sheets_name_neither_patients_nor_files(tmp_path: Path) -> None:
    corpus, drawn, sheets, _ = handed_out(tmp_path, per_source=40)
    names = {row["patient_id"] for row in corpus.rows("cases")} | {row["item"] for row in corpus.rows("cases")}
    names |= {pair.sample.id for pair in drawn.pairs}
    for file in ("sheet.csv", "sheet.html", "review.json"):
        # Pictures are base64, in which any two letters may stand.
        text = re.sub(r"data:image/jpeg;base64,[^\"]*", "", (sheets / file).read_text(encoding="utf-8"))
        assert not [name for name in names if name and re.search(rf"\b{re.escape(name)}\b", text)]
    assert [pair.name for pair in drawn.pairs] == [
        pair_name(corpus.manifest["fingerprint"], pair.sample.id) for pair in drawn.pairs
    ]


def test_the_table_has_a_row_for_each_pair_and_nothing_filled_in(tmp_path: Path) -> None:
    _, drawn, sheets, review = handed_out(tmp_path)
    assert (sheets / "sheet.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # so that Excel shows Chinese
    rows = table(sheets / "sheet.csv")
    assert [row["pair"] for row in rows] == [pair.name for pair in drawn.pairs] == list(review.source_of)
    assert not any(row[axis] for row in rows for axis in (*AXES, "comment", "rater"))
    for row, pair in zip(rows, drawn.pairs, strict=True):
        assert pair.sample.turns[-1].text in row["conversation"]
        for name, value in facts_for_people(pair.sample):
            assert f"{name}: {value}" in row["facts"]
    assert read_scores(sheets, review) == read_scores(sheets, review)
    assert read_scores(sheets, review).raters == read_scores(sheets, review).notes == ()


@given(st.text(alphabet=st.sampled_from(list("=+-@＝＋－＠\t\r\n '\"a,1")), max_size=8))
def test_no_cell_begins_a_formula_and_texts_come_back(text: str) -> None:
    safe = defused(text)
    assert not re.match(r"\s*[=+\-@＝＋－＠]", safe)
    assert not safe.startswith(("\t", "\r"))
    assert safe in (text, f"'{text}")
    assert as_written(safe) == text


def test_a_formula_in_a_comment_is_defused_on_its_way_out() -> None:
    text = scores_text("=cmd|' /C calc'!A0", {"p": ({}, '@SUM(1+1)*"x"')})
    assert '\r\np,,,,,"\'@SUM(1+1)*""x""",\'=cmd|\' /C calc\'!A0\r\n' in text


def test_the_page_is_filled_in_by_keyboard_downloaded_and_read_back(tmp_path: Path) -> None:
    _, drawn, sheets, review = handed_out(tmp_path)
    with opened(sheets / "sheet.html", sheets) as tab:
        tab.run("document.getElementById('download').click()")
        assert tab.run("document.getElementById('told').textContent").startswith("Write your name first")
        tab.write("=Ann, M.D.")
        assert tab.run("document.activeElement.id") == "rater"
        tab.run("document.activeElement.blur()")
        tab.press("1", "2", "3", "4")  # the four axes one after the other
        tab.press("j")
        tab.run("document.querySelectorAll('input[name=clarity]')[4].click()")
        tab.run("document.getElementById('comment').focus()")
        tab.write('box "too" wide,\n结肠')
        assert tab.run("document.getElementById('done').innerText") == f"1 of {len(drawn.pairs)} scored"
        place = ""
        for _ in range(20):  # the browser hands what a page stored to the next page's process in its own time
            tab.go(sheets / "sheet.html")
            place = tab.run("document.getElementById('place').innerText")
            if place != f"Pair 1 of {len(drawn.pairs)}":
                break
        assert place == f"Pair 2 of {len(drawn.pairs)}"  # what was given is kept
        tab.press("k")
        assert tab.run("document.querySelector('input[name=completeness]:checked').value") == "3"
        assert tab.run("document.getElementById('pair').innerText").count("\n") > 10
        tab.run("document.getElementById('download').click()")
        tab.wait_for("download completed")
    (path,) = sheets.glob("scores-*.csv")
    rows = {row["pair"]: row for row in table(path)}
    first, second = drawn.pairs[0].name, drawn.pairs[1].name
    assert list(rows) == list(review.source_of)
    assert [rows[first][axis] for axis in AXES] == ["1", "2", "3", "4"]
    assert rows[first]["rater"] == "'=Ann, M.D."
    returned = read_scores(sheets, review)
    (rater,) = returned.raters
    assert (rater.name, rater.scores) == ("=Ann, M.D.", {first: dict(zip(AXES, (1, 2, 3, 4), strict=True))})
    assert rater.comments == {second: 'box "too" wide,\n结肠'}
    assert returned.faults == ()
    assert len(returned.notes) == 2  # a row that is not whole, and pairs that are missing


def test_boxes_of_a_text_are_drawn_where_it_says_and_broken_ones_stay_text(tmp_path: Path) -> None:
    _, drawn, sheets, _ = handed_out(tmp_path, per_source=40)
    at = next(place for place, pair in enumerate(drawn.pairs) if pair.sample.kind == "grounding")
    sample = drawn.pairs[at].sample
    with opened(sheets / "sheet.html", tmp_path) as tab:
        tab.run(f"go({at})")
        x, y, width, height = tab.run(
            "['x', 'y', 'width', 'height'].map((name) => Number(document.querySelector('rect.c0').getAttribute(name)))"
        )
        x1, y1, x2, y2 = sample.regions[0].box
        assert (x, y, x + width, y + height) == pytest.approx((x1, y1, x2, y2), abs=0.005 * sample.width + 0.01)
        assert tab.run("document.querySelectorAll('rect.annotated').length") == 1
        tab.press("b")
        assert tab.run("document.querySelector('rect.annotated').getAttribute('visibility')") == "hidden"
        broken = "<ref>x</ref><box>[[0.9, 0.1, 0.2, 0.3]]</box><img src=x onerror=alert(1)>"
        tab.run(f"data.pairs[{at}].turns[1][1] = {json.dumps(broken)}; go({at})")
        assert tab.run("document.querySelector('.turn.assistant').innerText").endswith(broken)
        assert tab.run("document.querySelectorAll('.turn img, rect.c0').length") == 0


def test_the_page_speaks_chinese_and_says_what_it_is_not_for(tmp_path: Path) -> None:
    _, _, sheets, _ = handed_out(tmp_path)
    with opened(sheets / "sheet.html", tmp_path, width=390, height=800, dark=True) as tab:
        assert "Research use only, not for diagnosis" in tab.run("document.querySelector('header').innerText")
        tab.run("document.getElementById('language').click()")
        seen = tab.run("document.body.innerText")
        assert "仅供研究使用，不得用于诊断" in seen
        assert all(entry["zh"] in seen and entry["en"] not in seen for entry in rubric()["axes"].values())
        # Nothing is wider than a phone.
        assert tab.run("document.documentElement.scrollWidth") <= 390
