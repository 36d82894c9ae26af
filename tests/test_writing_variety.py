"""Measures of variety, held against what can be counted by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from writing_cases import chest

from gmai_vl.writing import write_samples
from gmai_vl.writing.variety import COLUMNS, variety, variety_of


def test_words_sentences_and_texts_are_counted_by_hand():
    rows = variety({"g": ["A cat sat. A dog sat.", "A cat sat.", "a cat ran"]})
    # words: a*4 cat*3 sat*3 dog ran -> 5 of 12; pairs: a-cat*3 cat-sat*2 sat-a a-dog dog-sat cat-ran -> 6 of 9
    assert rows["g"]["distinct-1"] == pytest.approx(5 / 12)
    assert rows["g"]["distinct-2"] == pytest.approx(6 / 9)
    assert rows["g"]["same sentences"] == pytest.approx(2 / 4)
    assert rows["g"]["same texts"] == 0


def test_numbers_and_boxes_are_no_variety_and_chinese_is_read_by_characters():
    row = variety(
        {"g": ["区域<box>[[0.1, 0.2, 0.3, 0.4]]</box>约12毫米。", "区域<box>[[0.5, 0.2, 0.6, 0.4]]</box>约7毫米。"]}
    )["g"]
    assert row["distinct-1"] == pytest.approx(7 / 14)  # box 区 域 约 0 毫 米, each twice
    assert variety({"g": ["在<box>[[0, 0, 1, 1]]</box>。", "在<box>[[0, 0, 0.5, 1]]</box>。"]})["g"]["same texts"] == 1


@given(st.lists(st.text(min_size=1), min_size=1, max_size=30))
def test_shares_are_shares(texts):
    row = variety({"g": texts}, most_texts=10)["g"]
    assert tuple(row) == COLUMNS
    assert row["texts"] == len(texts)
    assert all(0 <= row[column] <= 1 for column in COLUMNS[1:])


def test_many_texts_are_thinned_evenly_and_an_empty_group_is_left_out():
    texts = ["alpha beta"] * 500 + ["gamma delta"] * 500
    assert variety({"g": texts, "none": []}, most_texts=10)["g"] == variety({"g": texts[::100]})["g"] | {"texts": 1000}
    assert variety({"none": []}) == {}


def test_a_corpus_is_counted_by_language_subset_kind_and_side():
    samples = write_samples(chest(), seed=0, languages={"en": 1.0}, subsets=("caption", "percept"))
    rows = variety_of(samples)
    assert sum(row["texts"] for name, row in rows.items() if name.endswith("said")) == len(samples)
    assert "en caption caption said" in rows and "en percept closed asked" in rows
