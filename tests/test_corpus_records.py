"""What goes to disk comes back: masks, cases, samples, images; and what was tampered with does not."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_recipes import write_recipe, write_sources
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gmai_vl.corpus import Corpus, build
from gmai_vl.corpus.images import load_image, store_image
from gmai_vl.corpus.recipe import read_recipe
from gmai_vl.corpus.schema import CASES, SAMPLES, case_of, case_row, sample_of, sample_row
from gmai_vl.foundation import UserError, atomic_files
from gmai_vl.records import Case, Finding
from gmai_vl.sources import list_items, read_item
from gmai_vl.sources.rle import decode_mask, encode_mask
from gmai_vl.vocabulary import Term
from gmai_vl.writing import write_samples

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))

BRAIN, THING = Term("brain", "脑"), Term("thing")


@given(MASKS)
def test_runs_are_those_of_the_columns_and_give_the_mask_back(mask_HW: np.ndarray) -> None:
    height, width = mask_HW.shape
    runs, value = [0], False
    for x in range(width):
        for y in range(height):
            if mask_HW[y, x] != value:
                runs.append(0)
                value = not value
            runs[-1] += 1
    assert encode_mask(mask_HW) == runs
    assert np.array_equal(decode_mask(runs, width, height), mask_HW)


@given(st.lists(st.integers(-3, 5), max_size=6), st.integers(1, 3), st.integers(1, 3))
def test_runs_that_do_not_fill_the_image_are_refused(runs: list[int], width: int, height: int) -> None:
    if sum(runs) == width * height and min(runs) >= 0:
        assert decode_mask(runs, width, height).shape == (height, width)
    else:
        with pytest.raises(ValueError, match="mask of"):
            decode_mask(runs, width, height)


def test_a_case_comes_back_from_parquet_as_it_was(tmp_path: Path) -> None:
    mask_HW = np.zeros((6, 8), np.bool_)
    mask_HW[1:3, 2:5] = True
    case = Case(
        source="a",
        item="b.nii.gz@axial=3",
        pixels=np.arange(48, dtype=np.uint8).reshape(6, 8),
        modality="MR",
        department="Neurosurgery",
        task="seg",
        dimension="3d",
        findings=(
            Finding(
                label=Term("brain", "脑"),
                source_label="1",
                box=(2, 1, 5, 3),
                area_share=0.125,
                side="left",
                mask=mask_HW,
            ),
            Finding(label=Term("thing"), source_label="thing"),
        ),
        label_set=(BRAIN, THING),
        patient_id="p1",
        plane="axial",
        body_part=Term("head"),
        body_parts=(Term("head"), Term("chest", "胸部")),
        spacing_mm=(0.5, 0.7),
        license="MIT",
    )
    pq.write_table(pa.Table.from_pylist([case_row(case)], schema=CASES), tmp_path / "cases.parquet")
    (row,) = pq.read_table(tmp_path / "cases.parquet").to_pylist()
    back = case_of(row, case.pixels)
    assert case_row(back) == case_row(case)
    assert [finding.label for finding in back.findings] == [BRAIN, THING]
    assert np.array_equal(back.findings[0].mask, mask_HW)
    assert back.findings[0].box == (2, 1, 5, 3)
    assert back.spacing_mm == (0.5, 0.7)
    assert back.body_parts == case.body_parts


def test_samples_come_back_from_parquet_as_they_were(tmp_path: Path) -> None:
    recipe_path = write_sources(tmp_path)
    recipe = read_recipe(recipe_path)
    samples = []
    for source in recipe.sources:
        for item in list_items(source, tmp_path / source.root):
            for case in read_item(source, tmp_path / source.root, item):
                assert isinstance(case, Case)
                samples += write_samples(case, seed=0, languages=recipe.languages, subsets=recipe.subsets)
    assert {"caption", "mcq", "closed", "open", "grounding", "dialogue"} == {sample.kind for sample in samples}
    pq.write_table(pa.Table.from_pylist(list(map(sample_row, samples)), schema=SAMPLES), tmp_path / "samples.parquet")
    assert list(map(sample_of, pq.read_table(tmp_path / "samples.parquet").to_pylist())) == samples


def store(corpus: Path, case: Case) -> None:
    with atomic_files() as temporary_for:
        store_image(corpus, case, temporary_for)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_an_image_comes_back_as_it_was_whatever_file_it_came_from(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    case = Case(source="a", item="b", pixels=pixels, modality="CT", task="cls")
    store(tmp_path, case)
    (path,) = (tmp_path / "images").rglob("*.png")
    assert path.relative_to(tmp_path).as_posix() == f"images/{case.image_sha256[:2]}/{case.image_sha256}.png"
    assert np.array_equal(load_image(tmp_path, case.image_sha256), pixels)
    store(tmp_path, case)
    assert len(list((tmp_path / "images").rglob("*"))) == 2  # one folder, one file


def test_an_image_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    case = Case(source="a", item="b", pixels=np.zeros((5, 7), np.uint8), modality="CT", task="cls")
    store(tmp_path, case)
    (path,) = (tmp_path / "images").rglob("*.png")
    Image.fromarray(np.ones((5, 7), np.uint8)).save(path)
    with pytest.raises(UserError, match="other pixels"):
        load_image(tmp_path, case.image_sha256)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read"):
        load_image(tmp_path, case.image_sha256)
    Image.new("RGBA", (5, 7)).save(path)
    with pytest.raises(UserError, match="mode RGBA"):
        load_image(tmp_path, case.image_sha256)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        load_image(tmp_path, case.image_sha256)


def test_a_name_cannot_lead_out_of_the_image_store(tmp_path: Path) -> None:
    for name in ("../../etc/passwd", "a" * 63, "A" * 64, ""):
        with pytest.raises(UserError, match="no image name"):
            load_image(tmp_path, name)


def test_a_corpus_gives_what_is_asked_for_in_row_order(tmp_path: Path) -> None:
    corpus = Corpus(build(write_sources(tmp_path), tmp_path / "out").corpus)
    everything = corpus.samples()
    assert len(everything) == corpus.manifest["counts"]["samples"]
    for split in ("train", "val", "test"):
        assert corpus.samples(split) == [sample for sample in everything if sample.split == split]
    chosen = corpus.samples("train", subsets=["percept"], languages=["zh"])
    assert chosen
    assert chosen == [s for s in everything if (s.split, s.subset, s.language) == ("train", "percept", "zh")]
    assert corpus.samples(languages=[]) == []
    assert corpus.sample(everything[5].id) == everything[5]

    cases = list(corpus.cases())
    assert [case.case_id for case in cases] == list(dict.fromkeys(sample.case_id for sample in everything))
    assert {case.image_sha256 for case in cases} == {sample.images[0] for sample in everything}
    assert set(corpus.prompts) >= {sample.provenance.prompt_id for sample in everything}


def test_what_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished corpus"):
        Corpus(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Corpus(tmp_path)
    corpus = Corpus(build(write_recipe_with_sources(tmp_path / "a"), tmp_path / "out").corpus)
    with pytest.raises(UserError, match="no sample `x`"):
        corpus.sample("x")


def test_a_corpus_of_another_version_or_a_damaged_one_is_named(tmp_path: Path) -> None:
    corpus = Corpus(build(write_recipe_with_sources(tmp_path / "a"), tmp_path / "out").corpus)
    samples = corpus.path / "samples" / "00000.parquet"
    pq.write_table(pq.read_table(samples).drop_columns(["task"]), samples)
    with pytest.raises(UserError, match=r"00000.parquet: has no column `task`, another version wrote it; build"):
        corpus.samples()
    samples.write_bytes(b"PAR1 damaged")
    with pytest.raises(UserError, match=r"00000.parquet: cannot be read"):
        list(corpus.rows("samples"))


def write_recipe_with_sources(folder: Path) -> Path:
    write_sources(folder)
    return write_recipe(folder, subsets=["caption"])
