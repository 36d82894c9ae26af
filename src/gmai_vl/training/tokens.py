"""The token store: the conversations of a corpus as tokens in memory-mapped files, made once, read anywhere.

A store lies in the cache, under the hash of all that its tokens depend on: data, tokenizer, form of a conversation,
size of an image. A change of any of them is another store; none is ever used for what it was not made from.
"""

# N samples of the store · T tokens of a conversation

import json
import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import LlavaProcessor

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.images import image_path
from gmai_vl.corpus.schema import Row, turn_of
from gmai_vl.corpus.tables import open_table, table_files
from gmai_vl.foundation import (
    UserError,
    atomic_folder,
    cache_home,
    canonical_json,
    progress,
    sha256_of_text,
    write_json,
)
from gmai_vl.model import IGNORED, Encoded, encode_many, image_side, image_token_count
from gmai_vl.records import Turn

FORM = 3
"""Of the files and of what `encode` makes of a conversation; a change of either counts it up."""

ROWS_AT_A_TIME = 2_000
ROWS_FOR_PROCESSES = 100_000
"""Below so many samples a second process takes longer to start than it saves."""

_COLUMNS = ("id", "split", "subset", "kind", "language", "images", "messages", "source", "license", "facts")
_LEARNT = np.uint32(1 << 31)
"""Bit of a stored token that a loss is taken on."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("chance", pa.uint64()),
        ("split", pa.string()),
        ("subset", pa.string()),
        ("kind", pa.string()),
        ("form", pa.string()),
        ("language", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("words", pa.int32()),
        ("tokens", pa.int32()),
        ("supervised", pa.int32()),
        ("images", pa.int32()),
        ("conversation", pa.list_(pa.uint32())),
        ("shown", pa.list_(pa.binary(32))),
    ]
)
"""Of a part of a store. chance: 64 bits of the hash of the id. tokens: with all those of the images. conversation: an
image is one token. shown: sha256 of the images, in reading order."""

_WORD = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
"""A Chinese character, or what stands between blanks."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One conversation as the store has it."""

    encoded: Encoded
    """`encoded.images` count into `images`."""

    images: tuple[str, ...]
    """sha256 names of its images, in reading order."""


class TokenStore:
    """The training and validation samples of a corpus as tokens, in row order; the files are mapped, not read."""

    def __init__(self, corpus: Corpus, folder: Path, image_token: int, tokens_per_image: int) -> None:
        """Open the store in `folder`; `image_token` stands for an image of `tokens_per_image` tokens."""
        self.corpus = corpus
        self._image_token = image_token
        self._tokens_per_image = tokens_per_image
        parts = json.loads((folder / "store.json").read_text(encoding="utf-8"))["parts"]
        tables = [pa.ipc.open_file(pa.memory_map(str(folder / part["name"]))).read_all() for part in parts]
        self.table: pa.Table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def __len__(self) -> int:
        return self.table.num_rows

    def numbers(self, column: str) -> NDArray[Any]:
        """Return a column of numbers [N]."""
        return self.table[column].to_numpy()

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the ids of the samples in `rows`."""
        return self.table["id"].take(pa.array(rows)).to_pylist()

    def read(self, row: int) -> Stored:
        """Return one conversation, images with all their tokens."""
        stored_T = self._cell("conversation", row)
        ids_T = (stored_T & ~_LEARNT).astype(np.int64)
        labels_T = np.where(stored_T & _LEARNT, ids_T, IGNORED)
        repeats_T = np.where(ids_T == self._image_token, self._tokens_per_image, 1)
        images = tuple(bytes(name).hex() for name in self._cell("shown", row))
        encoded = Encoded(
            np.repeat(ids_T, repeats_T).tolist(), np.repeat(labels_T, repeats_T).tolist(), tuple(range(len(images)))
        )
        return Stored(encoded, images)

    def _cell(self, column: str, row: int) -> NDArray[Any]:
        starts, lists = self._lists[column]
        chunk = int(np.searchsorted(starts, row, side="right")) - 1
        offsets, values = lists[chunk]
        place = row - int(starts[chunk])
        return values[offsets[place] : offsets[place + 1]]

    @cached_property
    def _lists(self) -> dict[str, tuple[NDArray[np.int64], list[tuple[NDArray[Any], NDArray[Any]]]]]:
        """Column of lists -> first row of each chunk, and the chunk's offsets and values, all of them views."""
        views = {}
        for column in ("conversation", "shown"):
            chunks = self.table[column].chunks
            starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])[:-1]
            views[column] = (starts, [(chunk.offsets.to_numpy(), _flat(chunk.values)) for chunk in chunks])
        return views


def _flat(values: pa.Array) -> NDArray[Any]:
    if not pa.types.is_fixed_size_binary(values.type):
        return values.to_numpy()
    start = values.offset * 32
    return np.frombuffer(values.buffers()[1] or b"", np.dtype("V32"))[start // 32 : start // 32 + len(values)]


def open_tokens(corpus: Corpus, processor: LlavaProcessor, *, workers: int | None = None) -> TokenStore:
    """Return the token store of `corpus` for the tokenizer and image size of `processor`, made where there is none.

    `workers` processes make it; by default one, for a large corpus one per core. Raises UserError, naming the sample,
    for one that has no answer or shows an image that is missing.
    """
    folder = cache_home() / "tokens" / _key(corpus, processor)
    if not _is_whole(folder):
        _make(corpus, processor, folder, workers)
    return TokenStore(corpus, folder, processor.image_token_id, image_token_count(processor))


def _key(corpus: Corpus, processor: LlavaProcessor) -> str:
    made_from = {
        "form": FORM,
        "data": corpus.manifest["fingerprint"],
        "tokenizer": sha256_of_text(processor.tokenizer.backend_tokenizer.to_str()),
        "template": processor.chat_template,
        "image": [image_side(processor), processor.patch_size],
    }
    return sha256_of_text(canonical_json(made_from))[:32]


def _is_whole(folder: Path) -> bool:
    try:
        parts = json.loads((folder / "store.json").read_text(encoding="utf-8"))["parts"]
        return all((folder / part["name"]).stat().st_size == part["bytes"] for part in parts)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make(corpus: Corpus, processor: LlavaProcessor, folder: Path, workers: int | None) -> None:
    files = table_files(corpus.path, "samples")
    rows = sum(corpus.manifest["counts"]["samples_by_split"].values())
    if workers is None:
        workers = (os.cpu_count() or 1) if rows > ROWS_FOR_PROCESSES else 1
    label = f"{corpus.manifest['name']}: counting tokens, files"
    with atomic_folder(folder) as temporary:
        targets = [temporary / f"{number:05d}.arrow" for number in range(len(files))]
        make = partial(_make_part, corpus.path, processor)
        if min(workers, len(files)) > 1:
            # Forked processes would share the locks of this one's threads.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(workers, len(files)), mp_context=context) as pool:
                for _ in progress(pool.map(make, files, targets), label, len(files)):
                    pass
        else:
            for file, target in progress(zip(files, targets, strict=True), label, len(files)):
                make(file, target)
        parts = [{"name": target.name, "bytes": target.stat().st_size} for target in targets]
        write_json(temporary / "store.json", {"corpus": corpus.manifest["name"], "parts": parts})


def _make_part(corpus: Path, processor: LlavaProcessor, file: Path, target: Path) -> None:
    """Make the part of a store that holds the samples of one file of the corpus."""
    with open_table(file, "samples") as parquet, pa.ipc.new_file(target, SCHEMA) as part:
        for batch in parquet.iter_batches(ROWS_AT_A_TIME, columns=list(_COLUMNS)):
            rows = [row for row in batch.to_pylist() if row["split"] != "test"]
            part.write_batch(pa.RecordBatch.from_pylist(list(_stored_rows(corpus, processor, rows)), SCHEMA))


def _stored_rows(corpus: Path, processor: LlavaProcessor, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    conversations = [[turn_of(message) for message in row["messages"]] for row in rows]
    for name in {name for row in rows for name in row["images"]}:
        if not image_path(corpus, name).is_file():
            sample = next(row["id"] for row in rows if name in row["images"])
            raise UserError(
                f"{corpus}: image {name} of sample {sample} is missing; run `gmai data verify {corpus}` for the whole "
                "list"
            )
    for row, turns, encoded in zip(rows, conversations, encode_many(processor, conversations), strict=True):
        if all(label == IGNORED for label in encoded.labels):
            raise UserError(f"sample {row['id']}: has no answer to learn; check its corpus with `gmai data verify`")
        if any(not 0 <= index < len(row["images"]) for index in encoded.images):
            raise UserError(
                f"sample {row['id']}: shows image {max(encoded.images)} of {len(row['images'])}; check its corpus with "
                "`gmai data verify`"
            )
        yield {name: row[name] for name in ("id", "split", "subset", "kind", "language", "source", "license")} | {
            "chance": int.from_bytes(sha256(row["id"].encode()).digest()[:8]),
            "form": json.loads(row["facts"]).get("form"),
            "words": _words(turns),
            "tokens": len(encoded.input_ids),
            "supervised": sum(label != IGNORED for label in encoded.labels),
            "images": len(encoded.images),
            "conversation": _compact(processor, encoded),
            "shown": [bytes.fromhex(row["images"][index]) for index in encoded.images],
        }


def _words(turns: Sequence[Turn]) -> int:
    """Count the words of the answers, of Chinese the characters."""
    return sum(len(_WORD.findall(turn.text)) for turn in turns if turn.role == "assistant")


def _compact(processor: LlavaProcessor, encoded: Encoded) -> NDArray[np.uint32]:
    """Return the tokens, one for each image, with the bit of those that a loss is taken on."""
    ids_T = np.array(encoded.input_ids, np.uint32)
    is_learnt_T = np.array(encoded.labels) != IGNORED
    is_image_T = ids_T == processor.image_token_id
    keep_T = ~is_image_T | (np.cumsum(is_image_T) % image_token_count(processor) == 1 % image_token_count(processor))
    return (ids_T | np.where(is_learnt_T, _LEARNT, np.uint32(0)))[keep_T]
