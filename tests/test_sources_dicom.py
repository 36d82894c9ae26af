"""DICOM files: what is shown, what the header tells, what it must not tell, and every reason to turn a file away."""

import tempfile
from dataclasses import fields
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    RTDoseStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)

from gmai_vl import vocabulary
from gmai_vl.records import Case
from gmai_vl.sources import DicomSource, list_items, read_item
from gmai_vl.sources.dicom import BODY_PART_OF, MODALITY_OF


def source(**keys):
    return DicomSource.model_validate({"format": "dicom", "name": "d", "root": ".", **keys})


def dataset(pixels, *, sop=CTImageStorage, syntax=ExplicitVRLittleEndian, frames=1, **header):
    """A data set with `pixels` [H, W], [H, W, 3] or [frames, H, W] and any header."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Modality = "CT"
    colour = pixels.ndim == 3 and frames == 1
    ds.Rows, ds.Columns = pixels.shape[:2] if frames == 1 else pixels.shape[1:3]
    ds.SamplesPerPixel = 3 if colour else 1
    if colour:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    if frames > 1:
        ds.NumberOfFrames = frames
    ds.PixelData = pixels.tobytes()
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    return ds


def read(tmp_path, ds, name="a.dcm", **keys):
    ds.save_as(tmp_path / name, enforce_file_format=True)
    (result,) = read_item(source(**keys), tmp_path, name)
    return result


RAMP = np.arange(-1000, 1000, 20, dtype=np.int16).reshape(10, 10)
AXIAL = [1, 0, 0, 0, 1, 0]


def test_the_first_window_of_the_header_is_shown_after_rescaling(tmp_path):
    ds = dataset(RAMP, RescaleSlope=2, RescaleIntercept=10, WindowCenter=[40, 300], WindowWidth=[400, 900])
    case = read(tmp_path, ds)
    assert isinstance(case, Case)
    values = RAMP * 2.0 + 10
    # The linear function, word by word from PS3.3 C.11.2.1.2.1.
    shown = ((values - (40 - 0.5)) / (400 - 1) + 0.5) * 255
    shown[values <= 40 - 0.5 - (400 - 1) / 2] = 0
    shown[values > 40 - 0.5 + (400 - 1) / 2] = 255
    np.testing.assert_allclose(case.pixels, shown, atol=0.51)
    assert (case.modality, case.task, case.plane, case.findings) == ("CT", "cls", None, ())


def test_without_a_window_the_percentiles_are_black_and_white_and_monochrome1_is_inverted(tmp_path):
    plain = read(tmp_path, dataset(RAMP))
    low, high = np.percentile(RAMP, [0.5, 99.5])
    np.testing.assert_allclose(plain.pixels, np.clip((RAMP - low) / (high - low), 0, 1) * 255, atol=0.51)
    inverted = read(tmp_path, dataset(RAMP, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(inverted.pixels, 255 - plain.pixels)


def test_eight_bit_greys_made_for_the_screen_stay_as_they_are(tmp_path):
    grey = np.arange(50, 150, dtype=np.uint8).reshape(10, 10)
    np.testing.assert_array_equal(read(tmp_path, dataset(grey, Modality="US")).pixels, grey)


COLOUR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def test_colours_in_either_planar_configuration(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, dataset(COLOUR, Modality="ES")).pixels, COLOUR)
    planes = dataset(COLOUR, Modality="ES", PlanarConfiguration=1, PixelData=COLOUR.transpose(2, 0, 1).tobytes())
    np.testing.assert_array_equal(read(tmp_path, planes).pixels, COLOUR)


def test_luminance_and_palette_colours_become_rgb(tmp_path):
    grey_in_ybr = np.dstack([COLOUR[..., 0], np.full((6, 8), 128), np.full((6, 8), 128)]).astype(np.uint8)
    case = read(tmp_path, dataset(grey_in_ybr, Modality="US", PhotometricInterpretation="YBR_FULL"))
    np.testing.assert_allclose(case.pixels, np.repeat(COLOUR[..., :1], 3, axis=2), atol=1)
    tables = np.random.default_rng(1).integers(0, 2**16, (3, 256), dtype=np.uint16)
    palette = dataset(COLOUR[..., 0], Modality="US", PhotometricInterpretation="PALETTE COLOR")
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(palette, f"{name}PaletteColorLookupTableData", table.tobytes())
    case = read(tmp_path, palette)
    np.testing.assert_array_equal(case.pixels, (tables >> 8).T[COLOUR[..., 0]])


def test_a_slice_is_turned_to_the_shown_orientation_with_its_spacing(tmp_path):
    straight = dataset(RAMP[:4], ImageOrientationPatient=AXIAL, PixelSpacing=[2.0, 1.0])
    expected = read(tmp_path, straight)
    assert (expected.plane, expected.spacing_mm) == ("axial", (2.0, 1.0))
    turned = RAMP[:4].T[:, ::-1]  # rows run to the front, columns to the left of the patient
    case = read(tmp_path, dataset(turned, ImageOrientationPatient=[0, -1, 0, 1, 0, 0], PixelSpacing=[1.0, 2.0]))
    np.testing.assert_array_equal(case.pixels, expected.pixels)
    assert (case.plane, case.spacing_mm) == ("axial", (2.0, 1.0))
    oblique = read(tmp_path, dataset(RAMP[:4], ImageOrientationPatient=[0.8, 0.6, 0, 0, 0, -1]))
    assert oblique.plane is None


def test_the_middle_frame_of_several_with_its_own_functional_groups(tmp_path):
    frames = np.stack([RAMP, RAMP + 100, RAMP + 200])
    groups = []
    for center in (0, 1000, 200):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 401
        group.FrameVOILUTSequence = Sequence([window])
        groups.append(group)
    rescale, shared, plane = Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, 1000
    plane.ImageOrientationPatient = AXIAL
    shared.PixelValueTransformationSequence = Sequence([rescale])
    shared.PlaneOrientationSequence = Sequence([plane])
    ds = dataset(frames, frames=3, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=groups)
    case = read(tmp_path, ds)
    assert (case.item.partition("@")[2], case.plane) == ("frame=1", "axial")
    np.testing.assert_allclose(case.pixels, np.clip((RAMP + 1100 - 799.5) / 400, 0, 1) * 255, atol=0.51)


def test_modality_and_body_part_come_from_the_header(tmp_path):
    case = read(tmp_path, dataset(RAMP, Modality="CR", BodyPartExamined="CHEST"))
    assert (case.modality, case.body_part.en, case.body_part.zh) == ("X-Ray", "chest", "胸部")
    other = dataset(RAMP, Modality="OT")
    assert "modality" in read(tmp_path, other).reason
    assert read(tmp_path, other, modality="Dermoscopy").modality == "Dermoscopy"
    assert {vocabulary.modality(name).en for name in MODALITY_OF.values()} == set(MODALITY_OF.values())
    assert all(vocabulary.term(name).zh for name in BODY_PART_OF.values())


SECRET = "Zaphod"


def planted(**header):
    """A picture whose header names its patient wherever it can."""
    ds = dataset(RAMP, PatientID=f"{SECRET}-4711", IssuerOfPatientID=SECRET, PatientName=f"{SECRET}^B", **header)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.4711.1", "1.2.4711.2"
    ds.StudyDescription = ds.SeriesDescription = ds.InstitutionName = ds.AccessionNumber = SECRET
    ds.BodyPartExamined = SECRET.upper()
    ds.StudyDate = ds.PatientBirthDate = "19471101"
    ds.ImageComments = f"{SECRET} was here"
    nested = Dataset()
    nested.PatientID = SECRET
    ds.OtherPatientIDsSequence = Sequence([nested])
    ds.private_block(0x0011, SECRET, create=True).add_new(1, "LO", SECRET)
    return ds


def told(result):
    """Everything that a case or a rejection says in words."""
    return " ".join(str(getattr(result, field.name)) for field in fields(result) if field.name != "pixels").lower()


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Modality": SECRET.upper()},
        {"SOPClassUID": "1.2.4711.3"},
        {"PhotometricInterpretation": SECRET.upper()},
        {"Rows": 9999},
        {"BurnedInAnnotation": "YES"},
    ],
)
def test_nothing_that_names_the_patient_is_told(tmp_path, header, caplog, recwarn):
    result = read(tmp_path, planted(**header))
    words = " ".join([told(result), caplog.text, *(str(warning.message) for warning in recwarn)]).lower()
    for secret in (SECRET.lower(), "4711", "1947"):
        assert secret not in words


def test_one_patient_has_one_pseudonym(tmp_path):
    def patient(**header):
        return read(tmp_path, dataset(RAMP, **header)).patient_id

    first = patient(PatientID="7", StudyInstanceUID="1.2.3")
    assert first == patient(PatientID="7 ", StudyInstanceUID="1.2.4")
    assert first != patient(PatientID="8", StudyInstanceUID="1.2.3")
    assert first != patient(PatientID="7", IssuerOfPatientID="another hospital")
    assert patient(StudyInstanceUID="1.2.3") == patient(StudyInstanceUID="1.2.3") != patient(StudyInstanceUID="1.2.4")
    assert patient() is None
    named = read(tmp_path, dataset(RAMP, PatientID="7"), name="p3_1.dcm", patient={"regex": "(p3)"})
    again = read(tmp_path, dataset(RAMP, PatientID="8"), name="p3_2.dcm", patient={"regex": "(p3)"})
    assert named.patient_id == again.patient_id != first
    assert "p3" not in named.patient_id


@pytest.mark.parametrize(
    ("sop", "modality", "kind"),
    [
        (RTDoseStorage, "RTDOSE", "RT Dose Storage"),
        (SegmentationStorage, "SEG", "Segmentation Storage"),
        (RTStructureSetStorage, "RTSTRUCT", "RT Structure Set Storage"),
    ],
)
def test_what_is_no_picture_is_excluded(tmp_path, sop, modality, kind):
    result = read(tmp_path, dataset(RAMP, sop=sop, Modality=modality))
    assert (result.outcome, result.reason) == ("excluded", f"{kind} is no picture")


def test_files_are_found_whatever_their_ending_and_strangers_are_counted(tmp_path):
    (tmp_path / "study/deep").mkdir(parents=True)
    read(tmp_path, dataset(RAMP), name="study/deep/IM0001")
    (tmp_path / "study/README.txt").write_text("about")
    assert list_items(source(), tmp_path) == ["study/README.txt", "study/deep/IM0001"]
    (stranger,) = read_item(source(), tmp_path, "study/README.txt")
    assert stranger.outcome == "excluded"


def jpeg(pixels, kind, **options):
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **options)
    return stream.getvalue()


def compressed(kind, syntax, **options):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    ds = dataset(grey, Modality="US", syntax=syntax, PixelData=encapsulate([jpeg(grey, kind, **options)]))
    ds["PixelData"].VR = "OB"
    return ds


@pytest.mark.parametrize(
    ("kind", "syntax", "options"),
    [
        ("JPEG2000", JPEG2000Lossless, {"no_jp2": True}),
        ("JPEG2000", JPEG2000Lossless, {"no_jp2": False}),
        ("JPEG", JPEGBaseline8Bit, {"quality": 95}),
    ],
)
def test_compressed_frames_are_decoded_unless_their_own_header_says_another_size(tmp_path, kind, syntax, options):
    ds = compressed(kind, syntax, **options)
    np.testing.assert_allclose(read(tmp_path, ds).pixels, np.arange(64).reshape(8, 8), atol=4)
    ds.Rows = 4
    liar = read(tmp_path, ds)
    assert "8 x 8" in liar.reason
    assert "8 x 4" in liar.reason


LOSSLESS = [
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
    RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless,
]  # fmt: skip
LOSSY = {JPEGExtended12Bit: 8, JPEGLSNearLossless: 8, JPEG2000: 8}
"""Syntax -> how far a grey value of 0-255 may be off."""


def stored_in(syntax, values):
    """A data set of 12-bit values [H, W] in a transfer syntax; compressed ones by GDCM or OpenJPEG."""
    ds = dataset(values, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
            ds.compress(syntax, generate_instance_uid=False)
        else:
            ds = transcoded(ds, syntax)
    elif syntax == ExplicitVRBigEndian:
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = values.byteswap().tobytes()
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    return ds


def transcoded(ds, syntax):
    """Compress with GDCM's own tool, through files in memory."""
    pytest.importorskip("gdcm")
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        plain, packed = (str(Path(folder, name)) for name in ("plain.dcm", "packed.dcm"))
        ds.save_as(plain, enforce_file_format=True)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(plain)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
        change.SetInput(reader.GetImage())
        assert change.Change(), syntax.name
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(packed)
        assert writer.Write()
        return dcmread(packed)


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY], ids=lambda syntax: syntax.name)
def test_every_transfer_syntax_gives_the_same_picture(tmp_path, syntax):
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(64) * 30, np.arange(48) * 40) + rng.integers(0, 9, (64, 48))
    values = smooth.astype(np.uint16)
    plain = read(tmp_path, stored_in(ExplicitVRLittleEndian, values))
    case = read(tmp_path, stored_in(syntax, values))
    assert isinstance(case, Case), case
    off = np.abs(case.pixels.astype(int) - plain.pixels).max()
    assert off <= LOSSY.get(syntax, 0)


def deflated_bomb():
    return dataset(np.zeros((16_000, 9_000), np.uint16), syntax=DeflatedExplicitVRLittleEndian)


def test_damaged_and_hostile_files_are_quarantined_with_their_reason(tmp_path):
    broken = compressed("JPEG", JPEGBaseline8Bit)
    frame = jpeg(np.zeros((8, 8), np.uint8), "JPEG")
    broken.PixelData = encapsulate([frame[: frame.index(b"\xff\xda")]])
    no_pixels = dataset(RAMP)
    del no_pixels.PixelData
    for ds, reason in [
        (dataset(RAMP, PixelData=RAMP.tobytes()[:100]), "cut short: 100 bytes of pixels instead of 200"),
        (dataset(RAMP, Rows=60000, Columns=60000), "more than the limit"),
        (dataset(RAMP, NumberOfFrames=2**31 - 1), "more than the limit"),
        (dataset(RAMP, Rows=0), "0 pixels"),
        (no_pixels, "CT Image Storage without pixel data"),
        (deflated_bomb(), "unpacks to more than"),
        (broken, "cannot be decoded"),
    ]:
        result = read(tmp_path, ds)
        assert result.outcome == "quarantined"
        assert reason in result.reason
    whole = (tmp_path / "a.dcm").read_bytes()
    for content, reason in [(b"hello", "prefix"), (whole[:140], "unknown kind"), (whole[:170], "unknown kind")]:
        (tmp_path / "b.dcm").write_bytes(content)
        (result,) = read_item(source(), tmp_path, "b.dcm")
        assert result.outcome == "quarantined"
        assert reason in result.reason


def test_a_frame_that_ends_the_decoder_ends_nothing_else(tmp_path):
    ds = compressed("JPEG", JPEGBaseline8Bit)
    frame = bytearray(jpeg(np.zeros((8, 8), np.uint8), "JPEG"))
    after_size = frame.index(b"\xff\xc0") + 13
    frame[after_size] = 0  # GDCM 3.2 calls terminate()
    ds.PixelData = encapsulate([bytes(frame)])
    deadly = read(tmp_path, ds)
    assert deadly.outcome == "quarantined"
    assert "cannot be decoded" in deadly.reason
    assert isinstance(read(tmp_path, compressed("JPEG", JPEGBaseline8Bit)), Case)


def test_a_cut_and_changed_file_is_a_case_or_a_reason(tmp_path):
    dataset(RAMP, ImageOrientationPatient=AXIAL, WindowCenter=40, WindowWidth=400).save_as(
        tmp_path / "a.dcm", enforce_file_format=True
    )
    whole = (tmp_path / "a.dcm").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole[: random.integers(140, len(whole))])
        for place in random.integers(132, len(content), 3):
            content[place] = random.integers(256)
        (tmp_path / "b.dcm").write_bytes(content)
        (result,) = read_item(source(), tmp_path, "b.dcm")
        assert isinstance(result, Case) or result.reason
