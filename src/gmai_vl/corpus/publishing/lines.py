"""Exports as JSON lines beside PNG files: LLaVA's form, as the official release has it, and messages."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gmai_vl.corpus.columns import Counts
from gmai_vl.corpus.publishing.croissant import SAMPLE_FIELDS, Field, Node, file_set, record_set
from gmai_vl.corpus.publishing.entries import Entry, image_paths, llava_entry, message_entry
from gmai_vl.corpus.publishing.images import png_of, samples_of
from gmai_vl.corpus.reader import Corpus
from gmai_vl.foundation import atomic_files, write_json
from gmai_vl.records import Sample

LIST = "dataset_list.json"
"""The list that the official trainer reads; it names the training side only."""

_IMAGES_AT_A_TIME = 200
"""Pictures that are flushed to disk together."""

LLAVA_FILES = f"""\
- `annotations/SIDE/SUBSET.jsonl`: one JSON object a line, as the GMAI-VL-5.5M release has it: `id`, `image` (a path
  below this folder; absent for text alone), `conversations` (`from` human or gpt, `value`; `<image>` stands where the
  image is shown), `width`, `height`. The key `gmai` holds what that form has no place for.
- `images/`: PNG files whose paths mirror the ids.
- `{LIST}`: data sets of the training side, for trainers that read such a list; paths count from this folder.

Boxes are written `<ref>label</ref><box>[[x1, y1, x2, y2]]</box>`, divided by width and height. To read it:

```
gmai data import THIS_FOLDER --out CORPUS
```"""

MESSAGES_FILES = """\
- `annotations/SIDE.jsonl`: one JSON object a line: `id`, `messages` (role, and a list of parts: a text, or an image by
  its path below this folder), `images` (the paths), and a key each for subset, kind, language, options, answer, source,
  licence and more.
- `images/`: PNG files whose paths mirror the ids.

To read it:

```
gmai data import THIS_FOLDER --out CORPUS
```"""


def write_llava(corpus: Corpus, out: Path) -> int:
    """Write `annotations/SIDE/SUBSET.jsonl`, the images, and the list of training sets; return the number of images."""

    def place(sample: Sample) -> str:
        return f"annotations/{sample.split}/{sample.subset}.jsonl"

    lengths, images = _write(corpus, out, place, llava_entry)
    listed = {
        f"{corpus.manifest['name']}-{Path(file).stem}": {
            "image_dir": ".",
            "annotations": file,
            "sample_ratio": 1.0,
            "length": length,
            "data_augment": False,
        }
        for file, length in sorted(lengths.items())
        if file.startswith("annotations/train/")
    }
    write_json(out / LIST, listed)
    return images


def write_messages(corpus: Corpus, out: Path) -> int:
    """Write `annotations/SIDE.jsonl` and the images; return the number of images."""
    _, images = _write(corpus, out, lambda sample: f"annotations/{sample.split}.jsonl", message_entry)
    return images


def _write(
    corpus: Corpus, out: Path, place: Callable[[Sample], str], entry: Callable[[Sample], Entry]
) -> tuple[dict[str, int], int]:
    """Write every sample on the line of its file; return file -> lines, and the number of images."""
    lengths: dict[str, int] = {}
    written: set[str] = set()
    waiting: dict[str, str] = {}  # path -> the image's name in the corpus
    with _files(out) as file_for:
        for sample in samples_of(corpus):
            waiting |= {path: name for path, name in zip(image_paths(sample), sample.images, strict=True)
                        if path not in written}  # fmt: skip
            if len(waiting) >= _IMAGES_AT_A_TIME:
                _copy(corpus, out, waiting)
                written |= waiting.keys()
                waiting = {}
            file = place(sample)
            file_for(file).write(json.dumps(entry(sample), ensure_ascii=False) + "\n")
            lengths[file] = lengths.get(file, 0) + 1
        _copy(corpus, out, waiting)
    return lengths, len(written | waiting.keys())


@contextmanager
def _files(out: Path) -> Iterator[Callable[[str], IO[str]]]:
    """Give an open text file for any path below `out`; all of them appear at the end, whole."""
    opened: dict[str, IO[str]] = {}
    with atomic_files() as temporary_for:

        def file_for(path: str) -> IO[str]:
            if path not in opened:
                opened[path] = temporary_for(out / path).open("w", encoding="utf-8", newline="\n")
            return opened[path]

        try:
            yield file_for
        finally:
            for file in opened.values():
                file.close()


def _copy(corpus: Corpus, out: Path, names: Mapping[str, str]) -> None:
    """Write the images that an interrupted export has not written yet."""
    with atomic_files() as temporary_for:
        for path, name in names.items():
            if not (out / path).exists():
                temporary_for(out / path).write_bytes(png_of(corpus, name))


def describe_llava(counts: Counts) -> tuple[list[Node], list[Node]]:
    """Return the distribution and the record sets of an export in LLaVA's form: one without images is apart.

    Readers of Croissant want every field in every file, and a text has no key `image`.
    """
    turns = Field(name="conversations", says="The turns.", repeated=True, parts=("from", "value"))
    subsets = sorted(counts.tables["subset"])
    texts = [f"annotations/*/{subset}.jsonl" for subset in subsets if subset.startswith("text-")]
    shown = [f"annotations/*/{subset}.jsonl" for subset in subsets if not subset.startswith("text-")]
    files, records = [], []
    if shown:
        fields = [SAMPLE_FIELDS[0], Field(name="image", says="Path of the image."), turns, *_SIZE]
        files += [_entries("sample-files", shown), _IMAGES]
        records.append(record_set("samples", "One line a sample about an image.", "sample-files", fields))
    if texts:
        files.append(_entries("text-files", texts))
        records.append(record_set("texts", "One line a sample.", "text-files", [SAMPLE_FIELDS[0], turns, *_SIZE]))
    return files, records


def describe_messages(counts: Counts) -> tuple[list[Node], list[Node]]:
    """Return the distribution and the record sets of an export as messages."""
    fields = [*SAMPLE_FIELDS, *_SIZE, Field(name="images", says="Paths of the images.", repeated=True)]
    files = [_entries("sample-files", ["annotations/*.jsonl"]), _IMAGES]
    return files, [record_set("samples", "One line a sample.", "sample-files", fields)]


_SIZE = [Field(name=name, says="Pixels of the first image.", type="sc:Integer") for name in ("width", "height")]
_IMAGES = file_set("image-files", "images/*.png", "image/png", "Images; their paths mirror the ids.")


def _entries(name: str, includes: list[str]) -> Node:
    return file_set(name, includes, "application/jsonlines", "The samples, one a line.")
