"""Which texts a language model is asked for about a case, and how a sample is put together from what it wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gmai_vl.foundation import stable_rng
from gmai_vl.records import Case, ImageRef, Kind, Provenance, Region, Sample, Subset, Turn
from gmai_vl.vocabulary import Language
from gmai_vl.writing.captions import image_caption
from gmai_vl.writing.facts import CaseFacts
from gmai_vl.writing.llm.prompts import Route
from gmai_vl.writing.markup import boxes_markup
from gmai_vl.writing.phrases import any_prompt, wording
from gmai_vl.writing.questions import tellable_regions
from gmai_vl.writing.samples import sample_about

MOST_REGIONS = 2
"""Regions of a case that are written about, in each subset."""

MOST_ROUNDS = 6
"""Of a conversation."""

_ROUTES: dict[Route, tuple[Subset, int]] = {
    "caption": ("caption", 320),
    "region-caption": ("caption", 256),
    "percept": ("percept", 192),
    "region-percept": ("percept", 192),
    "instruct": ("instruct", 320),
    "text-single": ("text-single", 256),
    "text-multi": ("text-multi", 640),
}
"""Route -> the part of the corpus that it writes for, and the most tokens of an answer."""

_TEXT: dict[str, Any] = {"type": "string"}
"""No bounds: not all servers can hold an answer to them, and `rounds_of` looks at what comes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One text that is to be written about a case."""

    number: int
    """Running number in the case, the last part of the sample's id."""

    route: Route

    finding: int | None = None
    """Index of the finding that a region's text speaks of."""

    @property
    def subset(self) -> Subset:
        """Part of the corpus that the text belongs to."""
        return _ROUTES[self.route][0]

    @property
    def is_caption(self) -> bool:
        """Whether one text is wanted, rather than questions with answers."""
        return self.route in ("caption", "region-caption")

    @property
    def has_image(self) -> bool:
        """Whether the text is about a picture that is shown."""
        return not self.route.startswith("text-")

    @property
    def max_tokens(self) -> int:
        """Longest answer of the model."""
        return _ROUTES[self.route][1]


Rounds = tuple[tuple[str | None, str], ...]
"""Questions with their answers; the question is None for captions."""


def jobs_of(facts: CaseFacts, subsets: Sequence[str], *names: object) -> list[Job]:
    """Return what is to be written about a case for the subsets wanted. Depends on the facts and `names` only."""
    tellable = tellable_regions(facts)
    regions = [index for index, finding in enumerate(facts.findings) if any(finding is one for one in tellable)]
    stable_rng(*names, "regions").shuffle(regions)
    chosen = regions[:MOST_REGIONS]
    wanted: list[tuple[Route, int | None]] = [("caption", None), *(("region-caption", index) for index in chosen)]
    wanted += [("percept", None), *(("region-percept", index) for index in chosen)]
    wanted += [("instruct", None), ("text-single", None), ("text-multi", None)]
    return [
        Job(number=number, route=route, finding=finding)
        for number, (route, finding) in enumerate(wanted)
        if _ROUTES[route][0] in subsets
    ]


def schema_of(job: Job) -> dict[str, Any]:
    """Return the JSON schema of what the model answers."""
    if job.is_caption:
        return _object({"caption": _TEXT})
    round = _object({"question": _TEXT, "answer": _TEXT})
    if job.route == "text-multi":
        return _object({"turns": {"type": "array", "items": round, "minItems": 2, "maxItems": MOST_ROUNDS}})
    return round


def rounds_of(job: Job, answer: dict[str, Any]) -> Rounds | str:
    """Return the questions and answers in a model's JSON, or what is wrong with its form."""
    keys = ("caption",) if job.is_caption else ("question", "answer")
    rounds = answer.get("turns") if job.route == "text-multi" else [answer]
    if not isinstance(rounds, list) or (job.route == "text-multi" and not 2 <= len(rounds) <= MOST_ROUNDS):
        return f"`turns` is no list of 2 to {MOST_ROUNDS} questions with answers"
    found: list[tuple[str | None, str]] = []
    for one in rounds:
        texts = [one.get(key) if isinstance(one, dict) else None for key in keys]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            return f"a text is missing; wanted: {', '.join(keys)}"
        *question, said = (" ".join(str(text).split()) for text in texts)
        if not all(text.isprintable() for text in (*question, said)):
            return "a text holds invisible or broken characters"
        found.append((question[0] if question else None, said))
    return tuple(found)


def statement_of(facts: CaseFacts, language: Language, *names: object) -> str:
    """Return the caption that questions without an image stand under, by the template writer."""
    return image_caption(facts, language, stable_rng(*names, "statement"))


def sample_of_job(
    job: Job,
    rounds: Rounds,
    language: Language,
    case: Case,
    facts: CaseFacts,
    *,
    number: int,
    prompt: str,
    writer: str,
    names: tuple[object, ...],
    with_statement: bool = True,
) -> Sample:
    """Return the sample of what was written, not yet checked.

    Captions stand under a question of the template writer's, regions are marked in the question, and a conversation
    without image begins with a statement of the facts (unless the first question holds it, as in translations):
    `provenance.facts` keeps what was not written by the model.
    """
    finding = None if job.finding is None else facts.findings[job.finding]
    marked = "" if finding is None or not finding.box else boxes_markup([finding.box], facts.width, facts.height)
    before = ""
    if job.is_caption:
        rng = stable_rng(*names, "question", language)
        before = any_prompt(job.route, "plain", language, rng)[1].format(box=f"<box>{marked}</box>")
    elif finding is not None:
        before = wording(language)["marked"].format(box=f"<box>{marked}</box>")
    elif not job.has_image and with_statement:
        before = statement_of(facts, language, *names)
    turns: list[Turn] = []
    for question, said in rounds:
        asked = wording(language)["gap"].join(filter(None, (before if not turns else "", question)))
        images = (ImageRef(0),) if job.has_image and not turns else ()
        turns += [Turn("user", (*images, asked)), Turn("assistant", (said,))]
    kind: Kind = "caption" if job.is_caption else "dialogue" if len(rounds) > 1 else "open"
    return sample_about(
        case,
        number,
        subset=job.subset,
        kind=kind,
        granularity="box" if finding else "image" if job.has_image else "text",
        language=language,
        turns=tuple(turns),
        options=None,
        answer=rounds[0][1] if kind == "open" else None,
        regions=(Region(label=finding.label.in_language(language), box=finding.box),)
        if finding and finding.box
        else (),
        shown=job.has_image,
        provenance=Provenance(
            writer=writer,
            prompt_id=prompt,
            facts={
                "form": "written",
                "route": job.route,
                "finding": job.finding,
                "before": before,
                "case": facts.as_json(),
            },
        ),
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
