"""Uploaded studies show the pixels that trainings see: held against the corpus readers, and computed by hand."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless, RTStructureSetStorage, SegmentationStorage
from serving_studies import AXIAL, SPACING, axial_slices, body, write_series
from test_sources_dicom import COLOUR, RAMP, dataset
from test_sources_dicom import source as dicom_source
from test_sources_geometry import stored_as
from test_sources_volume import source as volume_source

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies import PRESETS, open_study
from gmai_vl.sources import read_item

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

LIMITS = Limits(voxels=10**6, upload_files=60, unpacked_bytes=10**7, image_pixels=10**5)
PLANES = ("axial", "coronal", "sagittal")
AXES = {"axial": 2, "coronal": 1, "sagittal": 0}


@pytest.fixture
def opened(tmp_path):
    """Open files as a study, whose folder is apart from theirs."""
    (tmp_path / "unpacked").mkdir()
    return lambda files, limits=LIMITS: open_study(files, limits, tmp_path / "unpacked")


def of_corpus(path):
    """Return what the corpus reader makes of one DICOM file."""
    (case,) = read_item(dicom_source(allow_burned_in=True, modality="CT"), path.parent, path.name)
    assert isinstance(case, Case)
    return case


def looked_at(volume_XYZ, plane, index):
    """Return a slice by the words of the rule: patient right on the left (sagittal: front), front or head up."""
    out = {"axial": ("x", "y"), "coronal": ("x", "z"), "sagittal": ("y", "z")}[plane]
    x, y, z = volume_XYZ.shape
    size = {"x": x, "y": y, "z": z}
    shown = np.empty((size[out[1]], size[out[0]]), volume_XYZ.dtype)
    for row in range(shown.shape[0]):
        for column in range(shown.shape[1]):
            at = {"x": index, "y": index, "z": index, out[1]: size[out[1]] - 1 - row, out[0]: size[out[0]] - 1 - column}
            shown[row, column] = volume_XYZ[at["x"], at["y"], at["z"]]
    return shown


def between(values, low, high):
    return np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255


# Volumes from NIfTI


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SRA", "IPL"])
@pytest.mark.parametrize("name", ["a.nii.gz", "b.nii", "no suffix", "scan.png"])
def test_a_nifti_shows_what_the_corpus_reader_shows_in_all_planes(tmp_path, opened, codes, name):
    volume = body().astype(np.float32) / 3
    stored, affine = stored_as(codes, volume, (1.0, 2.0, 3.0))
    labels, _ = stored_as(codes, np.ones(volume.shape, np.uint8), (1.0, 2.0, 3.0))
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "images/a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "labels/a.nii.gz")
    ending = ".nii.gz" if name.endswith(".gz") else ".nii"
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / f"upload{ending}")
    (upload := tmp_path / f"upload{ending}").rename(target := upload.with_name(name))
    (series,) = opened([target]).series
    spec = volume_source(mask_labels={1: "liver"}, slices_per_axis=100, axes=list(PLANES), percentiles=[0.5, 99.5])
    cases = read_item(spec, tmp_path, "images/a.nii.gz")
    assert len(cases) == sum(volume.shape)
    for case in cases:
        plane, _, index = case.item.partition("@")[2].partition("=")
        np.testing.assert_array_equal(series.slice(plane, int(index)), case.pixels)
        (stack,) = (each for each in series.planes if each.name == plane)
        assert (stack.height, stack.width) == case.pixels.shape
        assert stack.pixel_mm == pytest.approx(case.spacing_mm)
    assert (series.kind, series.modality, series.windows[0]) == ("volume", None, "auto")


def test_presets_are_hounsfield_units_computed_by_hand(tmp_path, opened):
    volume = body()
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([*SPACING, 1])), tmp_path / "a.nii")
    (series,) = opened([tmp_path / "a.nii"]).series
    assert series.windows == ("auto", "lung", "bone", "brain", "soft-tissue")
    for name, center, width in (("lung", -600, 1500), ("bone", 480, 2500), ("brain", 40, 80), ("soft-tissue", 40, 400)):
        assert PRESETS[name] == (center - width / 2, center + width / 2)
        expected = between(looked_at(volume, "coronal", 4), center - width / 2, center + width / 2)
        np.testing.assert_allclose(series.slice("coronal", 4, name), expected, atol=0.51)
    low, high = np.percentile(volume, [0.5, 99.5])
    np.testing.assert_allclose(series.slice("axial", 2), between(looked_at(volume, "axial", 2), low, high), atol=0.51)


@pytest.mark.parametrize(("lowest", "is_offered"), [(-500, True), (-499, False), (0, False)])
def test_a_volume_without_air_is_offered_no_hounsfield_units(tmp_path, opened, lowest, is_offered):
    volume = np.clip(body(), lowest, None)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    assert ("lung" in opened([tmp_path / "a.nii"]).series[0].windows) == is_offered


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_volumes_are_kept_small_and_their_values_are_not_changed(tmp_path, opened, kind):
    volume = np.abs(body()).astype(kind)
    image = nibabel.Nifti1Image(volume, np.eye(4), dtype=kind)
    nibabel.save(image, tmp_path / "a.nii")
    study = opened([tmp_path / "a.nii"])
    assert study.nbytes <= volume.size * 2
    low, high = np.percentile(volume, [0.5, 99.5])
    expected = between(looked_at(volume, "axial", 0), low, high)
    np.testing.assert_allclose(study.series[0].slice("axial", 0), expected, atol=0.51)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_other_volume_formats(tmp_path, opened, suffix):
    simple_itk = pytest.importorskip("SimpleITK")
    volume = body()
    image = simple_itk.GetImageFromArray(np.ascontiguousarray(volume[::-1, ::-1].T))  # LPS
    simple_itk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    (tmp_path / f"a{suffix}").rename(tmp_path / "a")
    (series,) = opened([tmp_path / "a"]).series
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    (same,) = opened([tmp_path / "a.nii"]).series
    for plane in PLANES:
        np.testing.assert_array_equal(series.slice(plane, 3), same.slice(plane, 3))


# Volumes from DICOM


def test_a_ct_series_is_a_volume_that_shows_each_file_as_the_corpus_reader_does(tmp_path, opened):
    volume = body()
    window = {"WindowCenter": tuple(range(0, 70, 10)), "WindowWidth": 500, "RescaleSlope": 2, "RescaleIntercept": -24}
    files = write_series(tmp_path / "s", axial_slices(volume), **window)
    (series,) = opened(files).series
    assert (series.kind, series.modality) == ("volume", "CT")
    assert series.windows == ("stored", "auto", "lung", "bone", "brain", "soft-tissue")
    assert {stack.name: (stack.slices, stack.height, stack.width) for stack in series.planes} == {
        "axial": (7, 9, 11),
        "coronal": (9, 7, 11),
        "sagittal": (11, 7, 9),
    }
    for index, path in enumerate(files):
        case = of_corpus(path)
        np.testing.assert_array_equal(series.slice("axial", index), case.pixels)
        assert series.planes[0].pixel_mm == pytest.approx(case.spacing_mm)
    values = volume * 2 - 24
    for plane in PLANES:
        expected = between(looked_at(values, plane, 3), *PRESETS["bone"])
        np.testing.assert_allclose(series.slice(plane, 3, "bone"), expected, atol=0.51)
        expected = between(looked_at(values, plane, 3), *np.percentile(values, [0.5, 99.5]))
        np.testing.assert_allclose(series.slice(plane, 3, "auto"), expected, atol=0.51)
    # Across the scanned plane the middle slice's window: 30 and 500 by the linear function.
    expected = between(looked_at(values, "sagittal", 2), 29.5 - 249.5, 29.5 + 249.5)
    np.testing.assert_allclose(series.slice("sagittal", 2, "stored"), expected, atol=0.51)


TURNS = [np.array(turn) for turn in np.eye(3)[[[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]]]


@settings(max_examples=25)
@given(
    turn=st.sampled_from(TURNS),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 2),
    backwards=st.booleans(),
    tilt=st.tuples(*[st.floats(-0.15, 0.15)] * 3),
    data=st.data(),
)
def test_a_series_of_any_orientation_shows_each_file_as_the_corpus_reader_does(
    tmp_path_factory, turn, signs, backwards, tilt, data
):
    """Scanned in any plane, tilted by up to 15 degrees, in either direction, uploaded in any order."""
    tmp_path = tmp_path_factory.mktemp("turned")
    rotation = np.eye(3)
    for axis, angle in enumerate(tilt):
        one, two = (other for other in range(3) if other != axis)
        about = np.eye(3)
        about[[one, one, two, two], [one, two, one, two]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        rotation = about @ rotation
    across, down = (rotation @ turn[place] * sign for place, sign in enumerate(signs))
    normal = np.cross(across, down)
    slices = [np.array(each) for each in body((6, 5, 4), seed=3).transpose(2, 0, 1)]
    order = data.draw(st.permutations(range(4)))
    step = normal * (-2.5 if backwards else 2.5)
    files = write_series(tmp_path / "s", slices, [*across, *down], step=step, order=order)
    (tmp_path / "unpacked").mkdir()
    (series,) = open_study(files, LIMITS, tmp_path / "unpacked").series
    cases = [of_corpus(path) for path in files]
    # The tilts together can go past 20 degrees, where a slice has no plane: then it stays as it is stored.
    plane = cases[0].plane
    shown = {index: series.slice(plane or "stored", index, "stored").tobytes() for index in range(4)}
    assert sorted(shown.values()) == sorted(case.pixels.tobytes() for case in cases)
    if plane is None:
        assert series.kind == "frames"
        return
    assert series.kind == "volume"
    # Along the body's axis: towards left to right, back to front, feet to head.
    lps = np.array([np.array(origin_of(path)) for path in files])[:, 2 - PLANES.index(plane)]
    upwards = np.argsort(lps if plane == "axial" else -lps)
    assert [shown[index] for index in range(4)] == [cases[place].pixels.tobytes() for place in upwards]
    (stack,) = (each for each in series.planes if each.name == plane)
    assert stack.pixel_mm == pytest.approx(cases[0].spacing_mm)


def origin_of(path):
    return [float(each) for each in dcmread(path).ImagePositionPatient]


def test_any_order_of_files_gives_the_same_study(tmp_path, opened):
    first = write_series(tmp_path / "a", axial_slices(body()), SeriesNumber=2)
    second = write_series(tmp_path / "b", axial_slices(body(seed=1))[:2], SeriesNumber=1, Modality="MR")
    files = first + second
    wanted = opened(files)
    assert [(one.kind, one.modality) for one in wanted.series] == [("frames", "MR"), ("volume", "CT")]
    rng = np.random.default_rng(0)
    for _ in range(4):
        study = opened([files[place] for place in rng.permutation(len(files))])
        for ours, theirs in zip(study.series, wanted.series, strict=True):
            assert (ours.planes, ours.windows, ours.number) == (theirs.planes, theirs.windows, theirs.number)
            for stack in ours.planes:
                for index in range(stack.slices):
                    np.testing.assert_array_equal(ours.slice(stack.name, index), theirs.slice(stack.name, index))


UNFIT = {
    "a gap": {"places": [0, 1, 2, 4, 5, 6, 7]},
    "a slice twice": {"places": [0, 1, 2, 2, 3, 4, 5]},
    "uneven": {"places": [0, 1, 2.2, 3, 4, 5, 6]},
    "a tilted gantry": {"step": [0, 0.8, 2.5]},
    "another orientation": {"ImageOrientationPatient": (*[list(AXIAL)] * 6, [1, 0, 0, 0, 0, -1])},
    "another spacing": {"PixelSpacing": (*[[1.0, 1.0]] * 6, [2.0, 2.0])},
    "no position": {"ImagePositionPatient": (*[[0, 0, 0]] * 6, None)},
    "inverted": {"PhotometricInterpretation": "MONOCHROME1"},
    "oblique": {"cosines": [0.8, 0.6, 0, 0, 0, -1]},
}


@pytest.mark.parametrize("why", UNFIT)
def test_what_is_no_even_pile_is_shown_frame_by_frame(tmp_path, opened, why):
    files = write_series(tmp_path / "s", axial_slices(body()), order=[3, 0, 1, 2, 6, 5, 4], **UNFIT[why])
    (series,) = opened(files).series
    assert series.kind == "frames"
    assert [(stack.name, stack.slices) for stack in series.planes] == [("stored", 7)]
    in_order = [files[files_at] for files_at in (1, 2, 3, 0, 6, 5, 4)]
    for index, path in enumerate(in_order):
        np.testing.assert_array_equal(series.slice("stored", index, "stored"), of_corpus(path).pixels)


def test_positions_that_a_header_rounds_are_even(tmp_path, opened):
    places = np.round(np.arange(7) * 0.625, 2) / 0.625
    files = write_series(tmp_path / "s", axial_slices(body()), step=[0, 0, 0.625], places=places)
    assert opened(files).series[0].kind == "volume"


def test_a_pile_too_large_for_the_memory_is_shown_frame_by_frame(tmp_path, opened):
    files = write_series(tmp_path / "s", axial_slices(body()))
    assert opened(files, Limits(voxels=body().size)).series[0].kind == "volume"
    (series,) = opened(files, Limits(voxels=body().size - 1)).series
    assert (series.kind, series.nbytes) == ("frames", 0)


def test_series_are_told_apart_and_sizes_within_one_too(tmp_path, opened):
    small = write_series(tmp_path / "a", axial_slices(body((6, 6, 3))))
    large = write_series(tmp_path / "b", axial_slices(body((8, 9, 4))))
    scout = tmp_path / "scout"
    ds = dataset(RAMP, SeriesInstanceUID=series_uid(small[0]))
    ds.save_as(scout, enforce_file_format=True)
    study = opened([*small, *large, scout])
    assert sorted((one.kind, one.planes[0].slices) for one in study.series) == [
        ("picture", 1),
        ("volume", 3),
        ("volume", 4),
    ]


def series_uid(path):
    return dcmread(path).SeriesInstanceUID


PET_SLOPES = {"RescaleSlope": (1, 0.5, 40, 1, 1, 1, 1)}


def test_values_beyond_two_bytes_and_fractions_stay_what_they_are(tmp_path, opened):
    slices = [each.astype(np.uint16) for each in axial_slices(np.abs(body()))]
    files = write_series(
        tmp_path / "s", slices, Modality="PT", RescaleSlope=(1, 0.5, 40, 1, 1, 1, 1), RescaleIntercept=0
    )
    (series,) = opened(files).series
    assert (series.kind, series.modality, series.windows) == ("volume", "PET", ("auto", "stored"))
    for index, path in enumerate(files):
        np.testing.assert_array_equal(series.slice("axial", index, "stored"), of_corpus(path).pixels)


def test_what_is_not_in_hounsfield_units_has_no_presets(tmp_path, opened):
    files = write_series(tmp_path / "s", axial_slices(body()), RescaleType="US", RescaleSlope=1, RescaleIntercept=0)
    assert opened(files).series[0].windows == ("auto", "stored")


# Single files of DICOM


def test_a_compressed_series_is_decoded_and_shown_as_the_corpus_reader_does(tmp_path, opened):
    files = write_series(tmp_path / "s", axial_slices(body((16, 16, 3))))
    for path in files:
        ds = dcmread(path)
        ds.compress(RLELossless)
        ds.save_as(path)
    (series,) = opened(files).series
    assert series.kind == "volume"
    np.testing.assert_array_equal(series.slice("axial", 1, "stored"), of_corpus(files[1]).pixels)


def test_frames_of_one_file_and_colours(tmp_path, opened):
    frames = np.stack([RAMP, RAMP + 300, RAMP[::-1]])
    dataset(frames, frames=3, Modality="MR").save_as(tmp_path / "mr", enforce_file_format=True)
    dataset(COLOUR, Modality="ES").save_as(tmp_path / "es", enforce_file_format=True)
    grey = np.arange(50, 150, dtype=np.uint8).reshape(10, 10)
    dataset(grey, Modality="US", BurnedInAnnotation="YES").save_as(tmp_path / "us", enforce_file_format=True)
    study = opened([tmp_path / "mr", tmp_path / "es", tmp_path / "us"])
    by_modality = {one.modality: one for one in study.series}
    assert by_modality["MR"].kind == "frames"
    assert by_modality["MR"].windows == ("auto", "stored")
    for index, frame in enumerate(frames):
        expected = between(frame, *np.percentile(frame, [0.5, 99.5]))
        np.testing.assert_allclose(by_modality["MR"].slice("stored", index), expected, atol=0.51)
    assert by_modality["Endoscopy"].windows == ()
    np.testing.assert_array_equal(by_modality["Endoscopy"].slice("stored", 0, "auto"), COLOUR)
    assert by_modality["Ultrasound"].notes == ("burned_in",)
    np.testing.assert_array_equal(by_modality["Ultrasound"].slice("stored", 0), grey)


def test_what_is_no_picture_is_left_out_with_the_reason(tmp_path, opened):
    dataset(RAMP).save_as(tmp_path / "ct", enforce_file_format=True)
    for place, (modality, sop) in enumerate([("RTSTRUCT", RTStructureSetStorage), ("SEG", SegmentationStorage)]):
        ds = dataset(RAMP, sop=sop, Modality=modality)
        ds.save_as(tmp_path / f"{place}", enforce_file_format=True)
    (tmp_path / "notes").write_text("no picture")
    (tmp_path / "empty").touch()
    study = opened(sorted(path for path in tmp_path.iterdir() if path.is_file()))
    assert len(study.series) == 1
    assert dict(study.left_out) == {
        "RT Structure Set Storage is no picture": 1,
        "Segmentation Storage is no picture": 1,
        "is no kind of file that is read here": 1,
        "is empty": 1,
    }


def real_files():
    """Return the DICOM files that come with pydicom."""
    example = get_testdata_file("CT_small.dcm", download=False)
    return sorted(Path(example).parent.glob("*.dcm")) if example else []


def test_real_files_show_what_the_corpus_reader_shows_and_none_is_left_out_that_it_reads(opened):
    files = real_files()
    if not files:
        pytest.skip("pydicom comes without its example files here")
    spec = dicom_source(allow_burned_in=True, allow_recognizable=True, modality="X-Ray", frames=3)
    shown = 0
    for path in files:
        try:
            cases = [case for case in read_item(spec, path.parent, path.name) if isinstance(case, Case)]
        except BadItem:
            cases = []
        try:
            (series,) = opened([path], Limits()).series
        except Refusal:
            assert not cases, path.name
            continue
        for case in cases:
            frame = int(case.item.partition("@frame=")[2] or 0)
            window = "stored" if series.windows else None
            np.testing.assert_array_equal(series.slice("stored", frame, window), case.pixels, path.name)
            shown += 1
    assert shown > 30


# Pictures


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF"])
def test_pictures_of_every_format(tmp_path, opened, kind):
    Image.fromarray(COLOUR).save(tmp_path / "no suffix", kind, **({"lossless": True} if kind == "WEBP" else {}))
    (series,) = opened([tmp_path / "no suffix"]).series
    assert (series.kind, series.modality, series.windows) == ("picture", None, ())
    with Image.open(tmp_path / "no suffix") as picture:
        np.testing.assert_array_equal(series.slice("stored", 0, "auto"), np.array(picture.convert("RGB")))


def test_pages_of_a_tiff_are_frames_and_a_camera_is_turned(tmp_path, opened):
    pages = [np.random.default_rng(seed).integers(0, 256, (5, 8), dtype=np.uint8) for seed in range(3)]
    first, *others = map(Image.fromarray, pages)
    first.save(tmp_path / "pages", "TIFF", save_all=True, append_images=others)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn to the right to see it
    Image.fromarray(COLOUR).save(tmp_path / "turned", "JPEG", exif=exif, quality=100)
    frames, turned = opened([tmp_path / "pages", tmp_path / "turned"]).series
    assert (frames.kind, frames.planes[0].slices) == ("frames", 3)
    for index, page in enumerate(pages):
        np.testing.assert_array_equal(frames.slice("stored", index), page)
    assert (turned.planes[0].width, turned.planes[0].height) == (COLOUR.shape[0], COLOUR.shape[1])


@pytest.mark.parametrize(
    ("plane", "index", "window"),
    [("oblique", 0, "auto"), ("axial", 7, None), ("axial", -1, None), ("axial", 0, "liver"), ("stored", 0, None)],
)
def test_what_a_series_has_not_is_refused_and_what_it_has_is_said(tmp_path, opened, plane, index, window):
    (series,) = opened(write_series(tmp_path / "s", axial_slices(body()))).series
    with pytest.raises(Refusal) as refused:
        series.slice(plane, index, window)
    assert refused.value.status == 422
