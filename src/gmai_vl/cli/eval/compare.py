"""`gmai eval compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gmai_vl.cli.shared import JsonFile, print_table, write_result


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of a run.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Folder of another over the same questions.")],
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Also by group, such as modality or kind.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    json: JsonFile = None,
) -> None:
    """Compare two runs question by question: difference with its interval, paired tests, what could have been seen.

    Example: gmai eval compare runs/a/vqa-rad runs/b/vqa-rad --by modality
    """
    from gmai_vl.evaluation.comparison import compare as compare_answers
    from gmai_vl.evaluation.verdicts import paired

    pair = paired(run_a, run_b)
    groups = None if by is None else [verdict.groups.get(by) for verdict in pair.one]
    found = compare_answers(
        [verdict.correct for verdict in pair.one],
        [verdict.correct for verdict in pair.other],
        [verdict.patient for verdict in pair.one],
        groups,
        seed=seed,
    )
    told = found.as_json()
    print_table(
        "A against B", {"all": _lines(told)} | {name: _lines(part) for name, part in told.get("groups", {}).items()}
    )
    typer.echo("p, clustered: questions about one patient or image turn together; p, Holm: over all groups")
    write_result(json, told)


def _lines(told: dict[str, Any]) -> dict[str, str]:
    low, high = told["interval"]
    lines = {
        "questions": str(told["n"]),
        "right A %": f"{100 * told['share_a']:.1f}",
        "right B %": f"{100 * told['share_b']:.1f}",
        "A - B, points": f"{100 * told['difference']:+.1f}",
        "95 % interval": f"{100 * low:+.1f} to {100 * high:+.1f}",
        "only A, only B": f"{told['only_a']}, {told['only_b']}",
        "p, McNemar": f"{told['p_mcnemar']:.3g}",
        "p, clustered": f"{told['p_clustered']:.3g}",
    }
    if "p_holm" in told:
        lines["p, Holm"] = f"{told['p_holm']:.3g}"
    if told["detectable"] is not None:
        lines["detectable, points"] = f"{100 * told['detectable']:.1f}"
    return lines
