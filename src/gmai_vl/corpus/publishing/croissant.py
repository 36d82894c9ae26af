"""Croissant 1.0 (JSON-LD, docs.mlcommons.org/croissant): what machines need to find and read a data set's files.

Dates are left out on purpose: a corpus is published when somebody publishes it, who then adds `datePublished`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gmai_vl.corpus.columns import Counts
from gmai_vl.corpus.licences import UNKNOWN, known_licence

Node = dict[str, Any]

_CONTEXT: Node = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of Croissant 1.0, word for word: tools compare it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A column of the records."""

    name: str
    says: str
    """One sentence for people."""

    type: Literal["sc:Text", "sc:Integer", "sc:ImageObject"] = "sc:Text"
    repeated: bool = False
    json_path: str | None = None
    """Where it stands in a JSON file; None: it is a column."""

    parts: tuple[str, ...] = ()
    """Keys of the objects that it is a list of."""


SAMPLE_FIELDS = (
    Field(name="id", says="Name of the sample: dimension, task, modality, source, folder, label, file, number."),
    Field(name="split", says="Side of the split; all images of a patient stand on one side."),
    Field(name="subset", says="caption, percept, instruct, text-single or text-multi."),
    Field(name="kind", says="caption, mcq, closed, open, grounding or dialogue."),
    Field(name="granularity", says="What is looked at: image, box or text."),
    Field(name="language", says="en or zh."),
    Field(name="options", says="Options of a multiple-choice question, in the order of their letters.", repeated=True),
    Field(name="answer", says="The right answer: a letter, yes or no, a text, or markup of boxes."),
    Field(name="modality", says="Kind of image."),
    Field(name="department", says="Clinical department."),
    Field(name="clinical_task", says="Clinical task."),
    Field(name="source", says="Data set that the image and its annotation come from."),
    Field(name="license", says="Licence of the source."),
)
"""What samples hold in a corpus and in each form that has columns for it."""


def corpus_croissant(manifest: Mapping[str, Any], counts: Counts) -> Node:
    """Describe the sample tables and the images of a corpus."""
    rows = file_set("sample-files", "samples/*.parquet", "application/x-parquet", "The samples.")
    fields = [
        *SAMPLE_FIELDS,
        Field(name="images", says="Names of its images, which lie at images/ab/abcd....png.", repeated=True),
        Field(name="width", says="Columns of the first image.", type="sc:Integer"),
        Field(name="height", says="Rows of the first image.", type="sc:Integer"),
        Field(name="case_id", says="The annotated image, in cases.parquet."),
        Field(name="writer", says="Who wrote the text."),
    ]
    says = (
        "One row a sample. The column `messages` holds the conversation: role and a list of texts and images; it is "
        "nested deeper than a field can tell."
    )
    images = file_set("image-files", "images/*/*.png", "image/png", "Images, named by the sha256 of their pixels.")
    return croissant(manifest, counts, [rows, images], [record_set("samples", says, "sample-files", fields)])


def croissant(
    manifest: Mapping[str, Any], counts: Counts, distribution: Sequence[Node], record_sets: Sequence[Node]
) -> Node:
    """Return the description of a corpus, or of an export of one, in the files `distribution`."""
    name, numbers = str(manifest["name"]), manifest["counts"]
    sources = "; ".join(
        " ".join(filter(None, (source["name"], source.get("url")))) for source in manifest["recipe"]["sources"]
    )
    licences = sorted({_licence_url(licence) for licence in counts.licences.values()})
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": (
            f"Instruction data about medical images: {numbers['samples']} samples on {numbers['cases']} cases, "
            f"languages {', '.join(counts.tables['language'])}. Research use only, not for diagnosis. "
            f"Fingerprint {manifest['fingerprint']}."
        ),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": licences,
        "citeAs": f"The sources: {sources}. Built by gmai-vl after GMAI-VL-5.5M, https://arxiv.org/abs/2411.14522",
        "inLanguage": list(counts.tables["language"]),
        "isLiveDataset": False,
        "version": "1.0.0",
        "distribution": list(distribution),
        "recordSet": list(record_sets),
    }


def _licence_url(licence: str | None) -> str:
    known = known_licence(licence)
    if known in (UNKNOWN, "research-only"):
        return licence or "not given"
    return f"https://spdx.org/licenses/{known}.html"


def file_set(name: str, includes: str | list[str], encoding: str, says: str) -> Node:
    """Return the files that match a pattern, or one of several, below the folder of croissant.json."""
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": says,
        "encodingFormat": encoding,
        "includes": includes,
    }


def record_set(name: str, says: str, file_set: str, fields: Sequence[Field]) -> Node:
    """Return the records that the files of one set hold."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": says,
        "field": [_field(name, file_set, field) for field in fields],
    }


def _field(above: str, file_set: str, field: Field) -> Node:
    place = f"{above}/{field.name}"
    node: Node = {
        "@type": "cr:Field",
        "@id": place,
        "name": field.name,
        "description": field.says,
        "dataType": field.type,
        "repeated": field.repeated,
    }
    files = {"fileSet": {"@id": file_set}}
    if field.parts:
        return node | {
            "subField": [
                {
                    "@type": "cr:Field",
                    "@id": f"{place}/{part}",
                    "name": part,
                    "dataType": "sc:Text",
                    "source": files | {"extract": {"column": field.name}, "transform": {"jsonPath": part}},
                }
                for part in field.parts
            ]
        }
    extract = {"column": field.name} if field.json_path is None else {"jsonPath": field.json_path}
    return node | {"source": files | {"extract": extract}}
