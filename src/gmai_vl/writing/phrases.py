"""Wording: the variants of the YAML files beside this, and the little grammar that puts a label into a sentence."""

import random
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from gmai_vl.vocabulary import Language, Term, branch_of
from gmai_vl.writing.facts import DEFINITE_BRANCHES, CaseFacts
from gmai_vl.writing.relations import APART, BODY_DIRECTIONS, Pair

Style = Literal["mcq", "mcq-text", "closed", "open", "free", "plain"]
"""Answered by an option's letter or its text, by yes or no, a phrase, a sentence, or as the question says (plain)."""

REGION_BEGINS: dict[Language, str] = {"en": "This region", "zh": "该区域"}
"""How a caption of a region begins (arXiv 2411.14522, Table 2)."""

ChoiceStyle = Literal["mcq", "mcq-text"]

_STYLES: dict[str, tuple[Style, ...]] = {
    "modality": ("mcq", "mcq-text", "open", "free"),
    "plane": ("mcq", "mcq-text", "open", "free"),
    "body-part": ("mcq", "mcq-text", "open", "free"),
    "kind": ("mcq", "mcq-text"),
    "kind-open": ("open", "free"),
    "region-kind": ("mcq", "mcq-text", "open", "free"),
    "presence": ("closed", "free"),
    "side": ("mcq", "mcq-text", "open", "free"),
    "side-closed": ("closed", "free"),
    "count": ("mcq", "mcq-text", "open", "free"),
    "size": ("mcq", "mcq-text", "open", "free"),
    "position": ("mcq", "mcq-text", "open", "free"),
    "grade": ("mcq", "mcq-text"),
    "grade-open": ("open", "free"),
    "severity": ("closed", "free"),
    "laterality": ("mcq", "mcq-text", "open", "free"),
    "laterality-closed": ("closed", "free"),
    "relation": ("mcq", "mcq-text", "open", "free"),
    "contact": ("mcq", "mcq-text"),
    "contact-open": ("open", "free"),
    "largest": ("mcq", "mcq-text"),
    "largest-open": ("open", "free"),
    "closest": ("mcq", "mcq-text"),
    "closest-open": ("open", "free"),
    "tally": ("mcq", "mcq-text", "open", "free"),
    "among": ("open", "free"),
    "diameter": ("mcq", "mcq-text", "open", "free"),
    "area": ("mcq", "mcq-text", "open", "free"),
    "extent": ("open", "free"),
    "grounding": ("plain",),
    "grounding-many": ("plain",),
    "caption": ("plain",),
    "region-caption": ("plain",),
}
"""Question -> the styles it is asked in."""

# Chinese counts cells and germs with 个 and places of disease with 处.
_COUNTED_AS_PLACES = ("finding", "lesion")

_AN = re.compile(r"[aeio]|u(?!ni|te|ro)|[AEFHILMNORSX](?=[A-Z0-9-])")
"""Beginnings that take "an": vowels by sound, and capitals that are read as letters (MR, X-ray, L1)."""


@cache
def caption_words(language: Language) -> dict[str, Any]:
    """Return the data file of a language that captions are composed from."""
    text = (files("gmai_vl.writing") / f"captions_{language}.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


@cache
def wording(language: Language) -> dict[str, Any]:
    """Return the data file of a language."""
    text = (files("gmai_vl.writing") / f"{language}.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def prompt(key: str, style: Style, language: Language, index: int) -> tuple[str, str]:
    """Return id and text of one variant of a question, its instruction included; slots still open."""
    words = wording(language)
    question: str = words["questions"][key][index]
    name = key.removesuffix("-open") + (f"-{style}" if style in ("mcq-text", "open", "free") else "")
    prompt_id = f"template/{name}/{language}/{index}"
    if style not in words["instructions"]:
        return prompt_id, question
    instructions = words["instructions"][style]
    between = "\n{options}\n" if style in ("mcq", "mcq-text") else words["gap"]
    return prompt_id, question + between + instructions[index % len(instructions)]


def any_prompt(key: str, style: Style, language: Language, rng: random.Random) -> tuple[str, str]:
    """Return id and text of a variant chosen by `rng`."""
    return prompt(key, style, language, rng.randrange(len(wording(language)["questions"][key])))


def given_prompt(style: ChoiceStyle | None, language: Language) -> tuple[str, str]:
    """Return id and text of how a question of the source's own is asked: as it is, or as a choice with its options."""
    if style is None:
        return f"source/given/{language}/0", "{question}"
    return f"source/given-{style}/{language}/0", "{question}\n{options}\n" + wording(language)["instructions"][style][0]


def prompt_texts() -> dict[str, str]:
    """Return the text of every prompt id that the writers without a language model use, with its slots open."""
    return dict(_all_prompts())


def _all_prompts() -> Iterator[tuple[str, str]]:
    for language in ("en", "zh"):
        for key, styles in _STYLES.items():
            for style in styles:
                for index in range(len(wording(language)["questions"][key])):
                    yield prompt(key, style, language, index)
        for choice in (None, "mcq", "mcq-text"):
            yield given_prompt(choice, language)
        yield (f"template/dialogue/{language}/0", "facts.turns names the prompt of every turn")


def sentence(key: str, language: Language, rng: random.Random, **slots: Any) -> str:
    """Return an answer in a sentence, chosen by `rng` among the variants, its slots filled."""
    text: str = rng.choice(wording(language)["answers"][key]).format(**slots)
    return text


def subject_slots(label: Term, language: Language, *, called: str | None = None) -> dict[str, Any]:
    """Return the slots that speak of a label: bare, with an article, at the start of a sentence, in the plural.

    `called` is another name of it, used instead of its own.
    """
    name = called or label.in_language(language)
    if language == "zh":
        return {"subject": name, "measure": _measure_word(label), "is_mass": False}
    a_name = with_article(label, called=called)
    return {
        "subject": name,
        "a_subject": a_name,
        "A_subject": capital(a_name),
        "the_subject": f"the {name}",
        "The_subject": f"The {name}",
        "plural": plural(name),
        "is_mass": _last_word(name) in wording("en")["mass_nouns"] or branch_of(label) in DEFINITE_BRANCHES,
    }


def agreement(name: str) -> dict[str, str]:
    """Return the endings and pronouns of English verbs that go with a label: is or are, lies or lie."""
    if _last_word(name) in wording("en")["plural_nouns"]:
        return {"is": "are", "s": "", "es": "", "ies": "y", "have": "ve", "It": "They"}
    return {"is": "is", "s": "s", "es": "es", "ies": "ies", "have": "s", "It": "It"}


def and_joined(parts: Sequence[str], language: Language) -> str:
    """Return "a, b and c", in Chinese a、b和c."""
    comma, last = ("、", "和") if language == "zh" else (", ", " and ")
    return comma.join(parts[:-1]) + last + parts[-1] if len(parts) > 1 else parts[0]


def relation_of(pair: Pair, facts: CaseFacts, rng: random.Random) -> Term | None:
    """Choose what to say of a pair: contact or a direction, in the image or in the body.

    None where the two are only apart, which is no news.
    """
    choices = [pair.contact] if pair.contact and pair.contact != APART else []
    if pair.direction:
        in_body = BODY_DIRECTIONS[facts.plane.en].get(pair.direction) if facts.plane else None
        choices.append(rng.choice([in_body, pair.direction]) if in_body else pair.direction)
    return rng.choice(choices) if choices else None


def relation_words(relation: Term, other: Term, language: Language, key: str, subject: str = "") -> str:
    """Return "anterior to the spleen" for the `key` "phrase", "lies anterior to the spleen" for "says"."""
    words: str = wording(language)["relations"][relation.en][key]
    name = f"the {other.en}" if language == "en" else other.in_language("zh")
    return words.format(other=name, **agreement(subject))


def _measure_word(label: Term) -> str:
    """Return the Chinese measure word: by the end of the name, else 处 for places of disease and 个 for things."""
    by_end: dict[str, str] = wording("zh")["measures"]
    ends = [end for end in by_end if (label.zh or "").endswith(end)]
    if ends:
        return by_end[max(ends, key=len)]
    return "处" if (branch_of(label) or "").endswith(_COUNTED_AS_PLACES) else "个"


def with_article(label: Term, *, called: str | None = None) -> str:
    """Return "a lung nodule", "the liver", "pneumonia"; a label that no vocabulary knows stays bare.

    What is the left or the right one of its kind is definite, known or not: "the left tenth rib".
    """
    branch, name = branch_of(label), called or label.en
    if branch in DEFINITE_BRANCHES or (branch is None and name.startswith(("left ", "right "))):
        return f"the {name}"
    if branch is None or _last_word(name) in wording("en")["mass_nouns"]:
        return name
    return f"{indefinite(name)} {name}"


def without_article(name: str) -> str:
    """Return "CT image" of "a CT image"."""
    return re.sub(r"^an? ", "", name)


def indefinite(text: str) -> str:
    """Return the English article before `text`: a or an."""
    return "an" if _AN.match(text) else "a"


def definite(name: str) -> str:
    """Return "the chest", but "blood" and "colon tissue"."""
    return name if _last_word(name) in wording("en")["mass_nouns"] else f"the {name}"


def plural(label: str) -> str:
    """Return the English plural of a label: its last word changes."""
    last = _last_word(label)
    irregular: dict[str, str] = wording("en")["plurals"]
    if last in irregular:
        return label[: len(label) - len(last)] + irregular[last]
    if last in wording("en")["mass_nouns"]:
        return f"areas of {label}"
    if re.search(r"[^aeiou]y$", label):
        return label[:-1] + "ies"
    return label + ("es" if re.search(r"(s|x|z|ch|sh)$", label) else "s")


def capital(text: str) -> str:
    """Return `text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def image_name(facts: CaseFacts, language: Language, *, whole: bool) -> str:
    """Return "a CT image", or if `whole` "an axial CT image of the chest"; in Chinese CT图像, 胸部CT横断面图像."""
    name: str = wording(language)["image_names"][facts.modality.en]
    plane = facts.plane.in_language(language) if whole and facts.plane else ""
    body = facts.body_part.in_language(language) if whole and facts.body_part else ""
    if language == "zh":
        return ("" if name.startswith(body) else body) + name + plane + "图像"
    noun = f"{plane} {name}".strip()
    return f"{indefinite(noun)} {noun}" + (f" of {definite(body)}" if body else "")


def _last_word(label: str) -> str:
    return label.split()[-1] if label.split() else label
