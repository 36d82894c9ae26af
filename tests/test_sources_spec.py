"""What a recipe may say of a source, and what it is told when it is wrong."""

import pytest

from gmai_vl.foundation import Settings, UserError, load_settings
from gmai_vl.sources import FolderSource, PhantomSource, SourceSpec, VolumeSource, list_items


class Recipe(Settings):
    sources: list[SourceSpec]


def source(**keys):
    return load_settings(Recipe, {"sources": [{"name": "a", "root": ".", **keys}]}, "r.yaml").sources[0]


FOLDER = {"format": "folder", "modality": "CT"}
MASK = {"format": "mask", "modality": "CT", "images": "i", "masks": "m/{stem}.png", "mask_labels": {255: "polyp"}}
VIDEO = {"format": "video", "modality": "Endoscopy", "images": "v"}
TEXT = {"format": "text", "annotations": "q.json"}
VOLUME = {**MASK, "format": "volume", "masks": "m/{stem}.nii.gz"}


def test_the_format_chooses_the_class_and_names_are_written_as_the_vocabulary_does():
    folder = source(format="folder", modality="x-ray", department="hematology", clinical_task="cell recognition")
    assert isinstance(folder, FolderSource)
    assert (folder.modality, folder.department, folder.clinical_task) == ("X-Ray", "Hematology", "Cell Recognition")
    assert isinstance(source(format="phantom"), PhantomSource)
    volume = source(**VOLUME, window=[-160, 240], axes=["axial"])
    assert isinstance(volume, VolumeSource)
    assert volume.window == (-160, 240)


def test_labels_may_be_a_string_a_mapping_a_negative_or_null():
    labels = source(**FOLDER, labels={"a": "nevus", "b": {"en": "none", "negative": True}, "c": None, 0: "zero"}).labels
    assert labels["a"].en == "nevus"
    assert labels["b"].negative
    assert labels["c"] is None
    assert labels["0"].en == "zero"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({**FOLDER, "modality": "MRT"}, "modality"),
        ({**FOLDER, "department": "Hematologie"}, "did you mean `Hematology`"),
        ({**FOLDER, "labesl": {}}, "did you mean `labels`"),
        ({**FOLDER, "labels": {"a": {"eng": "x"}}}, "eng"),
        ({**FOLDER, "patient": {"regex": "(a"}}, "is no regular expression"),
        ({**FOLDER, "patient": {"regex": "a"}}, "needs a group"),
        ({**FOLDER, "patient": {}}, "give either `regex`"),
        ({**FOLDER, "patient": {"table": "t.csv", "key": "k"}}, "needs `key` and `value`"),
        ({**FOLDER, "images": "/etc"}, "below `root`"),
        ({**FOLDER, "limit": 0}, "limit"),
        ({**MASK, "masks": "m/a.png"}, "one file for all images"),
        ({**MASK, "masks": "m/{name}.png"}, "`{name}` is not known"),
        ({**MASK, "masks": "m/{key}.png"}, "go together"),
        ({**MASK, "threshold": 127}, "give either `mask_labels`, or `threshold`"),
        ({**MASK, "mask_labels": {}, "threshold": 1, "labels": {"a": "x", "b": "y"}}, "one entry in `labels`"),
        ({**MASK, "mask_labels": {0: "background", 1: "polyp"}}, "leave it out"),
        ({**MASK, "mask_labels": {1: {"negative": True}}}, "cannot be `negative`"),
        ({**VOLUME, "window": [5, 5]}, "must be below"),
        ({**VOLUME, "axes": ["axial", "axial"]}, "twice"),
        ({"format": "nifti"}, "nifti"),
        ({**VIDEO, "label_column": "a"}, "go with `annotations`"),
        ({**VIDEO, "annotations": "t.csv"}, "give either `label_column` or `label_columns`"),
        ({**VIDEO, "annotations": "t.csv", "label_column": "a", "label": "b"}, "give either `label` or `annotations`"),
        ({**VIDEO, "annotations": "t.csv", "label_columns": ["a"], "label_separator": ";"}, "goes with `label_column`"),
        ({**VIDEO, "fps": 0}, "fps"),
        ({**TEXT}, "give either `question_column`"),
        ({**TEXT, "question_column": "q"}, "go together"),
        ({**TEXT, "conversations_column": "c", "options_columns": ["a"]}, "goes with `question_column`"),
        ({**TEXT, "conversations_column": "c", "language": "en", "language_column": "l"}, "give either `language`"),
        (
            {**TEXT, "conversations_column": "c", "patient": {"regex": "(a)"}, "patient_column": "p"},
            "give either `patient",
        ),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(keys, message):
    with pytest.raises(UserError) as error:
        source(**keys)
    assert message in str(error.value)
    assert str(error.value).startswith("r.yaml: sources[0]")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keys", [{**FOLDER}, {**MASK}, {**VOLUME}, {"format": "dicom"}])
def test_no_folder_and_no_file_are_the_users_mistake(tmp_path, keys):
    with pytest.raises(UserError, match="source `a`: root"):
        list_items(source(**keys), tmp_path / "absent")
    with pytest.raises(UserError, match="source `a`: images"):
        list_items(source(**keys), tmp_path)
