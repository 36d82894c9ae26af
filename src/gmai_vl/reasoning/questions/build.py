"""Make a folder of questions: gather or read, keep the sides apart, deal the letters, write."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmai_vl.evaluation import choose
from gmai_vl.foundation import UserError, sha256_of_file, sha256_of_text
from gmai_vl.reasoning.items import SIDES, Side
from gmai_vl.reasoning.questions.files import Put, Row, check_out, encoded, fingerprint, linked, row_of, write_folder
from gmai_vl.reasoning.questions.gather import gather, open_corpora
from gmai_vl.reasoning.questions.importing import check_share, read_official, reason_of, wrong_row
from gmai_vl.reasoning.questions.item import Item
from gmai_vl.reasoning.questions.letters import with_letters
from gmai_vl.reasoning.questions.manifest import manifest_of
from gmai_vl.reasoning.questions.sides import apart, without_repeats


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What a folder came to."""

    out: Path

    questions: dict[str, int]
    """Side -> questions."""

    sources: dict[str, dict[str, int]]
    """Side -> source -> questions."""

    left_out: dict[str, int]
    """Reason -> how many."""

    fingerprint: str

    manifest: dict[str, Any]
    """All that manifest.json says."""


def build_questions(
    corpora: Sequence[Path], out: Path, *, hold_out: Sequence[str] = (), seed: int = 0, limit: int | None = None
) -> Built:
    """Make a folder of questions out of the multiple-choice samples of corpora.

    Each side has the samples of that side of the corpora's split; all of the sources in `hold_out` go to held_out.
    `limit`: at most so many of a side, as `choose` chooses. Chance depends on `seed` and content alone: the same
    corpora and seed give the same bytes, in whatever order the corpora are named.

    Raises UserError if a corpus is none or damaged, if a source of `hold_out` is in none of them, if `out` holds
    anything but such a folder, and if nothing is left.
    """
    check_out(out, corpora)
    opened = open_corpora(corpora)
    gathered = gather(opened, out, hold_out)
    kept, leaks = apart(gathered.items)
    kept, repeats = without_repeats(kept, gathered.items)
    left_out = gathered.left_out + Counter(reason_of(reason) for _, reason in leaks + repeats)
    named = [{"name": corpus.manifest["name"], "fingerprint": corpus.manifest["fingerprint"]} for corpus in opened]
    return _written(
        out,
        kept,
        made_of={"corpora": named},
        hold_out=hold_out,
        seed=seed,
        limit=limit,
        left_out=left_out,
        salt="|".join(one["fingerprint"] for one in named),
        put=linked,
        place=", ".join(map(str, corpora)),
    )


def import_questions(
    file: Path, images: Path, out: Path, *, hold_out: Sequence[str] = (), seed: int = 0, limit: int | None = None
) -> Built:
    """Make a folder of questions out of an official file of GMAI-Reasoning10K; its image paths count from `images`.

    The files have no sides: of the images, eight in ten go to train, one to val and one to test, by `seed`; datasets in
    `hold_out` go to held_out. Rows that cannot be used are listed in left_out.jsonl.

    Raises UserError if the file or folder cannot be read, if more than a fifth of the rows are wrong, and as
    `build_questions` does.
    """
    check_out(out, [file, images], may_hold_out=True)
    read = read_official(file, images, hold_out, seed)
    kept, leaks = apart(read.items)
    kept, repeats = without_repeats(kept, read.items)
    wrong = [*read.wrong, *(_row_left_out(item, reason) for item, reason in repeats)]
    check_share(file, wrong, read.rows)
    wrong = sorted(wrong + [_row_left_out(item, reason) for item, reason in leaks], key=lambda row: row["row"])
    sha256 = sha256_of_file(file)
    return _written(
        out,
        kept,
        made_of={"imported": {"file": file.name, "sha256": sha256, "rows": read.rows}},
        hold_out=hold_out,
        seed=seed,
        limit=limit,
        left_out=Counter(reason_of(row["reason"]) for row in wrong),
        salt=sha256,
        put=encoded,
        place=str(file),
        rows_left_out=wrong,
    )


def _row_left_out(item: Item, reason: str) -> Row:
    return wrong_row(int(item.place.removeprefix("row ")), reason)


def _written(
    out: Path,
    items: Sequence[Item],
    *,
    made_of: Mapping[str, Any],
    hold_out: Sequence[str],
    seed: int,
    limit: int | None,
    left_out: Counter[str],
    salt: str,
    put: Put,
    place: str,
    rows_left_out: Sequence[Row] | None = None,
) -> Built:
    if not items:
        told = "; ".join(f"{reason} ({number:,})" for reason, number in left_out.most_common(3))
        raise UserError(f"{place}: no multiple-choice question is left: {told or 'there are none'}")
    chosen = [item for side in SIDES for item in _limited([item for item in items if item.side == side], limit, seed)]
    if len(chosen) < len(items):
        left_out = left_out + Counter({"beyond --limit": len(items) - len(chosen)})
    dealt = with_letters(chosen, seed)
    by_side: dict[Side, list[Item]] = {
        side: found for side in SIDES if (found := [item for item in dealt if item.side == side])
    }
    rows = {side: [row_of(item, _patient(item, salt)) for item in found] for side, found in by_side.items()}
    manifest = manifest_of(
        by_side,
        rows,
        made_of=made_of,
        options={"hold_out": sorted(set(hold_out)), "seed": seed, "limit": limit},
        left_out=left_out,
        fingerprint=fingerprint(rows),
    )
    write_folder(out, by_side, rows, manifest, put, rows_left_out)
    return Built(
        out=out,
        questions=manifest["counts"]["questions"],
        sources=manifest["counts"]["sources"],
        left_out=manifest["left_out"],
        fingerprint=manifest["fingerprint"],
        manifest=manifest,
    )


def _limited(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    if limit is None:
        return list(items)
    chosen = {question.id for question in choose([item.question for item in items], limit, seed)}
    return [item for item in items if item.id in chosen]


def _patient(item: Item, salt: str) -> str:
    """Return 16 hexadecimal digits for a patient, other ones for other corpora; for the image where none is known."""
    return sha256_of_text(f"{salt}|{item.question.source}|{item.question.patient_id or item.image}")[:16]
