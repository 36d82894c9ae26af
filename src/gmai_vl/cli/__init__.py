"""The command `gmai`: one file per verb; a user's mistake is one line on standard error and exit code 2."""

import sys
from typing import Any

import typer

from gmai_vl.cli import backbones, chat, data, eval, export, plan, quickstart, reason, serve, train
from gmai_vl.foundation import UserError

app = typer.Typer(
    name="gmai",
    help="Medical vision-language models: build data, train, evaluate, serve. Research use only, not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("quickstart")(quickstart.quickstart)
app.add_typer(backbones.app, name="backbones")
app.add_typer(data.app, name="data")
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.add_typer(eval.app, name="eval")
app.add_typer(reason.app, name="reason")
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("export")(export.export)


_UsageError: type[Any] = typer.BadParameter.__bases__[0]
"""Of the click that typer uses: its own copy in later versions, the package in earlier ones."""

STOPPED = 130
"""Exit code after an interrupt: 128 and the number of the signal, as shells have it."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a check found faults, 2 bad usage or bad input, 130 interrupted."""
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False) or 0
    except UserError as error:
        _say(str(error))
        return 2
    except _UsageError as error:
        if message := error.format_message():  # none where the help was shown for want of arguments
            _say(f"{message[0].lower()}{message[1:].removesuffix('.')}; see `{error.ctx.command_path} --help`")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = STOPPED
    if code == STOPPED:
        _say("stopped; what was finished is kept")
    return code


def _say(line: str) -> None:
    print(f"gmai: {line}", file=sys.stderr)  # noqa: T201
