"""`gmai reason`: questions with one right answer, and a model that reasons about them; one file per command."""

import typer

from gmai_vl.cli.reason.questions import questions

app = typer.Typer(help="Make questions to reason about, and teach a model on them.", no_args_is_help=True)
for command in (questions,):
    app.command()(command)
