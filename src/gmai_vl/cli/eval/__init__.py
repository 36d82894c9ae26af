"""`gmai eval`: ask a model the questions of a benchmark, score its answers, compare runs; one file per command."""

import typer

from gmai_vl.cli.eval.build import build
from gmai_vl.cli.eval.compare import compare
from gmai_vl.cli.eval.leaderboard import leaderboard
from gmai_vl.cli.eval.list_ import list_
from gmai_vl.cli.eval.parse import parse
from gmai_vl.cli.eval.run import run
from gmai_vl.cli.eval.score import score

app = typer.Typer(help="Ask a model the questions of a benchmark and score its answers.", no_args_is_help=True)
for command in (run, score, parse, compare, build, leaderboard):
    app.command()(command)
app.command("list")(list_)
