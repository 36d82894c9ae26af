"""Yes or no, in English and Chinese: answer words that stand alone, and statements that repeat the question."""

import re
from typing import Literal

from gmai_vl.evaluation.answers.wording import (
    conclusions,
    corrected,
    only_disclaims,
    plain,
    refuses,
    sentences,
    tagged_answers,
    without_idioms,
    without_questions,
    words,
)

Answer = Literal["yes", "no"]

_YES = (
    "yes",
    "yeah",
    "yep",
    "yup",
    "affirmative",
    "是的",
    "是",
    "有的",
    "有",
    "对的",
    "对",
    "正确",
    "存在",
    "可见",
    "包含",
    "含有",
    "能看到",
    "可以看到",
    "看得到",
    "可以",
    "能",
    "会",
)
_NO = (
    "no",
    "nope",
    "nah",
    "不是的",
    "不是",
    "没有",
    "没",
    "否",
    "不对",
    "不正确",
    "错误",
    "不存在",
    "不包含",
    "不含有",
    "不含",
    "不可见",
    "不能看到",
    "看不到",
    "不可以",
    "不能",
    "不会",
    "不",
    "未见",
    "无",
)
_ONLY_ALONE: dict[str, Answer] = {
    "y": "yes",
    "true": "yes",
    "correct": "yes",
    "n": "no",
    "false": "no",
    "incorrect": "no",
    "not really": "no",
}
_ALONE: dict[str, Answer] = {**dict.fromkeys(_YES, "yes"), **dict.fromkeys(_NO, "no"), **_ONLY_ALONE}

# Behind "no" a noun would make it a determiner ("no fracture"), which answers only where it repeats the question.
_CLAUSE = r"\s+(?:it|there|this|that|these|those|the|i|he|she|they|we|you|because|since|as|but)\b"
_WORD_END = rf"(?=\s*\Z|\s*[^\w\s'\-]|\s*\n|\s+-\s|{_CLAUSE})"
_CHINESE_END = r"(?=\s*(?:的|呀|啊|哦|呢)?\s*(?:\Z|[^\w\s]|\n))"
_STANDALONE = re.compile(
    rf"(?<![\w'-])(?P<yes>yes|yeah|yep|yup|affirmative)(?![\w'-])|(?<![\w'-])(?P<no>no|nope|nah)(?!\s*\.?\s*\d){_WORD_END}"
    rf"|(?:(?<![\u4e00-\u9fff])|(?<=[也又]))(?:(?P<zh_no>{'|'.join(_NO[3:])})|(?P<zh_yes>{'|'.join(_YES[5:])})){_CHINESE_END}",
    re.I,
)
_DENIED = re.compile(r"(?:\bnot|\bneither|\bnor|n't|不是|并非)\s*(?:an?\s+)?[\"']*\Z", re.I)

# Words that carry no content of their own in a question or in the statement that answers it.
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        """a an the this that these those it its there here one any some is are was were be been being do does did
        has have had can could in on of at to for from by with as you we i and what please image picture photo
        photograph scan figure shown show shows showing see seen visible present evidence sign signs identified
        observed noted detected found exist exists contain contains appears appear seems looks remains several multiple
        many few clear clearly definite definitely obvious obviously indeed also""",
    )
)
_NEGATORS = frozenset(
    re.findall(r"\w+", "no not none without never absent cannot isnt arent doesnt dont wasnt cant hasnt")
)
_ALTERNATIVE = re.compile(r"\bor\b|\bwhich\b|\bwhat\b|\bwhere\b|\bhow\b|\bwho\b|还是|或|哪|什么|何|几|多少|谁", re.I)
_BOTH = re.compile(
    r"\byes\b[^.]{0,40},\s*(?:and\s+|but\s+)?no\s+(?:in|on|for|at)\b|\byes\s+and\s+no\b|既是,?又不是|既有,?又没有", re.I
)
_WHERE = frozenset(re.findall(r"\w+", "along in at on within near over involving around inside throughout adjacent"))
_CLAUSES = re.compile(r",\s*|\bbut\b|但是?|而")
_CHINESE_ASKING = re.compile(r"是不是|有没有|是否|能否|可否|有无|能不能|会不会|吗|呢|请问|请")
_CHINESE_EMPTY = re.compile(
    r"这[张幅个]|[该此本]|医学|影像|图像|图片|图中|图|照片|检查|显示|看到|看见|观察到|发现|可见|存在|出现|明显|证据|迹象|征象|表现|任何|有|是|的|了|在|中|里|内|上|为|能|可以|会|\W"
)
_PREDICATES = frozenset(
    [
        "正常",
        "异常",
        "增大",
        "扩大",
        "缩小",
        "对称",
        "清晰",
        "完整",
        "光滑",
        "均匀",
        "增厚",
        "狭窄",
        "扩张",
        "良性",
        "恶性",
    ]
)
"""Words that alone repeat what a question ends in: 正常 to 心脏正常吗."""

_OPPOSITES = {"正常": "异常", "异常": "正常"}
_NOT_NORMAL = re.compile("(?<!并)不正常")
_CHINESE_NOT = re.compile(r"并没有|并未|并不|没有|并无|未见|不是|并非|不存在|不能|不会|没|无|未|不|非")


def yes_or_no(question: str, response: str) -> Answer | None:
    """Return the one answer that `response` gives to `question`; None if it gives neither, or both."""
    text = corrected(without_idioms(plain(response)))
    if _BOTH.search(text):
        return None
    if tagged := tagged_answers(text):
        answers = {_answer(question, part) for part in tagged}
        return answers.pop() if len(answers) == 1 else None
    stated = {_answer(question, part) for part in conclusions(text)} - {None}
    if not stated:
        return _answer(question, text)
    return stated.pop() if len(stated) == 1 else None


def asks_for_another_word(question: str) -> bool:
    """Say whether a closed question offers alternatives ("CT or MRI?") or asks which: its answer is not yes or no."""
    asked = [part for part in sentences(plain(question)) if part.endswith("?")] or [plain(question)]
    return any(_ALTERNATIVE.search(part) for part in asked)


def mentions_yes_or_no(response: str) -> bool:
    """Say whether yes, no or a negation stands anywhere in `response`."""
    text = plain(response)
    latin = set(_latin_words(text))
    return bool(
        _STANDALONE.search(text)
        or latin & _NEGATORS
        or latin & {"yes"}
        or _CHINESE_NOT.search(text)
        or _CHINESE_ASKING.search(text)
    )


def _answer(question: str, text: str) -> Answer | None:
    if alone := _ALONE.get(_once(words(text))):
        return alone
    text = without_questions(text)
    found = [
        match
        for match in _STANDALONE.finditer(text)
        if not _DENIED.search(text[max(0, match.start() - 20) : match.start()])
    ]
    spoken: set[Answer] = {"yes" if match["yes"] or match["zh_yes"] else "no" for match in found}
    opens = bool(found) and not re.search(r"\w", text[: found[0].start()])
    rest = text[found[0].end() :] if opens else text
    clauses = [clause for sentence in sentences(rest) for clause in {sentence, *_CLAUSES.split(sentence)}]
    repeated = {_repeats(question, clause) for clause in clauses} - {None}
    if len(spoken | repeated) != 1:
        return None
    if refuses(text) and not (opens and "yes" in spoken) and not only_disclaims(text):
        return None
    return (spoken | repeated).pop()


def _once(text: str) -> str:
    """Return the one word of a text that only repeats it, as a model without an end does."""
    again = re.fullmatch(r"(.{1,6}?)(?:\s*\1){2,}", text)
    return again[1] if again else text


def _repeats(question: str, statement: str) -> Answer | None:
    """Return what `statement` says where it only repeats the question's words: affirmed "yes", denied "no".

    "There is no pneumothorax" answers "Is there a pneumothorax?" and not "Is the chest normal?". Questions that are
    negative themselves or offer alternatives cannot be answered so. A word of doubt, or any word that is not in the
    question, makes it none.
    """
    question = next(
        (part for part in sentences(plain(question)) if part.endswith("?")), plain(question)
    )  # the instruction apart
    if _ALTERNATIVE.search(question):
        return None
    if re.search(r"[\u4e00-\u9fff]", question):
        return _repeats_chinese(question, plain(statement))
    asked, said = _latin_words(question), _latin_words(statement)
    denials = sum(word in _NEGATORS for word in said)
    if _NEGATORS & set(asked) or denials > 1 or re.search(r"[\u4e00-\u9fff]", statement):
        return None
    asked_content = [word for word in asked if word not in _EMPTY]
    said_content = [word for word in said if word not in _EMPTY | _NEGATORS]
    if not said_content:
        return _refers_back(said)
    if denials:
        remaining = iter(asked_content)
        return "no" if all(word in remaining for word in said_content) else None
    if said_content == asked_content or _with_place(asked_content, said):
        return "yes"
    opposite = {"normal": "abnormal", "abnormal": "normal"}
    return "no" if [opposite.get(word, word) for word in said_content] == asked_content else None


def _with_place(asked: list[str], said: list[str]) -> bool:
    """Say whether a statement repeats what was asked and goes on to say where: "there is a cyst in the left lobe"."""
    if not asked or asked[-1] not in said:
        return False
    end = said.index(asked[-1]) + 1
    begins = [word for word in said[:end] if word not in _EMPTY]
    return begins == asked and said[end : end + 1] != [] and said[end] in _WHERE


def _refers_back(said: list[str]) -> Answer | None:
    """Return the answer of a statement without content of its own: "it is", "there is not"."""
    if len(said) < 2 or said[0] not in ("it", "there", "this", "they", "these"):
        return None
    if _NEGATORS & set(said):
        return "no"
    return "yes" if len(said) == 2 else None


def _latin_words(text: str) -> list[str]:
    return [
        re.sub(r"(?<=ss)es\Z|(?<!s)s\Z", "", word) if len(word) > 4 else word
        for word in re.findall(r"[a-z0-9-]+", text.lower().replace("'", ""))
    ]


def _repeats_chinese(question: str, statement: str) -> Answer | None:
    question, statement = (_NOT_NORMAL.sub("异常", text) for text in (question, statement))
    asked = _CHINESE_EMPTY.sub("", _CHINESE_ASKING.sub("", question))
    denials = _CHINESE_NOT.findall(statement)
    said = _CHINESE_EMPTY.sub("", _CHINESE_NOT.sub("", statement))
    if not said or _CHINESE_NOT.search(asked) or len(denials) > 1:
        return None
    if denials:
        return "no" if said in asked else None
    if said in _PREDICATES and asked.endswith(said):
        return "yes"
    turned = re.sub("|".join(_OPPOSITES), lambda word: _OPPOSITES[word[0]], said)
    if turned != said and asked.endswith(turned):
        return "no"
    return "yes" if said == asked or re.search(rf"是(?:否|不是)\W*{re.escape(said)}", question) else None
