"""`gmai reason`: questions with one right answer, and a model that reasons about them; one file per command."""

import typer

from gmai_vl.cli.reason.compare import compare
from gmai_vl.cli.reason.difficulty import difficulty
from gmai_vl.cli.reason.grpo import grpo
from gmai_vl.cli.reason.questions import questions
from gmai_vl.cli.reason.rounds import rounds
from gmai_vl.cli.reason.sft import sft
from gmai_vl.cli.reason.synthesize import synthesize

app = typer.Typer(help="Make questions to reason about, and teach a model on them.", no_args_is_help=True)
for command in (questions, synthesize, sft, difficulty, grpo, rounds, compare):
    app.command()(command)
