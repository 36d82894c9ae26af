"""Hold a corpus against everything it promises; one line for each broken promise."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gmai_vl.corpus.drafts import draft_counts, draft_findings, has_drafts, unreadable_drafts
from gmai_vl.corpus.fingerprint import fingerprint
from gmai_vl.corpus.images import load_image, stored_images
from gmai_vl.corpus.reader import WITHDRAWING
from gmai_vl.corpus.review.record import faults_of_record
from gmai_vl.corpus.schema import SCHEMAS, Row, case_of, content_of, letters, sample_of
from gmai_vl.corpus.tables import count, table_files, table_rows
from gmai_vl.foundation import BadItem, UserError, progress, visible
from gmai_vl.records import Case
from gmai_vl.sources.geometry import outer_box
from gmai_vl.sources.rle import decode_mask
from gmai_vl.writing import MeasuredCase, check_sample, measured

_YES_NO = {"en": ("yes", "no"), "zh": ("是", "否")}
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Known:
    """A case as its samples must agree with it; without pixels and masks, so that all cases fit into memory."""

    case: Case

    runs: tuple[NDArray[np.int64] | None, ...]
    """The masks of its findings, run-length coded."""

    image: str | None
    content: str
    """What no other case may hold too: the image, or for text alone a hash of the words."""

    split: str

    def with_masks(self) -> Case:
        """Return the case with its masks. Raises ValueError if one of them does not fit the image."""
        size = self.case.width, self.case.height
        masks = [None if runs is None else decode_mask(runs.tolist(), *size) for runs in self.runs]
        findings = zip(self.case.findings, masks, strict=True)
        return replace(self.case, findings=tuple(replace(finding, mask=mask) for finding, mask in findings))


@lru_cache(maxsize=1)  # the samples of a case follow each other
def _with_measures(known: _Known) -> MeasuredCase:
    return measured(known.with_masks())


def verify(corpus: Path) -> list[str]:
    """Return what is wrong with the corpus, one line each; an empty list means that every invariant holds.

    Every image is decoded and hashed. Raises UserError if `corpus` is no folder.
    """
    if not corpus.is_dir():
        raise UserError(f"{corpus}: no such folder; give the folder of a corpus")
    unreadable = list(_unreadable_files(corpus))
    if unreadable:
        return [visible(finding) for finding in unreadable]
    cases: dict[str, _Known] = {}
    findings = [
        *_cases(corpus, cases),
        *_images(corpus, cases),
        *_samples(corpus, cases),
        *_split(cases),
        *_ledger(corpus, cases),
        *_manifest(corpus),
    ]
    return [visible(finding) for finding in findings]


def _unreadable_files(corpus: Path) -> Iterator[str]:
    if (corpus / WITHDRAWING).exists():
        yield f"{WITHDRAWING}: the withdrawal of a source was interrupted; run `gmai data withdraw` again"
    try:
        manifest = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))
        if not {"name", "counts", "fingerprint", "recipe_sha256"} <= manifest.keys():
            yield "manifest.json: name, counts, fingerprint or recipe_sha256 is missing"
    except FileNotFoundError:
        yield "manifest.json: is missing; the corpus is not finished"
    except (OSError, ValueError, AttributeError) as error:
        yield f"manifest.json: cannot be read: {error}"
    try:
        for line in (corpus / "prompts.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            str(entry["prompt_id"] + entry["text"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        yield f"prompts.jsonl: cannot be read: {error!r}"
    if not table_files(corpus, "samples"):
        yield "samples: no Parquet file"
    for table, schema in SCHEMAS.items():
        if table == "drafts" and not has_drafts(corpus):
            continue
        for path in table_files(corpus, table):
            place = path.relative_to(corpus)
            try:
                for batch in pq.ParquetFile(path).iter_batches():
                    batch.validate(full=True)
                if not pq.read_schema(path).equals(schema):
                    yield f"{place}: the columns are not those of a corpus"
            except (OSError, pa.ArrowException) as error:
                yield f"{place}: cannot be read: {error}"
    if has_drafts(corpus):
        try:
            yield from unreadable_drafts(corpus)
        except UserError as error:
            yield str(error)


def _cases(corpus: Path, cases: dict[str, _Known]) -> Iterator[str]:
    """Check the case rows and fill `cases`."""
    for row in table_rows(corpus, "cases"):
        name = f"case {row['case_id']}"
        if row["case_id"] in cases:
            yield f"{name}: stands twice"
        if row["case_id"] != f"{row['source']}/{row['item']}":
            yield f"{name}: is not named after source and item, {row['source']}/{row['item']}"
        if row["split"] not in _SPLITS:
            yield f"{name}: split {row['split']}"
        for finding in row["findings"]:
            yield from _finding(row, finding, f"{name}: {finding['label']['en']}")
        is_text = row["dimension"] == "text"
        if is_text != (row["image"] is None) or is_text != (row["width"] < 1 or row["height"] < 1):
            yield f"{name}: has dimension {row['dimension']}, {row['width']}x{row['height']} pixels of {row['image']}"
            continue
        no_masks = [finding | {"mask": None} for finding in row["findings"]]
        no_pixels = np.broadcast_to(np.uint8(0), (row["height"], row["width"]))
        try:
            case, content = case_of(row | {"findings": no_masks}, no_pixels), content_of(row)
            masks = [finding["mask"] for finding in row["findings"]]
            runs = tuple(None if mask is None else np.array(mask, np.int64) for mask in masks)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            yield f"{name}: its conversations cannot be read: {error!r}"
            continue
        cases[row["case_id"]] = _Known(case=case, runs=runs, image=row["image"], content=content, split=row["split"])


def _finding(row: Row, finding: Row, name: str) -> Iterator[str]:
    box, share = finding["box"], finding["area_share"]
    if box is not None and not _is_inside(box, row["width"], row["height"]):
        yield f"{name}: box {box} is not inside the image of {row['width']}x{row['height']}"
    if share is not None and not 0 < share <= 1:
        yield f"{name}: area share {share}"
    if finding["mask"] is None:
        return
    try:
        mask_HW = decode_mask(finding["mask"], row["width"], row["height"])
    except ValueError as error:
        yield f"{name}: {error}"
        return
    if not mask_HW.any():
        yield f"{name}: its mask is empty"
    elif box is None or tuple(box) != tuple(outer_box(mask_HW)):
        yield f"{name}: box {box} is not the outer box of its mask, {list(outer_box(mask_HW))}"
    elif share is None or abs(share - mask_HW.mean()) > 1e-6:
        yield f"{name}: area share {share} is not that of its mask, {mask_HW.mean():.6f}"


def _images(corpus: Path, cases: dict[str, _Known]) -> Iterator[str]:
    sizes = {known.image: (known.case.width, known.case.height) for known in cases.values() if known.image is not None}
    for image, size in progress(sorted(sizes.items()), "images", len(sizes)):
        try:
            pixels = load_image(corpus, image)
        except UserError as error:
            yield str(error).split("; run `gmai")[0]
            continue
        if (pixels.shape[1], pixels.shape[0]) != size:
            yield f"image {image}: is {pixels.shape[1]}x{pixels.shape[0]}, its case says {size[0]}x{size[1]}"
    for path in stored_images(corpus):
        if path.stem not in sizes:
            yield f"{path.relative_to(corpus)}: belongs to no case"


def _samples(corpus: Path, cases: dict[str, _Known]) -> Iterator[str]:
    lines = (corpus / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = {json.loads(line)["prompt_id"] for line in lines}
    ids: set[str] = set()
    by_model: set[str] = set()
    for row in table_rows(corpus, "samples"):
        name = f"sample {row['id']}"
        if row["id"] in ids:
            yield f"{name}: stands twice"
        ids.add(row["id"])
        if row["prompt_id"].startswith("llm/"):
            by_model.add(row["id"])
        if row["prompt_id"] not in prompts:
            yield f"{name}: prompt {row['prompt_id']} is not in prompts.jsonl"
        known = cases.get(row["case_id"])
        faults = [*_conversation(row), *_answer(row), *_json_columns(row)]
        if known is None:
            faults.append(f"there is no case {row['case_id']}")
        else:
            # What is not well formed cannot be held against the annotation.
            faults += _against_case(row, known) if faults else [*_against_case(row, known), *_text(row, known)]
        yield from (f"{name}: {fault}" for fault in faults)
    if has_drafts(corpus):
        yield from draft_findings(corpus, by_model, ids, set(cases))
    for case_id in sorted(cases.keys() - {row["case_id"] for row in table_rows(corpus, "samples", ("case_id",))}):
        yield f"case {case_id}: no sample speaks of it"


def _against_case(row: Row, known: _Known) -> Iterator[str]:
    case = known.case
    is_text = row["subset"].startswith("text-")
    image, size = (None, (0, 0)) if is_text else (known.image, (case.width, case.height))
    if row["images"] != ([] if image is None else [image]):
        yield f"its images are not that of its case, {image}"
    if (row["width"], row["height"]) != size:
        yield f"says {row['width']}x{row['height']}, its case {size[0]}x{size[1]}"
    if row["split"] != known.split:
        yield f"split {row['split']}, but its case is in {known.split}"
    for key in ("source", "license", "patient_id", "modality", "department", "clinical_task", "task"):
        if row[key] != getattr(case, key):
            yield f"{key} {row[key]}, but its case has {getattr(case, key)}"
    for region in row["regions"]:
        label, box = region["label"], tuple(region["box"])
        if not any(box == finding.box and label in (finding.label.en, finding.label.zh) for finding in case.findings):
            yield f"region `{label}` {list(box)} is no finding of its case"


def _text(row: Row, known: _Known) -> Iterator[str]:
    """Hold questions and answers against the annotation again, as the writer did."""
    try:
        checks = check_sample(sample_of(row), _with_measures(known))
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError, BadItem, UserError) as error:
        yield f"its facts are not such as the writer gives: {error!r}"
        return
    for check, result in checks.items():
        if result is not True:
            yield f"{check}: {result}"


def _conversation(row: Row) -> Iterator[str]:
    roles = [message["role"] for message in row["messages"] if message["role"] != "system"]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        yield f"the turns are not user and assistant in turn: {', '.join(roles)}"
    pieces = [piece for message in row["messages"] for piece in message["content"]]
    shown = sorted(piece["image"] for piece in pieces if piece["type"] == "image" and piece["image"] is not None)
    if shown != list(range(len(row["images"]))):
        yield f"shows images {shown} of {len(row['images'])}"
    if any(piece["type"] == "text" and not (piece["text"] or "").strip() for piece in pieces):
        yield "a text is empty"


def _answer(row: Row) -> Iterator[str]:
    kind, options, answer = row["kind"], row["options"], row["answer"]
    if kind == "mcq":
        if not options or len(options) < 2 or len(set(options)) < len(options):
            yield f"options {options}"
        elif answer not in letters(len(options)):
            yield f"answer {answer} is not among the options A-{letters(len(options))[-1]}"
    elif options is not None:
        yield f"options, though it is no multiple choice but {kind}"
    if kind == "closed" and answer not in _YES_NO.get(row["language"], ()):
        yield f"answer {answer} is not among yes and no in `{row['language']}`"
    if kind in ("open", "grounding") and not answer:
        yield "no answer"


def _json_columns(row: Row) -> Iterator[str]:
    for column in ("facts", "checks"):
        try:
            value = json.loads(row[column])
        except ValueError as error:
            yield f"{column} are not JSON: {error}"
            continue
        if not isinstance(value, dict) or (column == "facts" and "form" not in value):
            yield f"{column}: {row[column][:80]}"
        elif column == "checks" and any(result is not True for result in value.values()):
            yield f"a check failed: {row[column][:80]}"


def _split(cases: dict[str, _Known]) -> Iterator[str]:
    sides: dict[str, set[str]] = {}
    for known in cases.values():
        if known.case.patient_id is not None:
            sides.setdefault(known.case.patient_id, set()).add(known.split)
    for patient, splits in sorted(sides.items()):
        if len(splits) > 1:
            yield f"patient {patient}: stands on several sides of the split: {', '.join(sorted(map(str, splits)))}"
    for content, times in Counter(known.content for known in cases.values()).items():
        if times > 1:
            yield f"{content}: {times} cases have the same pixels, or the same words without any"


def _ledger(corpus: Path, cases: dict[str, _Known]) -> Iterator[str]:
    kept: Counter[str] = Counter()
    for row in table_rows(corpus, "ledger"):
        if row["outcome"] not in ("kept", "duplicate", "excluded", "quarantined"):
            yield f"ledger: {row['source']}/{row['item']}: outcome {row['outcome']}"
        elif row["outcome"] == "kept":
            kept[f"{row['source']}/{row['item']}"] += 1
        elif not row["reason"]:
            yield f"ledger: {row['source']}/{row['item']}: {row['outcome']} without a reason"
    for case_id in sorted(cases.keys() - kept.keys()):
        yield f"case {case_id}: the ledger does not have it as kept"
    for case_id, times in sorted(kept.items()):
        if case_id not in cases:
            yield f"ledger: {case_id} is kept, but there is no such case"
        if times > 1:
            yield f"ledger: {case_id} is kept {times} times"


def _manifest(corpus: Path) -> Iterator[str]:
    manifest = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))
    if manifest["counts"] != count(corpus):
        yield f"manifest.json: counts are not those of the tables, {json.dumps(count(corpus), sort_keys=True)}"
    by_model = _kind_of_writer(manifest) == "llm"
    if by_model != has_drafts(corpus):
        yield "drafts.parquet: is missing" if by_model else "drafts.parquet: is there, and no model wrote"
    elif by_model and manifest.get("texts") != draft_counts(corpus):
        yield "manifest.json: texts are not those of drafts.parquet"
    own = fingerprint(table_rows(corpus, "samples"), table_rows(corpus, "ledger"))
    if manifest["fingerprint"] != own:
        yield f"manifest.json: fingerprint {manifest['fingerprint']} is not that of samples and ledger, {own}"
    yield from faults_of_record(corpus, manifest)


def _kind_of_writer(manifest: Row) -> str | None:
    recipe = manifest.get("recipe")
    writer = recipe.get("writer") if isinstance(recipe, dict) else None
    return writer.get("kind") if isinstance(writer, dict) else None


def _is_inside(box: list[int], width: int, height: int) -> bool:
    return len(box) == 4 and 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
