"""Tables as Markdown, CSV, LaTeX and plots: every text comes back, and none of them is markup."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gmai_vl.corpus.review.cells import as_written
from gmai_vl.evaluation.reports import Cell, Table, TableRow, to_csv, to_latex, to_markdown
from gmai_vl.evaluation.reports.plots import row_names, write_plots
from gmai_vl.evaluation.reports.render import one_line

NAMES = st.text(alphabet="ab Z1\\`*_{}[]()<>|~&$#%^-!'\",.:/@?=+\n\t肺é\u202e\x07", max_size=25)


def named(model: str, protocol: str, *, columns: int) -> Table:
    """Return a small table, of so many columns, with rows of that name."""
    names = tuple(f"column {number}" for number in range(columns))
    cells = {names[0]: Cell(value=71.25, interval=(68.9, 73.6), n=1451), names[1]: Cell(value=40.0)}
    rows = (
        TableRow(model="printed", status="published", source="a paper", cells={names[0]: Cell(value=50.0)}),
        TableRow(model=model, status="measured", source=protocol, protocol=protocol, cells=cells),
        TableRow(model="last", status="measured", source="test", protocol="strict", cells={}),
    )
    return Table(name="small", title="A & B", columns=names, spokes=names, rows=rows, notes=("5 % of a_b",))


def turned(lines: list[list[str]], columns: int) -> list[list[str]]:
    return [list(line) for line in zip(*lines, strict=True)] if columns > 9 else lines


@given(NAMES, NAMES, st.sampled_from([2, 12]))
def test_markdown_gives_every_text_back_and_nothing_is_markup(model: str, protocol: str, columns: int) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown(named(model, protocol, columns=columns)))
    inside = tokens[[token.type for token in tokens].index("table_open") :]
    cells = [
        token for token in inside[: [token.type for token in inside].index("table_close")] if token.type == "inline"
    ]
    assert all(child.type == "text" for cell in cells for child in cell.children)
    texts = ["".join(child.content for child in cell.children) for cell in cells]
    across = 4 + columns if columns <= 9 else 4
    lines = turned([texts[start : start + across] for start in range(0, len(texts), across)], columns)
    assert len(lines) == 4
    assert lines[2][:6] == [one_line(model), "measured", *[one_line(protocol)] * 2, "71.2 [68.9, 73.6] n 1,451", "40.0"]
    assert lines[1][4:6] == ["50.0", ""]


@given(NAMES, NAMES)
@example("", "'=")
def test_csv_gives_every_number_back_and_runs_nothing(model: str, protocol: str) -> None:
    text = to_csv(named(model, protocol, columns=2), named("x", "y", columns=2))
    head, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    assert len(rows) == 2 * 3 * 2
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    first, second = (dict(zip(head, map(as_written, row), strict=True)) for row in rows[2:4])
    assert (first["model"], first["protocol"]) == (one_line(model), one_line(protocol))
    assert [first[name] for name in ("per cent", "low", "high", "questions")] == ["71.2", "68.9", "73.6", "1451"]
    assert [second[name] for name in ("per cent", "low", "high", "questions")] == ["40.0", "", "", ""]


UNTEX = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", r"\symbol{34}": '"', r"\textasciigrave{}": "`", r"{\tiny ": "",
    r"\{": "{", r"\}": "}", r"\$": "$", r"\&": "&", r"\#": "#", r"\%": "%", r"\_": "_",
}  # fmt: skip


TEX = re.compile("|".join(map(re.escape, UNTEX)) + r"|[{}]|[\\$&#%_~^]")


def untex(text: str) -> str:
    """Return what LaTeX would set. Raises KeyError at a special character that is not escaped."""
    return TEX.sub(lambda found: "" if found[0] in "{}" else UNTEX[found[0]], text)


@given(NAMES, NAMES, st.sampled_from([2, 12]))
def test_latex_gives_every_text_back_and_no_name_is_a_command(model: str, protocol: str, columns: int) -> None:
    text = to_latex(named(model, protocol, columns=columns))
    body = text[text.index("\\toprule\n") + 9 : text.index("\n\\bottomrule")].replace("\\midrule\n", "")
    lines = [line.removesuffix(r" \\") for line in body.split("\n")]
    assert not any(line.startswith(("[", "*")) for line in lines)  # an option of the line break before
    assert "--" not in body and "''" not in body and ",," not in body  # ligatures
    cells = turned([[untex(cell) for cell in line.split(" & ")] for line in lines], columns)
    number = cells[2][2]
    assert cells[2][:6] == [
        one_line(model),
        "measured",
        number,
        one_line(protocol),
        "71.2 [68.9, 73.6] n 1,451",
        "40.0",
    ]
    below = text[text.index("\\raggedright") :]
    assert f"Source {number}: {one_line(protocol)}." in untex(
        below.removeprefix("\\raggedright").split("\\end{table}")[0].replace("\\par", "")
    )
    assert text.count("{tabular}") == text.count("{table}") == 2


@given(st.lists(st.sampled_from(["a", "b", "a" * 60, "a" * 61, "a\n"]), min_size=1, max_size=6))
def test_names_in_plots_are_told_apart(models: list[str]) -> None:
    rows = [TableRow(model=model, status="measured", source="s", protocol="strict", cells={}) for model in models]
    names = row_names(rows)
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 60


def test_plots_are_the_same_files_for_the_same_numbers(tmp_path: Path) -> None:
    table = named("$\\frac{", "肺", columns=3)
    (bars, radar) = write_plots([table], tmp_path / "one")
    again = write_plots([table], tmp_path / "two")
    assert (bars.files.keys(), radar.files.keys()) == ({"light", "dark"}, {"light", "dark"})
    for one, other in zip((bars, radar), again, strict=True):
        assert all(path.read_bytes() == other.files[theme].read_bytes() for theme, path in one.files.items())
    assert bars.files["light"].read_bytes() != bars.files["dark"].read_bytes()
    (first, _) = write_plots([replace(table, rows=table.rows[1:])], tmp_path / "png", "png")
    assert first.files["dark"].read_bytes().startswith(b"\x89PNG")
