"""`gmai data`: build a corpus, check it, look into it; one file per command."""

import typer

from gmai_vl.cli.data.browse import browse
from gmai_vl.cli.data.build import build
from gmai_vl.cli.data.catalogue import catalogue
from gmai_vl.cli.data.compare_writers import compare_writers
from gmai_vl.cli.data.export import export
from gmai_vl.cli.data.import_ import import_
from gmai_vl.cli.data.leaks import leaks
from gmai_vl.cli.data.review import review
from gmai_vl.cli.data.stats import stats
from gmai_vl.cli.data.trace import trace
from gmai_vl.cli.data.verify import verify
from gmai_vl.cli.data.withdraw import withdraw

app = typer.Typer(help="Build instruction data from annotated images, check it, look into it.", no_args_is_help=True)
for command in (build, verify, stats, trace, browse, leaks, review, catalogue, withdraw, export):
    app.command()(command)
app.command("compare-writers")(compare_writers)
app.command("import")(import_)
