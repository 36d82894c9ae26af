"""`gmai data stats`."""

from collections.abc import Mapping

import typer

from gmai_vl.cli.shared import CorpusFolder, JsonFile, print_table, write_result


def stats(corpus: CorpusFolder, json: JsonFile = None) -> None:
    """Count the samples by source, modality, department, task and more; write plots and the card.

    Where the paper tells the share of GMAI-VL-5.5M, it stands beside ours. Of the texts of each language, subset and
    kind it tells how varied they are: different runs of 1 to 3 words, sentences and texts that stand twice.

    Example: gmai data stats runs/phantom
    """
    from gmai_vl.corpus.columns import paper_shares, unclear_in_paper
    from gmai_vl.corpus.stats import stats as count_samples
    from gmai_vl.corpus.stats import variety_of_texts

    tables = count_samples(corpus)
    for column, numbers in tables.items():
        total = sum(numbers.values())
        shares = {name: round(100 * number / total, 1) for name, number in numbers.items()}
        paper = paper_shares().get(column)
        columns: dict[str, Mapping[str, float]] = {"samples": numbers, "%": shares}
        if paper:
            columns["% in GMAI-VL-5.5M"] = paper
        print_table(column.replace("_", " "), columns)
        if unclear := sorted(unclear_in_paper(column) & numbers.keys()):
            typer.echo(f"unclear in the paper: {', '.join(unclear)}\n")
    variety = variety_of_texts(corpus)
    by_column = {
        column: {group: round(row[column], 3) for group, row in variety.items()}
        for column in next(iter(variety.values()))
    }
    print_table("variety of the texts", by_column)
    typer.echo(f"plots: {corpus / 'stats'}, card: {corpus / 'card.md'}")
    write_result(json, {**tables, "variety": variety})
