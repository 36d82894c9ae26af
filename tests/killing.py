"""Run a call in a process of its own that dies in the middle of one of its file operations."""

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = """
    import os, signal, sys
    from pathlib import Path

    watched, moment = sys.argv[1], int(sys.argv[2])
    seen = 0

    def watch(event, arguments):
        global seen
        changes = event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if changes and str(arguments[0]).startswith(watched):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    {imports}
    sys.addaudithook(watch)
    call(*(Path(argument) if "/" in argument else argument for argument in sys.argv[3:]))
    print(seen)
"""


def run_killed_at(
    imports: str, arguments: Sequence[object], watched: Path, moment: int
) -> subprocess.CompletedProcess[str]:
    """Do `imports`, which name a function `call`, and call it; die at file operation number `moment` below `watched`.

    Arguments with a slash are paths. With moment 0 it runs to its end and prints the number of operations.
    """
    script = textwrap.dedent(_SCRIPT).format(imports=imports)
    command = [sys.executable, "-c", script, str(watched), str(moment), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
