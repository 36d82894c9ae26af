"""Export as tar files that the library `webdataset` streams: a PNG file and a JSON file for each sample."""

import io
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gmai_vl.corpus.columns import Counts
from gmai_vl.corpus.publishing.croissant import SAMPLE_FIELDS, Node, file_set
from gmai_vl.corpus.publishing.entries import indexed_messages, told
from gmai_vl.corpus.publishing.images import png_of
from gmai_vl.corpus.publishing.shards import write_shards
from gmai_vl.corpus.reader import Corpus
from gmai_vl.foundation import atomic_file, canonical_json
from gmai_vl.records import Sample

FILES = """\
- `train-000000.tar`, `val-000000.tar`, `test-000000.tar` and so on. Of each sample a JSON file, and a PNG file
  `KEY.png` (`KEY.0.png`, `KEY.1.png` where there are several, none for text alone). `messages` in the JSON has a role
  and a list of parts, an image by its `index`.

To read it (`pip install 'gmai-vl[publish]'`):

```python
import webdataset

for sample in webdataset.WebDataset("THIS_FOLDER/train-000000.tar", shardshuffle=False).decode("pil"):
    sample["json"]["messages"], sample["png"]
```"""


def write(corpus: Corpus, out: Path) -> int:
    """Write the shards; return the number of images in them."""
    return write_shards(corpus, lambda split, number: out / f"{split}-{number:06d}.tar", partial(_write_shard, corpus))


def _write_shard(corpus: Corpus, samples: Sequence[Sample], path: Path) -> None:
    shard = path.stem
    with atomic_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, sample in enumerate(samples):
            key = f"{shard}-{number:05d}"
            size = {"width": sample.width, "height": sample.height}
            entry = {"id": sample.id, "messages": indexed_messages(sample), **size, **told(sample)}
            files = {f"{key}.json": canonical_json(entry).encode()}
            for index, name in enumerate(sample.images):
                ending = "png" if len(sample.images) == 1 else f"{index}.png"
                files[f"{key}.{ending}"] = png_of(corpus, name)
            for file in sorted(files):
                _add(tar, file, files[file])


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file that says nothing of when and by whom it was written: owner, group and time are 0."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def describe(counts: Counts) -> tuple[list[Node], list[Node]]:
    """Return the distribution of the tar files. Croissant has no word for their pairs of files, so no record set."""
    names = ", ".join(field.name for field in SAMPLE_FIELDS)
    says = f"Tar files of PNG and JSON files with the same key; the JSON holds messages, {names}."
    return [file_set("shards", "*.tar", "application/x-tar", says)], []
