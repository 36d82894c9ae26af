"""`gmai data stats`."""

import typer

from gmai_vl.cli.data.shared import CorpusFolder, JsonFile, print_table, write_result


def stats(corpus: CorpusFolder, json: JsonFile = None) -> None:
    """Count the samples by source, modality, department, task and more; write plots and the card.

    Example: gmai data stats runs/phantom
    """
    from gmai_vl.corpus.stats import stats as count_samples

    tables = count_samples(corpus)
    for column, numbers in tables.items():
        print_table(column.replace("_", " "), {"samples": numbers})
    typer.echo(f"plots: {corpus / 'stats'}, card: {corpus / 'card.md'}")
    write_result(json, tables)
