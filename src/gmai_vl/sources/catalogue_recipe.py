"""A starting recipe for a data set of the catalogue: what is known is filled in, the rest marked `# to fill: ...`."""

import json
import re
from collections.abc import Iterator

from gmai_vl.sources.catalogue import OTHER, Dataset

_LINE = 118


def starting_recipe(dataset: Dataset) -> str:
    """Return a data recipe as YAML text. Filled in by hand at every mark, it is one that `read_recipe` takes.

    Marked keys have no value yet. No label map and no licence is guessed; a format that the catalogue does not state is
    inferred from task and dimension, and the recipe says so.
    """
    name = re.sub(r"[^a-z0-9]+", "-", dataset.name.lower()).strip("-")
    form, is_stated = _format(dataset)
    lines = [
        *_about(dataset),
        f"name: {name}",
        "seed: 0",
        "languages: {en: 0.7, zh: 0.3}",
        *(
            ["subsets: [instruct, text-single, text-multi]"]
            if form == "text"
            else ["subsets: [caption, percept, instruct]"]
        ),
        "split: {train: 0.8, val: 0.1, test: 0.1, by: patient}",
        "writer: {kind: template}",
        "sources:",
        f"  - name: {name}",
        f"    format: {form}" + ("" if is_stated else "  # inferred from task and dimension; see what you downloaded"),
        *(f"    {line}" for line in _source(dataset, form)),
    ]
    return "\n".join(lines) + "\n"


def _about(dataset: Dataset) -> Iterator[str]:
    """What the catalogue knows and the recipe has no key for, as comments."""
    yield from _comment(
        f"{dataset.name}. A start from the catalogue, not run on real files: fill in every `# to fill`."
    )
    if dataset.verified:
        yield from _comment(f"recipes/data/{dataset.verified}.yaml ran on real files of this set; take that one.")
    yield from _comment(f"images or volumes, as stated: {dataset.images or 'unknown'}; access: {dataset.access}")
    yield from _comment(f"licence, as stated: {dataset.licence}")
    if dataset.urls:
        yield from _comment(f"from: {' ; '.join(dataset.urls)}")
    if dataset.layout:
        yield from _comment(f"layout: {dataset.layout}")
    if dataset.note:
        yield from _comment(f"note: {dataset.note}")


def _comment(text: str) -> Iterator[str]:
    line = "#"
    for word in text.split():
        if len(line) + 1 + len(word) > _LINE and line not in ("#", "#  "):
            yield line
            line = "#  "
        line += f" {word}"
    yield line


def _format(dataset: Dataset) -> tuple[str, bool]:
    """Return the format of the source and whether the catalogue states it."""
    wanted = ["text"] if "other" in dataset.tasks and OTHER in dataset.modalities else []
    if "seg" in dataset.tasks:
        wanted += ["volume", "mask"] if "3d" in dataset.dimensions else ["mask", "volume"]
    if "det" in dataset.tasks:
        wanted += ["coco", "voc"]
    if "cls" in dataset.tasks:
        wanted += ["folder", "table"]
    stated = [form for form in dataset.formats if form != "wsi"]
    # Questions lie in tables, so the catalogue calls their format `table`; the reader of questions is `text`.
    if wanted[:1] == ["text"] or not stated:
        return (wanted[0] if wanted else "video" if "video" in dataset.dimensions else "table"), bool(stated)
    return next((form for form in (*wanted, *stated) if form in stated), stated[0]), True


def _source(dataset: Dataset, form: str) -> Iterator[str]:
    """Keys of the source, one a line, in the order of docs and recipes."""
    yield _to_fill("root", "folder that the files lie in, relative to this file")
    yield from _files(dataset, form)
    if form != "dicom" and form != "text":
        known = [name for name in dataset.modalities if name != OTHER]
        if len(known) == 1:
            yield f"modality: {known[0]}"
        else:
            yield _to_fill("modality", f"{' | '.join(known) or 'not stated'}; one source for each that the set holds")
    if dataset.department:
        yield f"department: {_quoted(dataset.department)}"
    else:
        yield _to_fill("department", "which the set belongs to, or delete the line")
    yield _to_fill("clinical_task", "what the labels are about, or delete the line")
    if form != "volume":
        yield _to_fill(
            "patient",
            '{regex: "^(...)_"} or {table: FILE, key: COLUMN, value: COLUMN}; delete the line if patients are not told',
        )
    yield _licence(dataset)
    yield f"url: {_quoted(dataset.urls[0])}" if dataset.urls else _to_fill("url", "where you got it")


def _files(dataset: Dataset, form: str) -> Iterator[str]:
    labels = "; ".join(dataset.labels).replace("\n", " ") or "none stated"
    is_decathlon = form == "volume" and {"imagesTr", "labelsTr"} <= set(re.findall(r"\w+", dataset.layout))
    match form:
        case "volume" | "mask":
            if is_decathlon:
                yield 'images: "imagesTr/*.nii.gz"  # as the layout suggests'
                yield 'masks: "labelsTr/{stem}.nii.gz"  # as the layout suggests; names must be equal, else use `key`'
            else:
                yield _to_fill("images", "folder or glob below root")
                yield _to_fill("masks", "path of the mask with {stem}, {parent} or {key} of its image")
            yield _to_fill("mask_labels", f"value -> label; labels named: {labels}")
            if form == "volume" and dataset.modalities == ("CT",):
                yield _to_fill(
                    "window", "[lowest, highest] Hounsfield unit to show, such as [-160, 240]; delete for percentiles"
                )
        case "folder":
            yield _to_fill("images", "folder below root that holds one folder per class, or `.`")
            yield _to_fill(
                "labels", f"class folder -> term, null excludes, {{negative: true}} for no finding; named: {labels}"
            )
        case "table":
            yield _to_fill("images", "folder or glob below root")
            yield _to_fill("annotations", "the table below root")
            yield _to_fill("image_column", "column with the file name")
            yield _to_fill("label_column", "column with the label; or use label_columns")
            yield _to_fill(
                "labels", f"value -> term, null excludes, {{negative: true}} for no finding; named: {labels}"
            )
        case "coco" | "voc":
            yield _to_fill("images", "folder or glob below root")
            yield _to_fill("annotations", "the JSON file (coco) or the folder of XML files (voc) below root")
            yield _to_fill("labels", f"source label -> term, null excludes; named: {labels}")
        case "video":
            yield _to_fill("images", "folder or glob of the videos below root")
            yield "fps: 2"
            yield _to_fill("labels", f"label -> term; named: {labels}")
        case "dicom":
            yield 'images: "."'
        case "text":
            yield _to_fill("images", "folder that the paths of the pictures count from")
            yield _to_fill("annotations", "file with the questions below root")
            yield _to_fill("question_column", "column with the question")
            yield _to_fill("answer_column", "column with the answer")
            yield _to_fill("image_column", "column with the path of the picture")


def _licence(dataset: Dataset) -> str:
    if dataset.licences == ("unknown",):
        return _to_fill("license", "unknown; read the terms where you got it")
    if len(dataset.licences) == 1 and "template" not in dataset.note:
        return f"license: {_quoted(dataset.licences[0])}  # as stated by others; check it where you got it"
    return _to_fill("license", f"not settled, stated are: {' | '.join(dataset.licences)}")


def _to_fill(key: str, what: str) -> str:
    return f"{key}:  # to fill: {what}"


def _quoted(text: str) -> str:
    """YAML takes JSON's strings."""
    return text if re.fullmatch(r"[A-Za-z][\w.-]*( [\w.-]+)*", text) else json.dumps(text, ensure_ascii=False)
