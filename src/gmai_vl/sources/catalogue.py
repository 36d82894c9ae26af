"""The catalogue of known public data sets: what is known of each, and search. Facts only; no image is fetched."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Literal, cast, get_args

from gmai_vl import vocabulary
from gmai_vl.foundation import UserError, visible

Used = Literal["yes", "likely", "no"]
CatalogueTask = Literal["cls", "det", "seg", "other"]
Access = Literal["open", "registration", "kaggle", "request", "unknown"]

OTHER = "Other"
"""Modality of sets that have many, or none of the vocabulary's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One public data set, as lists and re-users describe it. Empty means that none of them says it."""

    name: str
    aliases: tuple[str, ...]
    used: Used
    """Whether GMAI-VL-5.5M was made from it. yes: seen in the released annotations. likely: in a list by the same
    group. no: no trace found, which proves nothing."""
    evidence: tuple[str, ...]
    """The lists that name it, from which `used` follows; or that a recipe of ours reads it."""
    modalities: tuple[str, ...]
    """As the vocabulary writes them, or `Other`."""
    dimensions: tuple[str, ...]
    """2d, 3d, video."""
    tasks: tuple[CatalogueTask, ...]
    anatomy: str
    department: str
    """As the vocabulary writes it; empty also where the set spans several."""
    labels: tuple[str, ...]
    """May be cut; the last is then `...`."""
    images: str
    """Images, volumes, slices or patients, as the source states them: not comparable without conversion."""
    licence: str
    """Statements with who makes them; `unknown` where nobody does."""
    access: Access
    """Derived from the host of the address."""
    urls: tuple[str, ...]
    """The official page first."""
    formats: tuple[str, ...]
    """What lies in the set, in the words of data recipes where they have one; empty if unknown."""
    layout: str
    source_ref: str
    verified: str
    """Name of the recipe in recipes/data that ran on real files of it."""
    note: str
    """Faults of the lists that were corrected, and what is in doubt."""

    @property
    def licences(self) -> tuple[str, ...]:
        """Licences that are stated, Creative Commons in SPDX's form; `unknown` alone if there is none."""
        without_sources = re.sub(r"\([^)]*\)", " ", self.licence)
        statements = re.split(r";|\||\bvs\b|\balso:", without_sources)
        named = (_plain_licence(statement) for statement in statements)
        return tuple(dict.fromkeys(name for name in named if name and name != "sources differ"))


def _plain_licence(statement: str) -> str:
    """`CC-BY-SA-NC 4.0` -> `CC-BY-NC-SA-4.0`; anything that is not Creative Commons stays as it stands."""
    statement = " ".join(statement.split()).strip(" ,")
    found = re.match(r"CC[- ]?(0|BY(?:-(?:NC|SA|ND))*)\b[ -]?(\d\.\d)?", statement, re.IGNORECASE)
    if found is None:
        return statement
    if found[1] == "0":
        return "CC0-1.0"  # there is one version
    terms = found[1].upper().split("-")
    rights = "-".join(term for term in ("BY", "NC", "SA", "ND") if term in terms)
    # What stands behind the licence ("non-commercial research with citation") limits it and must not get lost.
    limits = re.sub(r"^:? *Public Domain$", "", statement[found.end() :].strip(" ,"))
    return "-".join(filter(None, ("CC", rights, found[2]))) + (f", {limits}" if limits else "")


@cache
def datasets() -> tuple[Dataset, ...]:
    """Return all data sets, sorted by name."""
    text = (files("gmai_vl.sources") / "catalogue.csv").read_text(encoding="utf-8")
    return tuple(_dataset(row) for row in csv.DictReader(text.splitlines()))


def _dataset(row: dict[str, str]) -> Dataset:
    used, access, tasks = row["in_gmai_vl"], row["access"] or "unknown", _cells(row["task"], "|")
    assert used in get_args(Used) and access in get_args(Access) and set(tasks) <= set(get_args(CatalogueTask)), row
    return Dataset(
        name=row["name"],
        aliases=_cells(row["aliases"], ";"),
        used=cast(Used, used),
        evidence=_cells(row["evidence"], ";"),
        modalities=_cells(row["modality"], "|"),
        dimensions=_cells(row["dimension"], "|"),
        tasks=cast(tuple[CatalogueTask, ...], tasks),
        anatomy=row["anatomy"],
        department=row["department"],
        labels=_cells(row["labels"], ";"),
        images=row["images_or_volumes"],
        licence=row["licence"],
        access=cast(Access, access),
        urls=_cells(row["url"], " ; "),
        formats=tuple(name for name in _cells(row["format"], "|") if name != "unknown"),
        layout=row["layout_note"],
        source_ref=row["source_ref"],
        verified=row["verified"],
        note=row["note"],
    )


def _cells(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def search(
    words: Sequence[str] = (),
    *,
    modality: str | None = None,
    task: CatalogueTask | None = None,
    department: str | None = None,
    anatomy: str | None = None,
    licence: str | None = None,
    access: Access | None = None,
    used: Used | None = None,
) -> list[Dataset]:
    """Return the data sets that fit everything given; those whose name has the words first.

    Each of `words` must stand in the name, an alias, a label or the anatomy. `licence` fits any licence stated for a
    set: `CC-BY` finds CC-BY-4.0 and neither CC-BY-NC-4.0 nor CC-BY-4.0 with further terms. Raises UserError for an
    unknown modality or department.
    """
    wanted = [_plain(word) for word in words if _plain(word)]
    modality = modality and _modality(modality)
    department = department and _department(department)

    def fits(dataset: Dataset) -> bool:
        said = _plain(" ".join((dataset.name, *dataset.aliases, *dataset.labels, dataset.anatomy)))
        return (
            all(word in said for word in wanted)
            and (not modality or modality in dataset.modalities)
            and (not task or task in dataset.tasks)
            and (not department or department == dataset.department)
            and (not anatomy or _plain(anatomy) in _plain(dataset.anatomy))
            and (not licence or any(_licence_fits(licence, stated) for stated in dataset.licences))
            and (not access or access == dataset.access)
            and (not used or used == dataset.used)
        )

    def rank(dataset: Dataset) -> bool:
        return not all(word in _plain(" ".join((dataset.name, *dataset.aliases))) for word in wanted)

    return sorted(filter(fits, datasets()), key=rank)


def find(name: str) -> Dataset:
    """Return the data set called `name`, or with that alias, in any letter case and with any punctuation.

    Raises UserError, with the nearest names, if there is none or if several sets bear that alias.
    """
    for names_of in (lambda dataset: (dataset.name,), lambda dataset: dataset.aliases):
        found = [dataset for dataset in datasets() if any(_plain(known) == _plain(name) for known in names_of(dataset))]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"catalogue: `{visible(name)}` may be {_quoted([each.name for each in found])}; name one")
    raise UserError(f"catalogue: no data set is called `{visible(name)}`; {_nearest(name)}")


def _nearest(name: str) -> str:
    by_plain = {_plain(known): dataset.name for dataset in datasets() for known in (dataset.name, *dataset.aliases)}
    holding = [dataset.name for dataset in search([name])]
    close = [by_plain[match] for match in get_close_matches(_plain(name), by_plain, n=3, cutoff=0.6)]
    names = list(dict.fromkeys([*holding, *close]))[:3]
    return f"did you mean {_quoted(names)}?" if names else "search with `gmai data catalogue WORDS`"


def _quoted(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


_MODALITY_WORDS = {
    "mri": "MR",
    "xray": "X-Ray",
    "x ray": "X-Ray",
    "fundus": "Fundus Photography",
    "histopathology": "Pathology",
    "infrared": "Infrared Reflectance Imaging",
    "optical coherence tomography": "OCT",
}
"""What people call some modalities of the vocabulary."""


def _modality(name: str) -> str:
    if name.lower() == OTHER.lower():
        return OTHER
    return vocabulary.modality(_MODALITY_WORDS.get(_plain(name), name)).en


def _department(name: str) -> str:
    """Return the department called `name`; a part of the name will do where only one has it."""
    holding = [term.en for term in vocabulary.DEPARTMENTS if _plain(name) in _plain(term.en)]
    return holding[0] if len(holding) == 1 else vocabulary.department(name).en


def _licence_fits(wanted: str, stated: str) -> bool:
    wanted, stated = _plain_licence(wanted).lower(), stated.lower()
    if not stated.startswith("cc"):
        return wanted in stated
    return wanted in (stated, re.sub(r"-\d\.\d$", "", stated))


def _plain(text: str) -> str:
    """Lower case, one blank for all that is neither letter nor digit."""
    return " ".join(re.findall(r"\w+", text.lower().replace("_", " ")))
