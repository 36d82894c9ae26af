"""What licences allow, and what may be done with a corpus that is made of several. No legal advice.

A licence counts for the images and for what is written about them. The terms are those of the licences' own texts
(creativecommons.org/licenses, opensource.org, opendatacommons.org), cut down to five questions.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gmai_vl.foundation import UserError, nearest

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a licence says; None where it is not known."""

    commercial: bool | None
    """Whether the work may be used for money."""

    derivatives: bool | None
    """Whether works made from it may be passed on; a corpus is one, and so may a model be."""

    redistribution: bool | None
    """Whether it may be passed on at all."""

    attribution: bool = True
    share_alike: str | None = None
    """The licence that works made from it have to bear."""


_FREE = Terms(commercial=True, derivatives=True, redistribution=True, attribution=False)
_NAMED = Terms(commercial=True, derivatives=True, redistribution=True)
_RESEARCH = Terms(commercial=False, derivatives=None, redistribution=None)
_UNKNOWN = Terms(commercial=None, derivatives=None, redistribution=None)


def _creative_commons() -> dict[str, Terms]:
    terms: dict[str, Terms] = {}
    for version in ("2.0", "2.5", "3.0", "4.0"):
        for kind in ("BY", "BY-SA", "BY-ND", "BY-NC", "BY-NC-SA", "BY-NC-ND"):
            name = f"CC-{kind}-{version}"
            terms[name] = Terms(
                commercial="NC" not in kind,
                derivatives="ND" not in kind,
                redistribution=True,
                share_alike=name if "SA" in kind else None,
            )
    return terms


LICENCES: dict[str, Terms] = {
    **_creative_commons(),
    "CC0-1.0": _FREE,
    "PDDL-1.0": _FREE,
    "Unlicense": _FREE,
    "MIT": _NAMED,
    "Apache-2.0": _NAMED,
    "BSD-2-Clause": _NAMED,
    "BSD-3-Clause": _NAMED,
    "ODC-By-1.0": _NAMED,
    "ODbL-1.0": Terms(commercial=True, derivatives=True, redistribution=True, share_alike="ODbL-1.0"),
    "research-only": _RESEARCH,
    UNKNOWN: _UNKNOWN,
}
"""SPDX name, `research-only` (a data use agreement for research) or `unknown` -> terms."""


def known_licence(name: str | None) -> str:
    """Return the name in this table that a source's licence means; `unknown` where it is none of it."""
    if name is None:
        return UNKNOWN
    by_lower = {known.lower(): known for known in LICENCES}
    return by_lower.get(name.strip().lower().replace(" ", "-"), UNKNOWN)


def check_allowed(licence_of: Mapping[str, str | None], allowed: Collection[str]) -> None:
    """Raise UserError for the first source (name -> licence as its recipe writes it) whose licence is not `allowed`.

    Raises UserError too for an allowed name that is not in the table.
    """
    for name in allowed:
        if name not in LICENCES:
            raise UserError(f"--allow-licenses: `{name}` is not known; {nearest(name, LICENCES)}")
    for source, written in licence_of.items():
        if known_licence(written) not in allowed:
            told = f"licence `{written}`" if written else "no licence given"
            raise UserError(
                f"source `{source}`: {told}, which --allow-licenses does not have; "
                "take the source out, or give its `license` as an SPDX name if it has another one"
            )


def combined(licence_of: Mapping[str, str | None]) -> list[str]:
    """Return what may be done with a corpus of these sources, one sentence each; sources as name -> licence."""
    terms = {source: LICENCES[known_licence(written)] for source, written in licence_of.items()}
    shared = {each.share_alike for each in terms.values() if each.share_alike}
    told = [
        _verdict("Commercial use", {source: each.commercial for source, each in terms.items()}),
        _verdict("Passing it on", {source: each.redistribution for source, each in terms.items()}),
        _verdict("Passing on what is made from it", {source: each.derivatives for source, each in terms.items()}),
    ]
    if named := [source for source, each in terms.items() if each.attribution]:
        told.append(f"To be named: the makers of {_listed(named)}.")
    if len(shared) == 1:
        told.append(f"What is passed on has to bear {shared.pop()}.")
    elif shared:
        told.append(
            f"Conflict: {_listed(sorted(shared))} each want their own licence for the whole; "
            "it may be used within the house, not passed on as one."
        )
    return told


def _verdict(what: str, by_source: Mapping[str, bool | None]) -> str:
    forbidden = [source for source, allowed in by_source.items() if allowed is False]
    unknown = [source for source, allowed in by_source.items() if allowed is None]
    if forbidden:
        return f"{what}: no, {_listed(forbidden)} forbids it."
    if unknown:
        return f"{what}: not known for {_listed(unknown)}; taken as no until somebody has read its terms."
    return f"{what}: yes."


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:5]) + ([f"{len(names) - 5} more"] if len(names) > 5 else [])
    return ", ".join(shown)
