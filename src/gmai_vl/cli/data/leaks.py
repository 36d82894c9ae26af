"""`gmai data leaks`."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.shared import CorpusFolder, JsonFile, print_table, write_result

MOST_PRINTED = 20


def leaks(
    corpus: CorpusFolder,
    against: Annotated[
        list[Path], typer.Option(metavar="PATH", help="A corpus, or a folder of pictures; may be given several times.")
    ],
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was found as a page, side by side.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Compare what a corpus trains and validates on with corpora or folders of pictures; exit code 1 if they share any.

    Compared are decoded pixels, looks (JPEG, size, flips, crops, windows), patients where ids mean the same, and the
    words of questions that come without a picture. A corpus after --against counts with all sides of its split.

    Example: gmai data leaks runs/mixed --against vqa-rad/images --against runs/test --page leaks.html
    """
    from gmai_vl.corpus.leaks import find_leaks
    from gmai_vl.corpus.leaks_page import write_page
    from gmai_vl.corpus.shown import shown_by
    from gmai_vl.foundation import visible

    ours = shown_by(corpus, splits=("train", "val"))
    theirs = [shown_by(path) for path in against]
    found = find_leaks(ours.shown, [shown for exhibit in theirs for shown in exhibit.shown])
    for leak in found[:MOST_PRINTED]:
        likeness = f" ({leak.likeness:.3f})" if leak.likeness else ""
        typer.echo(visible(f"{leak.evidence}{likeness}: {leak.ours.id} and {leak.theirs.place}: {leak.theirs.id}"))
    if len(found) > MOST_PRINTED:
        typer.echo(f"... and {len(found) - MOST_PRINTED} more; --json and --page have them all")
    unreadable = [(path, exhibit.unreadable) for path, exhibit in zip(against, theirs, strict=True)]
    for path, reasons in unreadable:
        if reasons:
            name, reason = next(iter(reasons.items()))
            typer.echo(visible(f"{path}: {len(reasons)} files could not be compared, the first: {name}: {reason}"))
    compared = sum(len(exhibit.shown) for exhibit in theirs)
    if found:
        print_table("leaks", {"pairs": dict(Counter(leak.evidence for leak in found))})
    typer.echo(f"{corpus}: {len(ours.shown)} held against {compared}: {len(found) or 'no'} leaks")
    if page is not None:
        write_page(corpus, found, page)
    write_result(
        json,
        {
            "corpus": str(corpus),
            "against": list(map(str, against)),
            "compared": [len(ours.shown), compared],
            "leaks": [
                {
                    "evidence": leak.evidence,
                    "likeness": leak.likeness,
                    "ours": leak.ours.id,
                    "theirs": leak.theirs.id,
                    "place": leak.theirs.place,
                }
                for leak in found
            ],
            "unreadable": {str(path): reasons for path, reasons in unreadable},
        },
    )
    if found:
        raise typer.Exit(1)
