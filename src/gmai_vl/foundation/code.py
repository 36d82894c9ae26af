"""Which code this is: what a figure must name to be made again."""

import subprocess
from functools import cache
from pathlib import Path

from gmai_vl.foundation.files import canonical_json, sha256_of_file, sha256_of_text

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def code_identity() -> dict[str, str]:
    """Return `sha256`, over all modules of the package, and `commit` where it runs from a checkout.

    A commit with "and changes" behind it differs from what is committed.
    """
    modules = {str(path.relative_to(PACKAGE)): sha256_of_file(path) for path in sorted(PACKAGE.rglob("*.py"))}
    commit = _commit()
    return {"sha256": sha256_of_text(canonical_json(modules)), **({"commit": commit} if commit else {})}


def _commit() -> str | None:
    # Tracked, not only inside: an environment may lie in the checkout of another project.
    if _git("ls-files", "--error-unmatch", __file__) is None:
        return None
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", str(PACKAGE))
    return f"{commit} and changes" if commit and changes else commit


def _git(*words: str) -> str | None:
    """Return what git says, or None where there is no git, no checkout or no such file."""
    try:
        said = subprocess.run(["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=False)  # noqa: S603, S607
    except OSError:
        return None
    return said.stdout.strip() if said.returncode == 0 else None
