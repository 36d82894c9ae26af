"""A part of a build: a few items of one source, read, written about and stored, wholly or not at all."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from gmai_vl import __version__
from gmai_vl.corpus.images import store_image
from gmai_vl.corpus.recipe import DataRecipe, LlmWriter, TemplateWriter, recipe_sha256, source_root
from gmai_vl.corpus.schema import SCHEMAS, Row, Table, case_row, draft_row, sample_row
from gmai_vl.endpoint import Client
from gmai_vl.foundation import BadItem, atomic_file, atomic_files, canonical_json, sha256_of_text
from gmai_vl.records import Case, Rejected, Sample
from gmai_vl.sources import SourceSpec, list_items, read_item
from gmai_vl.writing import Draft, write_given, write_samples, write_with_llm

PARTS = ".parts"
"""Folder of an unfinished corpus."""

_READING = threading.Lock()

_MOST_ITEMS, _MOST_FILES_OF_MANY = 24, 4
"""Pictures of a part, and volumes or videos, each of which holds several.

A part costs about as much as a picture: its tables are written, flushed and read again; if cut finer, it shows."""

_PARTS_OF_A_MODEL = 512
"""A part asks a model for one text after the other, so there have to be more parts than requests under way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Some items of one source."""

    number: int
    source: SourceSpec
    root: Path
    items: tuple[str, ...]
    key: str
    """Hash of all that its tables depend on, as far as it can be told without reading the items."""

    def table_path(self, corpus: Path, table: Table) -> Path:
        """Return where the table of this part lies."""
        return corpus / PARTS / f"{self.number:06d}-{self.key[:16]}-{table}.arrow"

    def is_made(self, corpus: Path) -> bool:
        """Say whether the tables are there: the ledger is written last."""
        return self.table_path(corpus, "ledger").exists()

    def read(self, corpus: Path, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one of the tables, all columns or some."""
        schema = SCHEMAS[table]
        wanted = [schema.get_field_index(name) for name in columns or schema.names]
        options = pa.ipc.IpcReadOptions(included_fields=wanted)
        with pa.memory_map(str(self.table_path(corpus, table))) as file:
            return pa.ipc.open_file(file, options=options).read_all()


def plan_parts(recipe: DataRecipe, recipe_path: Path) -> list[Part]:
    """List the items of all sources and cut them. Does not depend on the number of workers."""
    recipe_hash = recipe_sha256(recipe)
    parts: list[Part] = []
    for source in recipe.sources:
        root = source_root(recipe_path, source)
        items = list_items(source, root)
        annotations = _state(root, getattr(source, "annotations", None) or "")
        size = _MOST_FILES_OF_MANY if source.format in ("volume", "video") else _MOST_ITEMS
        if isinstance(recipe.writer, LlmWriter):
            size = min(max(len(items) // _PARTS_OF_A_MODEL, 1), size)
        for start in range(0, len(items), size):
            some = tuple(items[start : start + size])
            states = [*(_state(root, item) for item in some), annotations]
            key = sha256_of_text(canonical_json([recipe_hash, __version__, source.name, some, states]))
            parts.append(Part(number=len(parts), source=source, root=root, items=some, key=key))
    return parts


def tables_of(recipe: DataRecipe) -> tuple[Table, ...]:
    """Return the tables of a part and of the corpus; the ledger, which tells that a part is made, comes last."""
    drafts: tuple[Table, ...] = ("drafts",) if isinstance(recipe.writer, LlmWriter) else ()
    return ("cases", "samples", *drafts, "ledger")


def make_part(part: Part, recipe: DataRecipe, corpus: Path, client: Client | None = None) -> None:
    """Read the items, store the images, write the samples and then the tables.

    `client` is whom a language model is asked through, where the recipe has one write; then parts may be made in
    several threads of a process. Raises EndpointError if it cannot be asked.
    """
    rows: dict[Table, list[Row]] = {table: [] for table in tables_of(recipe)}
    with atomic_files() as temporary_for:
        for item in part.items:
            for outcome in _read(part, item):
                if isinstance(outcome, Rejected):
                    rows["ledger"].append(_ledger_row(part, outcome.item, outcome.outcome, outcome.reason))
                elif _keep(outcome, part, recipe, rows, client) and outcome.has_image:
                    store_image(corpus, outcome, temporary_for)
    for table, its_rows in rows.items():
        with atomic_file(part.table_path(corpus, table)) as temporary:
            _write_table(pa.Table.from_pylist(its_rows, schema=SCHEMAS[table]), temporary)


def _read(part: Part, item: str) -> Iterator[Case | Rejected]:
    """Read an item; one thread at a time, for not all decoders bear more."""
    with _READING:
        outcomes = iter(read_item(part.source, part.root, item))
    while True:
        with _READING:
            outcome = next(outcomes, None)
        if outcome is None:
            return
        yield outcome


def _write_table(table: pa.Table, path: Path) -> None:
    """Write an Arrow file: of tables as small as a part's, Parquet takes several times as long to write and read."""
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)


def _keep(case: Case, part: Part, recipe: DataRecipe, rows: dict[Table, list[Row]], client: Client | None) -> bool:
    """Write about a case; say whether there was anything to write."""
    try:
        samples, drafts = _written(case, recipe, client)
    except BadItem as bad:
        rows["ledger"].append(_ledger_row(part, case.item, "quarantined", str(bad)))
        return False
    if drafts:
        rows["drafts"] += map(draft_row, drafts)
    if not samples and drafts:
        most = Counter(name for draft in drafts for name in draft.failed[-1].faults).most_common(1)[0][0]
        reason = f"none of the model's texts could be used, most often for the check `{most}`"
        rows["ledger"].append(_ledger_row(part, case.item, "quarantined", reason))
        return False
    if not samples:
        reason = f"nothing can be written about it for the subsets {', '.join(recipe.subsets)}"
        rows["ledger"].append(_ledger_row(part, case.item, "excluded", reason))
        return False
    rows["cases"].append(case_row(case))
    rows["samples"] += map(sample_row, samples)
    rows["ledger"].append(_ledger_row(part, case.item, "kept", None))
    return True


def _written(case: Case, recipe: DataRecipe, client: Client | None) -> tuple[list[Sample], Sequence[Draft]]:
    """Write what the annotation allows, then what the source itself asks and answers."""
    subsets, writer = recipe.subsets, recipe.writer
    samples: list[Sample] = []
    drafts: Sequence[Draft] = ()
    if case.task != "qa" and isinstance(writer, LlmWriter):
        assert client is not None, "a model writes through a client"
        written = write_with_llm(case, client=client, options=writer.options, seed=recipe.seed, subsets=subsets)
        samples, drafts = list(written.samples), written.drafts
    elif case.task != "qa" and isinstance(writer, TemplateWriter):
        samples = write_samples(
            case,
            seed=recipe.seed,
            languages=recipe.languages,
            subsets=subsets,
            answer_with=writer.answer_with,
            further=writer.further,
        )
    given = write_given(case, subsets=subsets, answer_with=writer.answer_with, first_number=len(samples))
    return samples + given, drafts


def _ledger_row(part: Part, item: str, outcome: str, reason: str | None) -> Row:
    return {"source": part.source.name, "item": item, "outcome": outcome, "reason": reason}


def _state(root: Path, item: str) -> list[int] | None:
    """Tell a changed file from an unchanged one; of `file@row=12` that is the file. None where there is none."""
    for path in (root / item, root / item.partition("@")[0]):
        if path.is_file():
            state = path.stat()
            return [state.st_size, state.st_mtime_ns]
    return None
