"""Responses made plain: one form of letters, no mark-up or reasoning, and the parts that state the answer."""

import re
import unicodedata

_CLOSED_THOUGHT = re.compile(r"<think(?:ing)?>(?:(?!<think).)*?</think(?:ing)?>", re.S | re.I)
_OPEN_THOUGHT = re.compile(r"<think(?:ing)?>.*\Z", re.S | re.I)
_THOUGHT_BEFORE = re.compile(r"\A.*</think(?:ing)?>", re.S | re.I)  # templates that put the opening tag into the prompt
_SPECIAL_TOKEN = re.compile(
    r"<\|[^|<>]*\|>|</?s>|<(?:pad|unk|bos|eos|image|end_of_turn|start_of_turn)>|\[/?(?:INST|PAD|UNK)\]", re.I
)
_SPEAKER = re.compile(r"\A\s*(?:assistant|model|bot|助手|助理)\s*(?::|\n)\s*", re.I)
_STRUCK = re.compile(r"~~.*?~~", re.S)
_EMPHASIS = re.compile(r"\*+|`+|__+|^#+\s*", re.M)

_ANSWER_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.S | re.I)
_JSON_ANSWER = re.compile(
    r'"(?:final_answer|answer|choice|option|答案|最终答案)"\s*:\s*(?:"([^"\\]*)"|(null|true|false|-?[\d.]+|\{\s*\}|\[\s*\]))',
    re.I,
)
_BOX = re.compile(r"\\boxed\s*\{")
_LATEX_COMMAND = re.compile(r"\\(?:boxed|boldsymbol|text|mathrm|mathbf|textbf|textit|rm|bf)\b")

_CUE = re.compile(
    r"(?P<final>\bfinal\s+|最终)?"
    r"(?:\bans\b\.?\s*(?:is\b|[:=–-])|\b(?:therefore|thus|hence|so|consequently)\b,?\s+(?:it|this|that|the\s+\w+)(?:'s|\s+(?:is|(?:must|should|has\s+to)\s+be))\b"
    r"|\b(?:answer|option|choice)(?:\s+(?:among|of|from|for|to|in|on|here|that)\b[^.;:!?\n]{0,60}?)?"
    r"\s*(?:\b(?:is|would\s+be|should\s+be|must\s+be|was)\b\s*[:=]?|[:=])"
    r"|\bleaves(?:\s+(?:us|me|only|just|with|the|option))*\b|\b(?:therefore|thus|hence|so)\b\s*[:,]?\s*(?=\W*[A-Z]\b(?!\s+[a-z]))"
    r"|\b(?:i|we)(?:'d|'ll|\s+would|\s+will)?\s+(?:choose|chose|pick|select|go\s+with)\b"
    r"|只有(?=\W*[A-Z])|只?剩(?:下|余)?\s*(?:的)?(?:是|为)?|(?:因此|所以|综上(?:所述)?)[,\s]*(?:应该|应当|应)?(?:是|为|考虑为?|选择?)\s*:?"
    r"|最(?:符合|可能|合适|恰当|佳)[^。,;!?\n]{0,15}?(?:是|为)\s*:?"
    r"|答案\s*(?:应该是|应当是|应为|应是|就是|是|为)?\s*:?|(?:应该|应当|应|故|所以|因此|我)选择?\s*:?|选择\s*:?|^\s*选\s*:?)",
    re.I | re.M,
)
_DOUBTED = re.compile(
    r"\b(?:not|cannot|never|whether|if|unsure|uncertain)\b|n't\b|无法|不能|不确定|是否|不是|不知道|不清楚", re.I
)
_SENTENCE_END = re.compile(r"[。!?;\n]|\.(?=\s|\Z)")

_REFUSAL = re.compile(
    r"\b(?:cannot|can't|can\s+not|could\s+not|couldn't|unable\s+to|not\s+able\s+to|impossible\s+to|not\s+possible\s+to|difficult\s+to|hard\s+to)"
    r"\s+(?:\w+ly\s+)?(?:be\s+)?(?:determine|answer|tell|say|provide|assist|help|diagnos|confirm|assess|judge|interpret|identify|decide"
    r"|view|know|analy[sz]e|evaluate|comment|give|make|choose|fulfil|comply)"
    r"|\bas\s+an?\s+(?:ai|language\s+model)\b|\bi(?:'m|\s+am)\s+(?:\w+\s+)?(?:sorry|unsure|uncertain|an\s+ai)\b|\bi\s+apologi[sz]e\b"
    r"|\b(?:do\s+not|don't|does\s+not|doesn't)\s+know\b|\bnot\s+(?:\w+\s+)?(?:sure|certain|enough|clear|sufficient)\b|\bunclear\b"
    r"|\binsufficient\b|\bno\s+(?:idea|image)\b|\bcannot\b[^.]*\bdetermined\b|\bconsult\s+(?:a|your)\b|\b(?:none|all)\s+of\s+(?:the\s+)?(?:above|these|them)\b"
    r"|无法|不确定|不清楚|不知道|不能确定|不能判断|难以|抱歉|对不起|作为(?:一个)?(?:ai|人工智能)|没有足够|信息不足|不足以|以上(?:都|皆|均)",
    re.I,
)


_DISCLAIMER = re.compile(
    r"\bas\s+an?\s+(?:ai|language\s+model)\b|\bi(?:'m|\s+am)\s+an\s+ai\b|\bconsult\s+(?:a|your)\b"
    r"|\b(?:cannot|can't|does\s+not|doesn't|not\s+able\s+to)\s+(?:replace|substitute)\b|作为(?:一个|一名)?(?:ai|人工智能)",
    re.I,
)
_CORRECTION = re.compile(
    r"(?:\b(?:no,?\s+)?wait\b\s*[,.:;!…-]|\bactually,?\s+no\b|\bhold\s+on|scratch\s+that|strike\s+that|on\s+second\s+thoughts?|correction\s*:"
    r"|let\s+me\s+(?:re-?evaluate|reconsider|re-?think|correct|revise)|i\s+(?:misread|misspoke|mistook|was\s+wrong|stand\s+corrected"
    r"|made\s+(?:a|an)\s+(?:mistake|error))|i\s+(?:\w+\s+)?(?:correct|revise|change|retract)\s+my|my\s+(?:mistake|bad)|sorry,\s+(?:i|that|it)\b)"
    r"|等等|等一下|稍等|(?<=[,。.…!;、\s])不对[,。!]|更正|纠正|看错|我错了|说错|重新考虑|重新判断|改选|改为选|后来想想|仔细想想|转念",
    re.I,
)
_IDIOM = re.compile(
    r"\byes\s*(?:/|-?or-?)\s*no\b|是\s*[/或]\s*否|"
    r"\b(?:there\s+is\s+)?(?:no|without(?:\s+(?:a|any))?)\s+(?:doubt|question)(?:\s+(?:that|about\s+it))?\b|(?:毫|并)?无疑问|没有疑问|毫无疑义|无疑|毫无悬念",
    re.I,
)


def plain(text: str) -> str:
    """Return `text` in compatibility form (full-width letters and brackets become ASCII) without reasoning and mark-up.

    A reasoning block that is never closed takes the rest of the response with it.
    """
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    text = _THOUGHT_BEFORE.sub("", _CLOSED_THOUGHT.sub("", text))
    text = _EMPHASIS.sub("", _STRUCK.sub("", _SPECIAL_TOKEN.sub("", _OPEN_THOUGHT.sub("", text)))).strip()
    return _SPEAKER.sub("", text).strip()


def tagged_answers(text: str) -> list[str]:
    r"""Return what stands in `<answer>`, `\boxed{}` and JSON fields `answer` of a plain text, all of it; else nothing.

    An empty one, or null, is an empty answer.
    """
    found = [match[1].strip() for match in _ANSWER_TAG.finditer(text)]
    rest = _ANSWER_TAG.sub("", text)
    found += _boxed(rest)
    for match in _JSON_ANSWER.finditer(rest):
        value = match[1] if match[1] is not None else match[2]
        found.append("" if value.lower() in ("null", "{}", "[]") else value.strip())
    return found


def is_broken_json(text: str) -> bool:
    """Say whether a plain text begins as a JSON object and holds no answer: cut off, or of other fields."""
    return re.match(r"\W*\{\s*[\"']", text) is not None and not tagged_answers(text)


def is_cut_off_json(text: str) -> bool:
    """Say whether a plain text is a JSON object that ends before its answer: what it weighs up is none."""
    return is_broken_json(text) and text.count("{") > text.count("}")


def corrected(text: str) -> str:
    """Return what follows the last self-correction ("no, wait", 不对) of a plain text; all of it without one."""
    ends = [match.end() for match in _CORRECTION.finditer(text)]
    return text[ends[-1] :] if ends else text


def without_idioms(text: str) -> str:
    """Return a text without "no doubt" and the like, which deny nothing."""
    return _IDIOM.sub(" ", text)


def _boxed(text: str) -> list[str]:
    found, end = [], 0
    while opening := _BOX.search(text, end):
        depth, end = 1, opening.end()
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        inside = text[opening.end() : end - (depth == 0)]
        found.append(re.sub(r"[{}]", "", _LATEX_COMMAND.sub("", inside)).strip())
    return found


def conclusions(text: str) -> list[str]:
    """Return what follows each cue ("the answer is", 答案是, "I choose"), up to the end of its sentence or a next cue.

    Only the last "final answer" counts where there is one. A cue that its own clause denies or doubts is none.
    """
    found = []
    cues = list(_CUE.finditer(text))
    ends = [*(cue.start() for cue in cues[1:]), len(text)]
    for cue, end in zip(cues, ends, strict=False):
        before = re.split(r"[,;!?。\n]|\.\s", text[max(0, cue.start() - 200) : cue.start()])[-1]
        if not _DOUBTED.search(before):
            found.append((cue["final"] is not None, first_statement(text[cue.end() : end])))
    final = [statement for is_final, statement in found if is_final]
    return final[-1:] or [statement for _, statement in found]


def first_statement(text: str) -> str:
    """Return `text` up to the end of its first sentence; the dot after a leading letter ("B. MRI") ends none."""
    text = text.lstrip()
    letter = re.match(r"[^\w\n]*[A-Za-z][^\w\n]+", text)
    start = letter.end() if letter else 0
    end = _SENTENCE_END.search(text, start)
    return text[: end.start()] if end else text


def sentences(text: str) -> list[str]:
    """Return the sentences of `text` with their final marks."""
    found, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        found.append(text[start : end.end()])
        start = end.end()
    return [sentence for sentence in [*found, text[start:]] if sentence.strip()]


def without_questions(text: str) -> str:
    """Return `text` without its questions: they state nothing."""
    return "".join(sentence for sentence in sentences(text) if not sentence.endswith("?"))


def refuses(text: str) -> bool:
    """Say whether a plain text declines to answer, or answers "none of these"."""
    return bool(_REFUSAL.search(text))


def only_disclaims(text: str) -> bool:
    """Say whether all that reads as a refusal in a plain text is a disclaimer: it is a model, a doctor decides."""
    return refuses(text) and not refuses(_DISCLAIMER.sub(" ", text))


_SIGNS = str.maketrans({"≤": "<=", "≦": "<=", "⩽": "<=", "≥": ">=", "≧": ">=", "⩾": ">=", "−": "-"})
"""Signs that are written in several ways."""


def words(text: str) -> str:
    """Return the normalised words of `text`: lower case, no punctuation, no English articles, single blanks.

    Signs stay that make another value of a number, or its opposite.
    """
    text = re.sub(
        r"\b(?:a|an|the)\s+(?=\w)", "", plain(text).lower()
    )  # before the dots go: the letter of "A. MRI" is no article
    text = re.sub(r"([<>≠±]|[<>]=)\s+(?=\d)", r"\1", text.translate(_SIGNS))
    return " ".join(re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[^\w\s.,%<>=≠±↑↓+-]|_", " ", text).split())
