"""The command `gmai`: one file per verb; a user's mistake is one line on standard error and exit code 2."""

import sys

import typer

from gmai_vl.cli import backbones, chat, data, eval, quickstart, train
from gmai_vl.foundation import UserError

app = typer.Typer(
    name="gmai",
    help="Medical vision-language models: build data, train, evaluate, chat. Research use only, not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("quickstart")(quickstart.quickstart)
app.add_typer(backbones.app, name="backbones")
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.add_typer(eval.app, name="eval")
app.command("chat")(chat.chat)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a check found faults, 2 bad usage or bad input."""
    try:
        app()
    except UserError as error:
        print(f"gmai: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        print("gmai: stopped; what was finished is kept", file=sys.stderr)  # noqa: T201
        sys.exit(130)
