"""A sample as an entry of an export, and where its images lie there.

Patients are not named: the sides of the split keep them apart, and nobody who trains needs to know which image is
whose. Ids hold the file names of the source, as the official release's do.
"""

import re
from pathlib import PurePosixPath
from typing import Any

from gmai_vl.corpus.schema import Row
from gmai_vl.records import Sample
from gmai_vl.sources.published import SAID_BY, llava_turns, llava_value, message_of
from gmai_vl.sources.spec import EXPORT_KEY, EXPORTED

Entry = dict[str, Any]

MAX_PART = 60
"""Characters of a part of a path: with the hash behind it far below the 255 bytes of file systems."""
MAX_PARTS = 12


def image_paths(sample: Sample) -> list[str]:
    """Return where the images of a sample lie below the export: `images/2d/cls/x-ray/source/folder/file-hash.png`.

    The parts are those of the id, cut and cleared of what some file system or archive cannot hold. Sixteen digits of
    the pixels' hash keep the names unique, also where upper and lower case are the same.
    """
    fields = sample.id.split("#")
    file = PurePosixPath(fields[6] if len(fields) == 8 else fields[-1])
    folders = [*fields[:4], *file.parent.parts][:MAX_PARTS]
    stem = _plain(file.stem)
    return [
        PurePosixPath("images", *map(_plain, folders), f"{stem}-{sha256[:16]}.png").as_posix()
        for sha256 in sample.images
    ]


def _plain(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9_=@+.-]+", "_", part)[:MAX_PART].strip(".- ") or "_"


def told(sample: Sample) -> Entry:
    """Return what the forms have no place of their own for; the import takes it back."""
    image_sha256 = sample.images[0] if sample.images else None
    values = {name: getattr(sample, name) for name in EXPORTED if name not in ("options", "writer", "image_sha256")}
    given = sample.provenance.facts.get("published")  # of a corpus that was itself imported from an export
    values |= {"options": None if sample.options is None else list(sample.options.values())}
    values |= {"writer": sample.provenance.writer, "image_sha256": image_sha256}
    values |= given or {}
    return {name: values[name] for name in EXPORTED}


def llava_entry(sample: Sample) -> Entry:
    """Return a sample in the form of the official release, with the key `gmai` besides.

    Where LLaVA's form cannot say what stands where (several texts in one turn, images out of order), `gmai` holds the
    messages too.
    """
    conversations = [{"from": SAID_BY[turn.role], "value": llava_value(turn)} for turn in sample.turns]
    paths, more = image_paths(sample), told(sample)
    if tuple(llava_turns(conversations)) != sample.turns:
        places = [str(number) for number in range(len(paths))]
        more |= {"messages": [message_of(turn, places) for turn in sample.turns]}
    image = {"image": paths[0] if len(paths) == 1 else paths} if paths else {}
    size = {"width": sample.width, "height": sample.height}
    return {"id": sample.id, **image, "conversations": conversations, **size, EXPORT_KEY: more}


def message_entry(sample: Sample) -> Entry:
    """Return a sample as messages whose parts name their images, and a key for all else."""
    paths = image_paths(sample)
    messages = [message_of(turn, paths) for turn in sample.turns]
    size = {"width": sample.width, "height": sample.height}
    return {"id": sample.id, "messages": messages, "images": paths, **size, **told(sample)}


def indexed_messages(sample: Sample) -> list[Row]:
    """Return the turns with images by their number, every part with all keys, as a table's column needs it.

    The number is called `index`, not `image`: chat templates take a text part with a key `image` for an image.
    """
    return [
        {
            "role": turn.role,
            "content": [
                {"type": "text", "text": part, "index": None}
                if isinstance(part, str)
                else {"type": "image", "text": None, "index": part.index}
                for part in turn.content
            ],
        }
        for turn in sample.turns
    ]
