"""Build a corpus: cut the sources into parts, make the parts that are not there yet, merge them."""

import fcntl
import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gmai_vl import __version__
from gmai_vl.corpus.engines import Engine, make_parts
from gmai_vl.corpus.licences import check_allowed
from gmai_vl.corpus.merge import check_quarantine, merge_parts
from gmai_vl.corpus.parts import PARTS, Part, plan_parts
from gmai_vl.corpus.reader import read_manifest
from gmai_vl.corpus.recipe import DataRecipe, LlmWriter, TemplateWriter, read_recipe, recipe_sha256
from gmai_vl.foundation import Interrupted, UserError, write_json

_FOLDERS = ("images", "samples")
_FILES = ("cases.parquet", "ledger.parquet", "drafts.parquet", "prompts.jsonl", "card.md", "croissant.json")
"""What a build makes, besides its parts and the manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a build came to."""

    corpus: Path
    name: str
    counts: dict[str, Any]
    """As in the manifest."""

    fingerprint: str
    new_parts: int
    """Parts made by this run; the others were there from an interrupted one."""

    reused_parts: int

    texts: dict[str, Any] | None = None
    """What became of the texts of a language model, as in the manifest; None where none wrote."""

    notes: tuple[str, ...] = ()
    """What is wrong with the input and yet does no harm, one line each."""


def build(
    recipe_path: Path,
    out: Path,
    *,
    engine: Engine = "local",
    workers: int = 1,
    licences: Collection[str] | None = None,
    writer: Literal["template", "llm"] | None = None,
) -> Summary:
    """Build the corpus of a recipe in the folder `out`, or finish one that was interrupted.

    The result does not depend on `engine`, `workers` or interruptions. A finished corpus of the same recipe and tool
    version is left as it is. Raises UserError for a fault in the recipe, a source that cannot be read as the recipe
    says, more quarantine than it allows, an `out` that holds anything else, or a source whose licence is not among
    `licences` (None: all). `writer` template lets the templates write where the recipe would have a model do it, llm is
    an error unless the recipe says how.
    """
    recipe = read_recipe(recipe_path)
    if writer == "llm" and recipe.writer.kind != "llm":
        raise UserError(
            f"{recipe_path}: writer: is `template`; --writer llm needs `kind: llm` with `url` and `model` there"
        )
    if writer == "template" and recipe.writer.kind != "template":
        recipe = recipe.model_copy(update={"writer": TemplateWriter(answer_with=recipe.writer.answer_with)})
    if licences is not None:
        try:
            check_allowed({source.name: source.license for source in recipe.sources}, licences)
        except UserError as error:
            raise UserError(f"{recipe_path}: {error}") from None
    return build_recipe(recipe, recipe_path, out, engine=engine, workers=workers)


def build_recipe(
    recipe: DataRecipe, recipe_path: Path, out: Path, *, engine: Engine = "local", workers: int = 1
) -> Summary:
    """Do what `build` does with a recipe that is read already; `recipe_path` is what its roots count from."""
    _check_folder(recipe, recipe_path, out)
    if isinstance(recipe.writer, LlmWriter):
        _check_key(recipe.writer, recipe_path)
    if (out / "manifest.json").exists():
        shutil.rmtree(out / PARTS, ignore_errors=True)  # the one thing that may be left to do
        return _summary(out, read_manifest(out), new_parts=0, reused_parts=0)
    try:
        parts = plan_parts(recipe, recipe_path)
    except UserError as error:
        raise UserError(f"{recipe_path}: {error}") from None
    with _only_builder(out):
        try:
            return _build(parts, recipe, out, engine, workers)
        except Interrupted:
            raise
        except UserError as error:
            # Files or recipe have to change before the next try, so nothing of this one may be taken for its result.
            _clear(out)
            raise UserError(f"{recipe_path}: {error}") from None


def _check_key(writer: LlmWriter, recipe_path: Path) -> None:
    """Raise UserError if the key is not set, before anything of an unfinished corpus is touched."""
    try:
        writer.key()
    except UserError as error:
        raise UserError(f"{recipe_path}: writer.{error}") from None


def _build(parts: Sequence[Part], recipe: DataRecipe, out: Path, engine: Engine, workers: int) -> Summary:
    was_begun = (out / PARTS / "recipe.json").exists()
    for left in (*out.rglob(".*.tmp"), *(() if was_begun else (out / PARTS).glob("*.arrow"))):
        left.unlink()
    write_json(out / PARTS / "recipe.json", _identity(recipe))
    missing = [part for part in parts if not part.is_made(out)]
    make_parts(missing, recipe, out, engine, workers)
    check_quarantine(parts, recipe, out)
    manifest = merge_parts(parts, recipe, out)
    shutil.rmtree(out / PARTS)
    return _summary(out, manifest, new_parts=len(missing), reused_parts=len(parts) - len(missing))


def _clear(out: Path) -> None:
    """Remove what a build has made; its mark last, so that it is ours as long as anything is there."""
    for folder in _FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
    for file in _FILES:
        (out / file).unlink(missing_ok=True)
    shutil.rmtree(out / PARTS)


@contextmanager
def _only_builder(out: Path) -> Iterator[None]:
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    with (out / PARTS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{out}: another build is at work here; wait for it, or give another --out") from None
        yield


def _check_folder(recipe: DataRecipe, recipe_path: Path, out: Path) -> None:
    """Raise UserError if `out` holds another corpus, an unfinished one of another recipe, or anything else."""
    unfinished = out / PARTS / "recipe.json"
    if (out / "manifest.json").exists() or unfinished.exists():
        finished = (out / "manifest.json").exists()
        there = read_manifest(out) if finished else json.loads(unfinished.read_text(encoding="utf-8"))
        if {key: there.get(key) for key in _identity(recipe)} != _identity(recipe):
            raise UserError(
                f"{out}: holds `{_name(there)}`, {recipe_path} makes `{_name(_identity(recipe))}`; "
                "give another --out, or remove the folder"
            )
        return
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder for the corpus")
    strangers = sorted(path.name for path in out.iterdir() if path.name != PARTS) if out.exists() else []
    if strangers:
        raise UserError(f"{out}: holds `{strangers[0]}` and no corpus; give a new or an empty folder")


def _identity(recipe: DataRecipe) -> dict[str, str]:
    return {"name": recipe.name, "recipe_sha256": recipe_sha256(recipe), "tool_version": __version__}


def _name(identity: dict[str, str]) -> str:
    recipe = str(identity.get("recipe_sha256"))[:12]
    return f"{identity.get('name')} (recipe {recipe}, gmai-vl {identity.get('tool_version')})"


def _summary(out: Path, manifest: dict[str, Any], new_parts: int, reused_parts: int) -> Summary:
    return Summary(
        corpus=out,
        name=manifest["name"],
        counts=manifest["counts"],
        fingerprint=manifest["fingerprint"],
        texts=manifest.get("texts"),
        new_parts=new_parts,
        reused_parts=reused_parts,
    )
