"""`gmai data trace`."""

from typing import Annotated

import typer

from gmai_vl.cli.shared import CorpusFolder, JsonFile, print_step, write_result


def trace(
    corpus: CorpusFolder,
    sample_id: Annotated[str, typer.Argument(metavar="SAMPLE_ID", help="Id of a sample; put it in quotes.")],
    json: JsonFile = None,
) -> None:
    """Show how a sample came to be: pixel file, annotation, facts, prompt, text, licence, hashes.

    Example: gmai data trace runs/phantom '3d#seg#mr#phantom#...#0'
    """
    from gmai_vl.corpus import trace as trace_sample

    way = trace_sample(corpus, sample_id)
    for step, content in way.items():
        print_step(step, content)
    write_result(json, way)
