"""The card of a benchmark: what it is, how it was made, what can be answered without looking, and its limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from gmai_vl.corpus.licences import combined

_NOT_GIVEN = "not given"


def card(manifest: Mapping[str, Any]) -> str:
    """Return the card as Markdown; it depends on the manifest alone."""
    counts, corpus = manifest["counts"], manifest["corpus"]
    parts = [
        f"# {_cell(corpus['name'])}: a benchmark in the form of GMAI-MMBench",
        "**Research use only, not for diagnosis.**",
        f"{counts['items']:,} single-choice questions about {counts['images']:,} images of {counts['patients']:,} "
        f"patients (where none is known, an image stands for one), in {counts['cells']:,} cells: clinical task, "
        f"department, modality and granularity. Languages: {_listed(counts['languages'])}. "
        f"Granularities: {_listed(counts['granularities'])}.",
        "## How it was made",
        _how(manifest),
        "## Cells",
        _table(_HEAD + (["blind %"] if manifest["blind"] else []), [_line(cell) for cell in manifest["cells"]]),
        "## Baselines",
        _baselines(manifest),
        "## Left out",
        _left_out(manifest["left_out"]),
        "## Sources and licences",
        _table(
            ["source", "items", "licence", "from"],
            [
                [each["source"], f"{each['items']:,}", each["license"] or _NOT_GIVEN, each["url"] or ""]
                for each in manifest["sources"]
            ],
        ),
        "What the licences together allow (no legal advice):",
        "\n".join(
            f"- {_cell(line)}" for line in combined({each["source"]: each["license"] for each in manifest["sources"]})
        ),
        "Sources whose licence forbids to pass on the images or what is made of them are left out.",
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


_HEAD = ["clinical task", "department", "modality", "level", "items", "patients", "labels", "chance %", "majority %"]

_LIMITS = """\
- For research; no part of it has been validated for clinical use.
- The answers are those of the annotation, and its faults are their faults. No physician has seen the questions.
- A cell with few items or few patients says little; scores need intervals, clustered by `patient_id`.
- Labels are right equally often here; no clinic has such shares.
- The text of an option tells what the image may show. Where the majority baseline is far above chance, so is an answer
  without looking.
- Who trains on the same sources, in whatever corpus, may know the images. `gmai data leaks` compares.
- `patient_id` is a hash: it ties the items of a patient together, and names nobody unless the names can be guessed."""


def _how(manifest: Mapping[str, Any]) -> str:
    corpus, per_cell = manifest["corpus"], manifest["per_cell"]
    return (
        f"By gmai-vl {manifest['tool_version']} of the test split of the corpus `{_cell(corpus['name'])}` (fingerprint "
        f"`{corpus['fingerprint']}`), seed {manifest['seed']}, "
        + (f"at most {per_cell:,} items a cell. " if per_cell is not None else "no limit for a cell. ")
        + f"Fingerprint `{manifest['fingerprint']}`. Images and patients of train and val do not occur.\n\n"
        "- Image level: a label of the whole image. Box, mask and contour level: a region, drawn into a copy of the\n"
        "  image in one of four colors that color-blind people tell apart; the mask is half transparent.\n"
        "- Wrong options are labels that the same annotators could have given and did not give to this image, or,\n"
        "  where there are none, labels of other images of the same modality and clinical task. None is a synonym of\n"
        "  a right label or includes one. Of a region, what the image shows apart from that region is wrong too.\n"
        "- In a cell each label is right as often as any other as far as it goes, patients take turns, and the right\n"
        "  letters are even to within one among questions with equally many options."
    )


def _baselines(manifest: Mapping[str, Any]) -> str:
    lines = [
        "- chance: a draw among the options.",
        "- majority: always the option that is the right label most often in this cell of the train split.",
    ]
    if blind := manifest["blind"]:
        lines.append(
            f"- blind: a model was asked the questions without their images (answers sha256 `{blind['sha256']}`). It "
            f"answered {blind['right']:,} of {blind['asked']:,} right ({100 * blind['accuracy']:.1f} %); these were "
            "dropped, the lucky guesses among them, so that the score of this model means little here."
        )
    else:
        lines.append(
            "- blind: not done. Ask a model the questions of blind.jsonl, write its answers as JSON lines "
            '`{"id", "response"}`, and build again with `--blind` and the same options: what it answers right is '
            "dropped."
        )
    return "\n".join(lines)


def _line(cell: Mapping[str, Any]) -> list[str]:
    likeliest = cell["majority"]
    told = [
        cell["clinical_task"],
        cell["department"] or _NOT_GIVEN,
        cell["modality"],
        cell["granularity"],
        f"{cell['items']:,}",
        f"{cell['patients']:,}",
        f"{len(cell['labels']):,}",
        f"{100 * cell['chance']:.1f}",
        "" if likeliest is None else f"{100 * likeliest['accuracy']:.1f}",
    ]
    return told + ([f"{100 * cell['blind']['accuracy']:.1f}"] if "blind" in cell else [])


def _left_out(left_out: Mapping[str, Any]) -> str:
    cases = [["case", reason, f"{number:,}"] for reason, number in left_out["cases"].items()]
    questions = [["question", reason, f"{number:,}"] for reason, number in left_out["questions"].items()]
    cells = [
        f"- {_cell(' · '.join(cell[name] or _NOT_GIVEN for name in _CELL_NAMES))}: {_cell(cell['reason'])}"
        for cell in left_out["cells"]
    ]
    told = [_table(["what", "reason", "number"], cases + questions)] if cases + questions else ["Nothing."]
    return "\n\n".join(told + (["Cells that have no item:", "\n".join(cells)] if cells else []))


_CELL_NAMES = ("clinical_task", "department", "modality", "granularity")


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Keep text from a source from being read as markup of the table or as HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
