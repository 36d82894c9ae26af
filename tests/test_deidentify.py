"""De-identification: what is planted in any element, any nesting and any name stays out of everything that is made."""

import copy
import datetime
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import DicomDictionary, keyword_for_tag, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from gmai_vl.corpus import Corpus, build
from gmai_vl.foundation import UserError
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import DicomSource, list_items, read_item
from gmai_vl.sources.deidentify import PUBLIC_KEY, deidentify, mapped_uid, pseudonym_of, secret_of
from gmai_vl.sources.dicom import find_item

PLANTED = "ZZTOPHAT"
PLANTED_DATE = "19470411"
PLANTED_UID = "1.3.6.1.4.1.99999.4711.8150"
TEXTS = {
    "AE": PLANTED, "AS": "047Y", "CS": PLANTED, "DA": PLANTED_DATE, "DT": f"{PLANTED_DATE}081500", "LO": PLANTED,
    "LT": PLANTED, "PN": f"{PLANTED}^{PLANTED}", "SH": PLANTED, "ST": PLANTED, "TM": "194704.11", "UC": PLANTED,
    "UI": PLANTED_UID, "UR": f"http://{PLANTED}", "UT": PLANTED,
}  # fmt: skip
BYTES = {"OB": PLANTED.encode(), "UN": PLANTED.encode(), "OW": PLANTED.encode()}
COLOURS = [f"{how}{one}PaletteColorLookupTableData" for how in ("", "Segmented") for one in ("Red", "Green", "Blue")]
YEAR_1900 = datetime.date(1900, 1, 1)
NOT_PLANTED = {"PixelData", "Modality", "SOPClassUID", "PhotometricInterpretation", "LUTData", *COLOURS}
"""Without these there is no image to read; and what the pixels themselves are made of no header can clean."""
KEPT = {"SOPInstanceUID", "PatientID", "PatientName"}


def image(**header: Any) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Modality = "CT"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 6, 8, 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = np.arange(48, dtype=np.uint16).tobytes()
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    return ds


def planted() -> Dataset:
    """Return an image with a marker in every element of the dictionary that can hold one, two levels deep as well."""
    ds, inner = image(), Dataset()
    for tag in sorted(DicomDictionary):
        keyword, vr = keyword_for_tag(tag), DicomDictionary[tag][0].split(" or ")[0]
        if not keyword or keyword in NOT_PLANTED or tag >> 16 in (0x0000, 0x0002) or tag >> 16 == 0xFFFE:
            continue
        value = TEXTS.get(vr) or BYTES.get(vr)
        if value is not None:
            inner.add_new(tag, vr, value)
            if keyword not in ds or keyword in KEPT:
                ds.add_new(tag, vr, value)
    for tag in sorted(DicomDictionary):
        if DicomDictionary[tag][0] == "SQ" and tag >> 16 not in (0x0000, 0x0004):
            middle = copy.deepcopy(inner)
            middle.add_new(0x00081140, "SQ", Sequence([copy.deepcopy(inner)]))
            ds.add_new(tag, "SQ", Sequence([middle]))
            break
    shared = copy.deepcopy(inner)
    shared.PlaneOrientationSequence = Sequence([copy.deepcopy(inner)])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.add_new(0x00091001, "LO", PLANTED)
    ds.add_new(0x00090010, "LO", PLANTED)
    ds.add_new(0x60003000, "OW", PLANTED.encode())
    ds.add_new(0x50003000, "OW", PLANTED.encode())
    ds.file_meta.SourceApplicationEntityTitle = PLANTED
    return ds


def traces(text: str | bytes) -> set[str]:
    """Return which markers stand in a text."""
    data = text.encode() if isinstance(text, str) else text
    marks = (PLANTED, PLANTED.lower(), PLANTED_DATE, "1947-04-11", PLANTED_UID, "4711.8150", "047Y", "194704")
    return {mark for mark in marks if mark.encode() in data}


def as_bytes(ds: Dataset) -> bytes:
    stream = io.BytesIO()
    whole = copy.deepcopy(ds)
    whole.save_as(stream, enforce_file_format=False, implicit_vr=False, little_endian=True)
    return stream.getvalue() + str(whole).encode()


def test_the_planted_data_set_holds_markers_everywhere() -> None:
    ds = planted()
    assert traces(as_bytes(ds)) >= {PLANTED, PLANTED_DATE, PLANTED_UID}
    assert len(list(ds.iterall())) > 5_000


def test_nothing_planted_is_left_in_the_data_set_or_in_the_record() -> None:
    clean, record = deidentify(planted(), PUBLIC_KEY)
    assert traces(as_bytes(clean)) == set()
    assert traces(json.dumps(record)) == set()
    assert clean.PatientIdentityRemoved == "YES"
    assert not any(element.tag.is_private or element.tag.group in (0x5000, 0x6000) for element in clean.iterall())
    assert "PatientBirthDate" in record["removed"]
    assert "OperatorsName" in record["removed"]
    assert "StudyInstanceUID" in record["mapped"]
    assert "StudyDate" in record["shifted"]
    assert any("SharedFunctionalGroupsSequence.PlaneOrientationSequence." in name for name in record["removed"])


def test_nothing_planted_reaches_a_corpus_a_text_or_a_prompt(tmp_path: Path) -> None:
    folder = tmp_path / "in" / f"{PLANTED}_{PLANTED_DATE}"
    folder.mkdir(parents=True)
    for number in range(4):
        ds = planted()
        ds.PixelData = np.random.default_rng(number).integers(0, 4000, 48, np.uint16).tobytes()
        ds.BodyPartExamined = "CHEST"
        ds.save_as(folder / f"{PLANTED}^{number}.dcm", enforce_file_format=True)
    (folder / f"{PLANTED}.dcm").write_bytes(b"damaged")
    (folder / f"{PLANTED}.txt").write_text(PLANTED)
    source = {"name": "ct", "format": "dicom", "root": "in"}
    recipe = {"name": "dicoms", "languages": {"en": 0.5, "zh": 0.5}, "max_quarantined": 0.5, "sources": [source]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    corpus = build(tmp_path / "r.yaml", tmp_path / "out").corpus
    assert Corpus(corpus).manifest["counts"]["outcomes"] == {"kept": 4, "quarantined": 1, "excluded": 1}
    for path in corpus.rglob("*"):
        assert traces(str(path.relative_to(corpus))) == set()
        if path.suffix == ".parquet":
            for row in pq.read_table(path, partitioning=None).to_pylist():
                assert traces(repr(row)) == set(), path
        elif path.is_file():
            assert traces(path.read_bytes()) == set(), path
    records = [json.loads(row["deidentified"]) for row in Corpus(corpus).rows("cases")]
    assert all(record["profile"].startswith("PS3.15") and record["removed"] for record in records)


def test_files_are_called_by_names_that_their_holder_can_undo(tmp_path: Path) -> None:
    spec = DicomSource(name="d", format="dicom", root=".")
    image().save_as(tmp_path / f"{PLANTED}.dcm", enforce_file_format=True)
    (item,) = list_items(spec, tmp_path)
    (case,) = read_item(spec, tmp_path, item)
    assert isinstance(case, Case)
    assert re.fullmatch(r"[0-9a-f]{16}\.dcm", case.item)
    assert find_item(spec, tmp_path, case.item) == item
    assert find_item(spec, tmp_path, "0" * 16 + ".dcm") is None


def test_a_secret_changes_every_pseudonym_and_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSPITAL_SECRET", "correct horse battery")
    open_, secret = (
        DicomSource(name="d", format="dicom", root=".", secret_env=env) for env in (None, "HOSPITAL_SECRET")
    )
    image(PatientID="7").save_as(tmp_path / "a.dcm", enforce_file_format=True)
    (one,), (other,) = (read_item(spec, tmp_path, "a.dcm") for spec in (open_, secret))
    assert isinstance(one, Case) and isinstance(other, Case)
    assert one.item != other.item
    assert one.patient_id != other.patient_id
    monkeypatch.setenv("HOSPITAL_SECRET", "short")
    with pytest.raises(UserError, match="secret_env: the variable HOSPITAL_SECRET holds fewer than 16"):
        read_item(secret, tmp_path, "a.dcm")


@given(st.lists(st.from_regex(r"1\.[1-9][0-9]{0,12}\.[1-9][0-9]{0,12}", fullmatch=True), min_size=2, unique=True))
def test_uids_are_mapped_one_to_one_and_alike_everywhere(uids: list[str]) -> None:
    mapped = [mapped_uid(uid, b"k" * 16) for uid in uids]
    assert len(set(mapped)) == len(uids)
    assert mapped == [mapped_uid(uid, b"k" * 16) for uid in uids]
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 64 for uid in mapped)
    one, _ = deidentify(image(SOPInstanceUID=uids[0], StudyInstanceUID=uids[1]), b"k" * 16)
    reference = Dataset()
    reference.ReferencedSOPInstanceUID = uids[0]
    other, _ = deidentify(image(SourceImageSequence=Sequence([reference])), b"k" * 16)
    assert other.SourceImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID == mapped[0]


@given(st.dates(min_value=YEAR_1900), st.dates(min_value=YEAR_1900), st.text("abc123", min_size=1, max_size=8))
def test_dates_of_one_patient_keep_their_distance(first: Any, second: Any, patient: str) -> None:
    shifted = [
        deidentify(image(PatientID=patient, StudyDate=f"{date:%Y%m%d}"), PUBLIC_KEY)[0].StudyDate
        for date in (first, second)
    ]
    days = [datetime.datetime.strptime(value, "%Y%m%d").date() for value in shifted]
    assert days[1] - days[0] == second - first
    assert days[0] < first


def test_what_an_image_is_shown_by_stays() -> None:
    header = {
        "WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 2, "RescaleIntercept": -1024,
        "PixelSpacing": [0.5, 0.7], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "BodyPartExamined": "CHEST", "ImageType": ["ORIGINAL", "JOHN"],
    }  # fmt: skip
    clean, record = deidentify(image(**header), PUBLIC_KEY)
    for keyword in header:
        expected = "ORIGINAL" if keyword == "ImageType" else image(**header)[keyword].value
        assert clean[keyword].value == expected
    assert clean.PixelData == image().PixelData
    assert clean.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert [element.keyword for element in clean.file_meta] == ["TransferSyntaxUID"]
    assert "removed for its value" not in record


def test_images_that_say_that_they_show_a_name_or_a_face_are_quarantined_unless_allowed(tmp_path: Path) -> None:
    for keyword, key in (
        ("BurnedInAnnotation", "allow_burned_in"),
        ("RecognizableVisualFeatures", "allow_recognizable"),
    ):
        image(**{keyword: "YES"}).save_as(tmp_path / "a.dcm", enforce_file_format=True)
        base = {"name": "d", "format": "dicom", "root": "."}
        (refused,) = read_item(DicomSource.model_validate(base), tmp_path, "a.dcm")
        assert isinstance(refused, Rejected)
        assert keyword in refused.reason
        (taken,) = read_item(DicomSource.model_validate(base | {key: True}), tmp_path, "a.dcm")
        assert isinstance(taken, Case)


def test_every_row_of_the_table_names_an_element_of_the_standard() -> None:
    import csv
    from importlib.resources import files

    text = (files("gmai_vl.sources") / "deidentify.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    for row in rows:
        assert f"{tag_for_keyword(row['keyword']):08X}" == row["tag"].replace("-", "")
        assert row["action"] in ("keep", "code", "walk", "uid", "standard", "date", "pseudonym", "remove")
        assert bool(row["values"]) == (row["action"] == "code")
    assert len({row["tag"] for row in rows}) == len(rows) > 300


def test_the_pseudonym_is_of_the_patient_else_of_the_study() -> None:
    assert (pseudonym_of(image(PatientID="7"), PUBLIC_KEY) or "").startswith("patient-")
    assert (pseudonym_of(image(StudyInstanceUID="1.2"), PUBLIC_KEY) or "").startswith("study-")
    assert pseudonym_of(image(), PUBLIC_KEY) is None
    assert secret_of(None, "x") == PUBLIC_KEY
