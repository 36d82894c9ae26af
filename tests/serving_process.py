"""`gmai serve` as a process of its own, with what can be seen of it from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Serving:
    """A server under way."""

    url: str
    process: "subprocess.Popen[str]"
    folder: Path
    """Where it runs; its files for uploads lie in `tmp` below."""

    def memory_mib(self) -> int:
        """Return the most memory that it has had."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))

    def files(self) -> list[str]:
        """Return all files below its folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


@contextmanager
def serving(model: Path, folder: Path, *words: str, **environment: str) -> Iterator[Serving]:
    """Start a server of a checkpoint in a folder and yield it once it can be asked."""
    (folder / "tmp").mkdir(parents=True)
    command = [sys.executable, "-m", "gmai_vl.cli", "serve", "--model", f"tiny={model}", "--port", "0", *words]
    quiet = {"TMPDIR": str(folder / "tmp"), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | quiet | environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if "http://" in line:
                yield Serving(f"http://{line.split('http://')[1].split()[0]}", process, folder)
                break
        else:
            raise AssertionError("".join(said))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
