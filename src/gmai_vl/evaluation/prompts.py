"""Prompts: how the question of a benchmark is put to a model, as the references put it; its name stands by a score."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from gmai_vl.foundation import UserError, canonical_json, nearest, sha256_of_text
from gmai_vl.records import ImageRef, Turn
from gmai_vl.vocabulary import Language

Asked = Literal["mcq", "closed", "open"]

_LETTER = {
    "en": "Answer with the option's letter from the given choices directly.",
    "zh": "请直接回答选项字母。",
}
_PHRASE = {
    "en": "Answer the question using a single word or phrase.",
    "zh": "请用一个词或短语回答问题。",
}
_REASON = {
    "en": "Think first between <think> and </think>, then give the {what} between <answer> and </answer>.",
    "zh": "请先在 <think> 和 </think> 之间思考，再在 <answer> 和 </answer> 之间给出{what}。",
}
_WHAT = {"en": ("letter of the right option", "answer"), "zh": ("正确选项的字母", "答案")}

IMAGE_MARK = re.compile(r"<image (\d+)>")
"""Where the k-th image of a question stands in its text (MMMU)."""

Wording = Callable[[str, Mapping[str, str] | None, Asked, Language], str]
"""From the question's words, its options, kind and language to the text that is asked."""


def _direct(stem: str, options: Mapping[str, str] | None, kind: Asked, language: Language) -> str:
    """Letters with a dot, and the instruction of LLaVA's evaluation; lmms-eval and MedEvalKit ask so."""
    if options:
        return "\n".join([stem, *(f"{letter}. {text}" for letter, text in options.items()), _LETTER[language]])
    return f"{stem}\n{_PHRASE[language]}"


def _bracketed(stem: str, options: Mapping[str, str] | None, kind: Asked, language: Language) -> str:
    """Letters in brackets: MMMU's own evaluation."""
    if options:
        return "\n".join([stem, *(f"({letter}) {text}" for letter, text in options.items()), _LETTER[language]])
    return f"{stem}\n{_PHRASE[language]}"


def _select(stem: str, options: Mapping[str, str] | None, kind: Asked, language: Language) -> str:
    """VLMEvalKit's default, by which the paper's numbers were made (arXiv 2411.14522, section 4)."""
    if not options:
        return stem
    lines = [f"Question: {stem}", "Options:", *(f"{letter}. {text}" for letter, text in options.items())]
    return "\n".join([*lines, "Please select the correct answer from the options above."])


def _candidates(stem: str, options: Mapping[str, str] | None, kind: Asked, language: Language) -> str:
    """OmniMedVQA's: the texts of the options as a list, to be answered with a text."""
    if not options:
        return f"{stem}\n{_PHRASE[language]}"
    texts = list(options.values())
    listed = f"Here are {len(texts)} candidate answers: {texts}."
    return f"{stem}\n{listed} Return the text of the right one, and nothing else."


def _reason(stem: str, options: Mapping[str, str] | None, kind: Asked, language: Language) -> str:
    """For models that think before they answer (R1 style)."""
    lines = [stem, *(f"{letter}. {text}" for letter, text in (options or {}).items())]
    what = _WHAT[language][0 if options else 1]
    return "\n".join([*lines, _REASON[language].format(what=what)])


def _plain(stem: str, options: Mapping[str, str] | None, kind: Asked, language: Language) -> str:
    """The question and its options without an instruction."""
    return "\n".join([stem, *(f"{letter}. {text}" for letter, text in (options or {}).items())])


def _prefix(stem: str, options: Mapping[str, str] | None, kind: Asked, language: Language) -> str:
    """OmniMedVQA's prefix, after which the texts of the options are weighed; only with --by-likelihood."""
    return f"Question: {stem}"


BY_LIKELIHOOD = "omnimedvqa-prefix"
"""The prompt that shows no options: it only makes sense where their likelihoods are compared."""

PROMPTS: dict[str, Wording] = {
    "direct": _direct,
    "mmmu": _bracketed,
    "vlmevalkit": _select,
    "omnimedvqa": _candidates,
    "reason": _reason,
    "plain": _plain,
    BY_LIKELIHOOD: _prefix,
}
"""Name -> wording."""


LONG_ANSWERS: dict[str, int] = {"vlmevalkit": 512, "reason": 1024}
"""Prompt -> tokens of its longest answer, where it leaves room for more than what the kind of question needs."""


def prompts_sha256() -> str:
    """Return a hash over what all prompts make of a sample question, so that a changed wording shows."""
    options = {"A": "x", "B": "y"}
    kinds: tuple[tuple[Asked, dict[str, str] | None], ...] = (("mcq", options), ("closed", None), ("open", None))
    languages: tuple[Language, ...] = ("en", "zh")
    written = {
        name: [wording("?", given, kind, language) for kind, given in kinds for language in languages]
        for name, wording in PROMPTS.items()
    }
    return sha256_of_text(canonical_json(written))


def turns_of(
    name: str, stem: str, options: Mapping[str, str] | None, kind: Asked, language: Language, images: int
) -> tuple[Turn, ...]:
    """Return what a model is asked: the images first, or where the text has marks `<image k>`, there.

    Raises UserError for an unknown name, ValueError where a mark names an image beyond `images`.
    """
    if name not in PROMPTS:
        raise UserError(f"--prompt {name}: no prompt of that name; {nearest(name, PROMPTS)}")
    text = PROMPTS[name](stem, options, kind, language)
    return (Turn("user", tuple(_with_images(text, images))),)


def _with_images(text: str, images: int) -> Sequence[str | ImageRef]:
    marks = list(IMAGE_MARK.finditer(text))
    if not marks:
        return [*(ImageRef(index) for index in range(images)), text]
    parts: list[str | ImageRef] = []
    place = 0
    for mark in marks:
        if not 1 <= int(mark[1]) <= images:
            raise ValueError(f"`{mark[0]}` stands in a question with {images} images")
        parts += [text[place : mark.start()].strip(), ImageRef(int(mark[1]) - 1)]
        place = mark.end()
    parts.append(text[place:].strip())
    return [part for part in parts if part != ""]
