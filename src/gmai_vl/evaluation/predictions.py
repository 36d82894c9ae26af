"""Files of responses: predictions to score, and cases to parse. JSON lines, every fault named with its line."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, NonNegativeFloat, model_validator

from gmai_vl.evaluation.answers.extraction import extract, is_correct, letters_of_answer
from gmai_vl.evaluation.protocols import PROTOCOLS
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import Settings, UserError, atomic_file, canonical_json, load_settings, nearest
from gmai_vl.records import Turn
from gmai_vl.vocabulary import Language


class _Record(Settings):
    """A line of a file that other programs write: unknown keys are theirs and stay unread."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Prediction(_Record):
    """`{"id", "response"}`."""

    id: str
    response: str

    losses: dict[str, NonNegativeFloat] | None = None
    """Letter -> mean loss of the option in nats a token, where the model was asked by likelihood."""

    cut_off: bool = False
    """Whether the response was still going on at its longest length."""


class ParseCase(_Record):
    """`{"id", "kind", "lang", "question", "options", "response", "answer"?}`."""

    id: str | int
    kind: Literal["mcq", "closed", "open"]
    lang: Language
    question: str
    options: dict[str, str] | None = None
    response: str
    answer: str | None = None

    @model_validator(mode="after")
    def _options_of_mcq(self) -> "ParseCase":
        if self.kind == "mcq" and not self.options:
            raise ValueError("a case of kind mcq needs options")
        for letter in self.options or {}:
            if not (len(letter) == 1 and "A" <= letter <= "Z"):
                raise ValueError(f"option `{letter}` must be one of the letters A-Z")
        return self


def read_predictions(path: Path) -> dict[str, str]:
    """Return id -> response. Raises UserError, with the line, for what is no prediction or an id that stands twice."""
    responses: dict[str, str] = {}
    for place, data in _lines(path):
        prediction = load_settings(Prediction, data, place)
        if prediction.id in responses:
            raise UserError(f"{place}: id `{prediction.id}` stands twice; keep one response per question")
        responses[prediction.id] = prediction.response
    return responses


@dataclass(frozen=True, kw_only=True, slots=True)
class Asides:
    """What predictions tell besides responses."""

    losses: dict[str, dict[str, float]]
    """Id -> letter -> mean loss of the option, in nats a token, of those that have them."""

    cut_off: frozenset[str]
    """Ids of responses that were still going on at their longest length."""


def read_asides(path: Path) -> Asides:
    """Return what predictions tell besides responses. Raises UserError as `read_predictions` does."""
    predictions = [load_settings(Prediction, data, place) for place, data in _lines(path)]
    return Asides(
        losses={prediction.id: prediction.losses for prediction in predictions if prediction.losses},
        cut_off=frozenset(prediction.id for prediction in predictions if prediction.cut_off),
    )


def parse_file(source: Path, target: Path, protocol: str = "default") -> dict[str, int]:
    """Extract the answer of every case in `source` into `target`; return the numbers of `cases` and of `unparsed`.

    Lines of `target`: `{"id", "choice", "text", "unparsed", "correct"?}`, `correct` only where the case gives an
    answer. Other protocols than `default` judge by the answer, so each case needs one. Raises UserError, with the line,
    for a case that is malformed or whose reference answer is none of its options.
    """
    counts = {"cases": 0, "unparsed": 0}
    cases = ((place, load_settings(ParseCase, data, place)) for place, data in _lines(source))
    read = map(_by_default, cases) if protocol == "default" else _by_protocol(protocol, list(cases))
    with atomic_file(target) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for line in read:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            counts["cases"] += 1
            counts["unparsed"] += line["unparsed"]
    return counts


def _by_default(told: tuple[str, ParseCase]) -> dict[str, Any]:
    place, case = told
    extracted = extract(case.kind, case.question, case.options, case.response)
    line: dict[str, Any] = {
        "id": case.id,
        "choice": extracted.choice,
        "text": extracted.text,
        "unparsed": extracted.unparsed,
    }
    if case.answer is not None:
        try:
            line["correct"] = is_correct(case.kind, case.question, case.options, case.answer, extracted)
        except ValueError as error:
            raise UserError(f"{place}: {error}; correct the answer") from None
    return line


def _by_protocol(name: str, cases: Sequence[tuple[str, ParseCase]]) -> list[dict[str, Any]]:
    """Judge all cases in their order, which draws may depend on."""
    if name not in PROTOCOLS:
        raise UserError(f"--protocol {name}: no protocol of that name; {nearest(name, PROTOCOLS)}")
    questions = [_question(place, case, number) for number, (place, case) in enumerate(cases)]
    responses = {question.id: case.response for question, (_, case) in zip(questions, cases, strict=True)}
    try:
        verdicts = PROTOCOLS[name].judge(questions, responses)
    except ValueError as error:
        raise UserError(f"--protocol {name}: {error}") from None
    return [
        {
            "id": case.id,
            "choice": verdict.choice,
            "text": verdict.text,
            "unparsed": verdict.unparsed,
            "correct": verdict.correct,
        }
        for (_, case), verdict in zip(cases, verdicts, strict=True)
    ]


def _question(place: str, case: ParseCase, number: int) -> Question:
    if case.answer is None:
        raise UserError(f"{place}: has no `answer`, and only the protocol `default` reads without one; add it")
    answer = case.answer
    if case.kind == "mcq":
        try:
            answer = min(letters_of_answer(case.options or {}, answer))
        except ValueError as error:
            raise UserError(f"{place}: {error}; correct the answer") from None
    return Question(
        id=f"{number}: {case.id}",
        kind=case.kind,
        language=case.lang,
        turns=(Turn("user", (case.question,)),),
        stem=case.question,
        images=(),
        options=case.options,
        answer=answer,
        source="cases",
    )


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and object of every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{path}:{number}", _object(line, f"{path}:{number}")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a file of JSON lines") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
        canonical_json(data).encode()  # an escaped half of a surrogate pair or a NaN could not be written again
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON: {error}; write one object per line") from None
    if not isinstance(data, dict):
        raise UserError(f"{place}: a {type(data).__name__}; write one object per line")
    return data
