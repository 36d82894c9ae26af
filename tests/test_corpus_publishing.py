"""Exports: they come back as the same samples, other programs open them, a killed one is finished to the same bytes."""

import io
import json
import random
import re
import shutil
import signal
import tarfile
from pathlib import Path
from typing import Any

import datasets
import mlcroissant
import numpy as np
import pytest
import webdataset
import yaml
from killing import run_killed_at
from PIL import Image
from publishing_corpus import HOSTILE, as_published, files_of, published, write_corpus
from typer.testing import CliRunner

from gmai_vl.cli.data import app
from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.corpus.importing import import_conversations
from gmai_vl.corpus.publishing import shards
from gmai_vl.corpus.publishing.exporting import DONE, MARK, Form, export
from gmai_vl.corpus.withdraw import withdraw
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef, pixel_sha256

FORMS: list[Form] = ["llava", "messages", "hf", "webdataset"]
CALL = (
    "from gmai_vl.corpus.publishing.exporting import export; call = lambda corpus, form, out: export(corpus, form, out)"
)
UNDATED = 'Property "https://schema.org/datePublished" is recommended, but does not exist.'


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_corpus(tmp_path_factory.mktemp("publishing"))
    kinds = {sample.kind for sample in Corpus(folder).samples()}
    assert kinds == {"caption", "mcq", "closed", "open", "grounding", "dialogue"}
    return folder


@pytest.fixture(scope="module")
def exports(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Form, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {form: export(corpus, form, folder / form).out for form in FORMS}


def lines(folder: Path, pattern: str = "annotations/**/*.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("form", ["llava", "messages"])
def test_what_is_exported_comes_back_as_the_same_samples(
    corpus: Path, exports: dict[Form, Path], tmp_path: Path, form: Form
) -> None:
    summary = import_conversations(exports[form], None, tmp_path / "back", workers=2)
    assert published(summary.corpus) == published(corpus)
    assert verify(summary.corpus) == []
    assert set(summary.counts["outcomes"]) == {"kept"}
    again = export(summary.corpus, form, tmp_path / "again").out
    assert {entry["id"]: entry["gmai"] if form == "llava" else entry for entry in lines(again)}.keys() == published(
        corpus
    ).keys()
    if form == "llava":  # sources and writers outlive a second round
        told = {entry["id"]: (entry["gmai"]["source"], entry["gmai"]["writer"]) for entry in lines(exports[form])}
        assert {entry["id"]: (entry["gmai"]["source"], entry["gmai"]["writer"]) for entry in lines(again)} == told


def test_one_file_of_an_export_comes_back_too(corpus: Path, exports: dict[Form, Path], tmp_path: Path) -> None:
    file = exports["llava"] / "annotations" / "train" / "percept.jsonl"
    summary = import_conversations(file, exports["llava"], tmp_path / "back")
    wanted = {sample.id: as_published(sample) for sample in Corpus(corpus).samples(split="train", subsets=("percept",))}
    assert published(summary.corpus) == wanted
    listed = import_conversations(exports["llava"] / "dataset_list.json", None, tmp_path / "listed")
    wanted = {sample.id: as_published(sample) for sample in Corpus(corpus).samples(split="train")}
    assert published(listed.corpus) == wanted
    assert listed.notes == ()


def test_the_llava_form_is_that_of_the_official_release(corpus: Path, exports: dict[Form, Path]) -> None:
    samples = {sample.id: sample for sample in Corpus(corpus).samples()}
    opened = Corpus(corpus)
    entries = lines(exports["llava"])
    assert entries
    for entry in entries:
        sample = samples[entry["id"]]
        assert entry.keys() - {"image"} == {"id", "conversations", "width", "height", "gmai"}
        assert ("image" in entry) == bool(sample.images)
        roles = [turn["from"] for turn in entry["conversations"]]
        assert [role for role in roles if role != "system"] == ["human", "gpt"] * (len(sample.turns) // 2)
        marks = sum(turn["value"].count("<image>") for turn in entry["conversations"])
        assert marks == len(sample.images)
        if sample.provenance.writer == "template":
            assert entry["conversations"][0]["value"].startswith("<image>\n")
        if sample.images:
            dimension, task, modality, source = entry["id"].split("#")[:4]
            assert entry["image"].split("/")[:5] == ["images", dimension, task, modality, source]
            with Image.open(exports["llava"] / entry["image"]) as image:
                assert image.format == "PNG"
                assert (np.asarray(image) == opened.image(sample.images[0])).all()
        if sample.kind == "grounding":
            assert re.fullmatch(
                r"(<ref>[^<]+</ref><box>\[\[[\d., ]+\]\]</box>\n?)+", entry["conversations"][1]["value"]
            )


def test_files_are_apart_by_side_and_the_list_names_the_training_side_only(exports: dict[Form, Path]) -> None:
    for path in exports["llava"].glob("annotations/*/*.jsonl"):
        told = [json.loads(line)["gmai"] for line in path.read_text().splitlines()]
        assert {(each["split"], each["subset"]) for each in told} == {(path.parent.name, path.stem)}
    listed = json.loads((exports["llava"] / "dataset_list.json").read_text())
    assert listed
    for entry in listed.values():
        assert entry["annotations"].startswith("annotations/train/")
        assert entry["length"] == len((exports["llava"] / entry["annotations"]).read_text().splitlines())


def test_datasets_opens_the_parquet_with_images(corpus: Path, exports: dict[Form, Path], tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(exports["hf"]), cache_dir=str(tmp_path))
    assert set(loaded) == {"train", "validation", "test"}
    samples = {sample.id: sample for sample in Corpus(corpus).samples()}
    seen = set()
    for side, rows in loaded.items():
        assert rows.features["images"] == datasets.List(datasets.Image())
        for row in rows:
            sample = samples[row["id"]]
            seen.add(row["id"])
            assert row["split"] == sample.split == {"validation": "val"}.get(side, side)
            assert tuple(pixel_sha256(np.asarray(image)) for image in row["images"]) == sample.images
            assert _turns(row["messages"]) == _turns_of(sample)
            assert row["options"] == (None if sample.options is None else list(sample.options.values()))
            for key in ("subset", "kind", "language", "answer", "modality", "source", "license"):
                assert row[key] == getattr(sample, key)
    assert seen == samples.keys()


def test_webdataset_streams_the_tars(corpus: Path, exports: dict[Form, Path]) -> None:
    samples = {sample.id: sample for sample in Corpus(corpus).samples()}
    seen = []
    for path in sorted(exports["webdataset"].glob("*.tar")):
        for record in webdataset.WebDataset(str(path), shardshuffle=False):
            entry = json.loads(record["json"])
            sample = samples[entry["id"]]
            seen.append(entry["id"])
            assert path.name == f"{sample.split}-000000.tar"
            assert ("png" in record) == bool(sample.images)
            for name in sample.images:
                assert pixel_sha256(np.asarray(Image.open(io.BytesIO(record["png"])))) == name
            assert _turns(entry["messages"]) == _turns_of(sample)
            assert (entry["kind"], entry["answer"], entry["split"]) == (sample.kind, sample.answer, sample.split)
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}
    assert sorted(seen) == sorted(samples)


def _turns(messages: Any) -> list[tuple[str, list[object]]]:
    return [
        (turn["role"], [part["index"] if part["type"] == "image" else part["text"] for part in turn["content"]])
        for turn in messages
    ]


def _turns_of(sample: Any) -> list[tuple[str, list[object]]]:
    return [
        (turn.role, [part.index if isinstance(part, ImageRef) else part for part in turn.content])
        for turn in sample.turns
    ]


@pytest.mark.parametrize("form", [None, *FORMS])
def test_croissant_is_valid_and_reads_the_samples(corpus: Path, exports: dict[Form, Path], form: Form | None) -> None:
    folder = corpus if form is None else exports[form]
    described = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    assert not described.metadata.issues.errors
    # Who publishes it adds the date; nothing else may be wanting.
    assert [issue for issue in described.metadata.issues.warnings if not issue.endswith(UNDATED)] == []
    if form == "webdataset":
        assert described.metadata.record_sets == []
        return
    records = [record for each in described.metadata.record_sets for record in described.records(each.uuid)]
    records = [{key.partition("/")[2]: value for key, value in record.items()} for record in records]
    ids = {sample.id.encode() for sample in Corpus(corpus).samples()}
    assert {record["id"] for record in records} == ids
    if form == "llava":
        turns = {record["id"].decode(): record["conversations"] for record in records}
        for entry in lines(folder):
            said = [value.decode() for turn in turns[entry["id"]] for key, value in turn.items() if "value" in key]
            assert said == [turn["value"] for turn in entry["conversations"]]


def test_cards_say_what_it_is_and_what_it_may_be_used_for(corpus: Path, exports: dict[Form, Path]) -> None:
    manifest = Corpus(corpus).manifest
    for path in (corpus / "card.md", *(exports[form] / "README.md" for form in FORMS)):
        card = path.read_text()
        assert "**Research use only, not for diagnosis.**" in card
        assert manifest["fingerprint"] in card
        assert "Passing it on: not known for texts; taken as no" in card
        assert f"| polyps | mask | 6 | {manifest['counts']['sources']['polyps']['samples']} | MIT |" in card
        assert "- by templates, from facts computed from the annotation:" in card
        for side in ("train", "val", "test"):
            assert f"| {side} | {manifest['counts']['cases_by_split'][side]} |" in card
    head = yaml.safe_load((exports["hf"] / "README.md").read_text().split("---")[1])
    assert (head["license"], head["language"]) == ("other", ["en", "zh"])


def test_patients_are_not_named(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path)
    rows = list(Corpus(corpus).rows("samples", ("patient_id",)))
    assert any(row["patient_id"] for row in rows)
    for form in FORMS:
        out = export(corpus, form, tmp_path / form).out
        assert not [name for name, content in files_of(out).items() if b"patient_id" in content]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_corpus_gives_the_same_bytes(
    corpus: Path, exports: dict[Form, Path], tmp_path: Path, form: Form
) -> None:
    before = files_of(exports[form])
    assert files_of(export(corpus, form, tmp_path / "other").out) == before
    assert not export(corpus, form, exports[form]).new
    assert files_of(exports[form]) == before


@pytest.mark.parametrize("form", FORMS)
def test_killed_at_any_moment_it_is_finished_to_the_same_bytes(
    corpus: Path, exports: dict[Form, Path], tmp_path: Path, form: Form
) -> None:
    _kill(corpus, exports[form], tmp_path, form, times=3)


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_killed_before_it_has_marked_its_folder_it_goes_on(
    corpus: Path, exports: dict[Form, Path], tmp_path: Path, moment: int
) -> None:
    assert run_killed_at(CALL, [corpus, "hf", tmp_path / "out"], tmp_path / "out", moment).returncode == -signal.SIGKILL
    assert export(corpus, "hf", tmp_path / "out").new
    assert files_of(tmp_path / "out") == files_of(exports["hf"])


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_killed_at_fifteen_moments(corpus: Path, exports: dict[Form, Path], tmp_path: Path, form: Form) -> None:
    _kill(corpus, exports[form], tmp_path, form, times=15)


def _kill(corpus: Path, whole: Path, tmp_path: Path, form: Form, times: int) -> None:
    counted = tmp_path / "counted"
    ran = run_killed_at(CALL, [corpus, form, counted], counted, 0)
    assert ran.returncode == 0, ran.stderr
    moments = int(ran.stdout)
    for moment in random.Random(5).sample(range(2, moments + 1), times):
        out = tmp_path / f"out{moment}"
        assert run_killed_at(CALL, [corpus, form, out], out, moment).returncode == -signal.SIGKILL
        done = (out / DONE).exists()
        assert done or (out / MARK).exists() or not [path for path in out.rglob("*") if path.name[-4:] != ".tmp"]
        assert export(corpus, form, out).new == (not done)
        assert files_of(out) == files_of(whole), f"moment {moment}"


def test_a_folder_that_holds_something_else_is_refused(corpus: Path, exports: dict[Form, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"llava: holds another export \(llava of `small`"):
        export(corpus, "hf", exports["llava"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds `thesis\.txt` and no export"):
        export(corpus, "hf", tmp_path / "full")
    with pytest.raises(UserError, match="is a file"):
        export(corpus, "hf", tmp_path / "full" / "thesis.txt")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    with pytest.raises(UserError, match="no finished corpus"):
        export(tmp_path / "full", "hf", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "begun").mkdir()
    shutil.copy(exports["hf"] / DONE, tmp_path / "begun" / MARK)
    with pytest.raises(UserError, match="holds another export"):
        export(corpus, "llava", tmp_path / "begun")


@pytest.mark.parametrize("form", FORMS)
def test_an_image_that_is_missing_or_changed_is_not_published(corpus: Path, tmp_path: Path, form: Form) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    image = sorted((tmp_path / "corpus" / "images").rglob("*.png"))[3]
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(image)
    with pytest.raises(UserError, match=f"{image.name}: this image of the corpus holds other pixels"):
        export(tmp_path / "corpus", form, tmp_path / "out")
    image.unlink()
    with pytest.raises(UserError, match=f"{image.name}: .*is missing"):
        export(tmp_path / "corpus", form, tmp_path / "out")
    assert not (tmp_path / "out" / DONE).exists()
    shutil.copy(corpus / image.relative_to(tmp_path / "corpus"), image)
    assert export(tmp_path / "corpus", form, tmp_path / "out").new


def number_in(path: Path) -> int:
    with tarfile.open(path) as tar:
        return sum(name.endswith(".json") for name in tar.getnames())


def test_shards_are_cut_by_samples_and_by_bytes(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MOST_SAMPLES", 10)
    out = export(corpus, "webdataset", tmp_path / "many").out
    sizes = {path.name: number_in(path) for path in out.glob("*.tar")}
    by_split = Corpus(corpus).manifest["counts"]["samples_by_split"]
    for side, number in by_split.items():
        cut = [sizes[name] for name in sorted(sizes) if name.startswith(side)]
        assert cut == [10] * (number // 10) + [number % 10] * (number % 10 > 0)
    monkeypatch.setattr(shards, "MOST_BYTES", 4_000)  # two or three pictures of 24x20
    out = export(corpus, "webdataset", tmp_path / "small").out
    assert all(path.stat().st_size < 40_000 for path in out.glob("*.tar"))
    assert len(list(out.glob("*.tar"))) > len(sizes)


def test_hostile_names_stay_below_the_folder(exports: dict[Form, Path]) -> None:
    paths = [entry["image"] for entry in lines(exports["llava"]) if "image" in entry]
    hostile = {path for path in paths if re.match(r"images/2d/cls/dermoscopy/skin/nevus/p[12]\d_", path)}
    assert len(hostile) == len(HOSTILE)
    for path in paths:
        assert re.fullmatch(r"images(/[A-Za-z0-9_=@+][A-Za-z0-9_=@+.-]*)+\.png", path)
        assert ".." not in path.split("/")
    assert len({path.lower() for path in paths}) == len(set(paths))


def test_the_card_follows_a_withdrawal(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path)
    before = {name: (corpus / name).read_text() for name in ("card.md", "croissant.json")}
    assert all("skin" in text for text in before.values())
    withdraw(corpus, "skin", [])
    for name in before:
        assert "skin" not in (corpus / name).read_text()
    assert not mlcroissant.Dataset(jsonld=corpus / "croissant.json").metadata.issues.errors
    again = build(tmp_path / "recipe.yaml", tmp_path / "twin").corpus
    assert {name: (again / name).read_text() for name in before} == before


def test_the_commands_print_what_came_out(corpus: Path, tmp_path: Path) -> None:
    arguments = ["export", corpus, "--to", "llava", "--out", tmp_path / "out", "--json", tmp_path / "out.json"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "out.json").read_text())
    files = files_of(tmp_path / "out")
    assert told["samples"] == Corpus(corpus).manifest["counts"]["samples"]
    assert told["images"] == sum(name.endswith(".png") for name in files)
    assert (told["files"], told["bytes"]) == (len(files), sum(map(len, files.values())))
    assert f"{told['samples']:,} samples, {told['images']:,} images" in result.output
    assert "nothing to do" in CliRunner().invoke(app, [str(argument) for argument in arguments]).output
