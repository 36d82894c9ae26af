"""`gmai eval list`."""

import typer

from gmai_vl.cli.shared import JsonFile, write_result


def list_(json: JsonFile = None) -> None:
    """List benchmarks, protocols and prompts.

    Example: gmai eval list
    """
    from gmai_vl.evaluation.benchmarks.listed import BENCHMARKS
    from gmai_vl.evaluation.prompts import PROMPTS
    from gmai_vl.evaluation.protocols import PROTOCOLS

    benchmarks = {
        name: listed.about + (f"; usual prompt {listed.prompt}" if listed.prompt else "")
        for name, listed in BENCHMARKS.items()
    }
    protocols = {name: f"{protocol.about} ({protocol.source})" for name, protocol in PROTOCOLS.items()}
    prompts = {name: (wording.__doc__ or "").strip() for name, wording in PROMPTS.items()}
    for title, listed in (("benchmarks", benchmarks), ("protocols", protocols), ("prompts", prompts)):
        typer.echo(f"{title}:")
        for name, about in listed.items():
            typer.echo(f"  {name}: {about}")
    write_result(json, {"benchmarks": benchmarks, "protocols": protocols, "prompts": prompts})
