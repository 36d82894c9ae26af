"""The two kinds of trouble that are not our own mistakes. What only we can cause is an assert."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake of the user's. The message is one line: the place (file, key), what is wrong, what to do.

    The command line prints it without a traceback and exits with 2.
    """


class Interrupted(UserError):  # noqa: N818  it says what happened to the work
    """The work could not go on: a server, a budget or a worker gave out. What has been made so far stays as it is."""


class BadItem(Exception):  # noqa: N818  it says what the item is, not that the program failed
    """One item of a source cannot be used. It goes to the quarantine with this message as its reason."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return "did you mean `a` or `b`?" for the names closest to `name`, or the list of known ones if none is close."""
    known = list(known)
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)]
    if close:
        return "did you mean " + " or ".join(f"`{visible(match)}`" for match in close) + "?"
    return "known: " + ", ".join(f"`{visible(candidate)}`" for candidate in known)


def visible(text: str) -> str:
    """Make control characters visible: the text may come from a file that somebody else wrote."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
