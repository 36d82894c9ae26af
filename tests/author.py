"""A scripted model for the language model writer: it reads the facts in its prompt and writes what they say.

Its texts are plain and true in English and Chinese, a function of the request alone; a script for `stub_server.Stub`
may have it lie, or answer in another form, the first time it is asked or always.
"""

import json
import re
from collections.abc import Callable

from stub_server import Act, Question, Script, answer

from gmai_vl.vocabulary import MODALITIES

LIE = "There is also a rib fracture."

QUESTIONS = {
    "What does the report describe?": "报告描述了什么？",
    "Which kind of image is it about?": "所述为哪一种图像？",
    "What is seen?": "可见什么？",
}


def author(*, lies: Callable[[Question], bool] = lambda _: False) -> Script:
    """Return a script that answers well, with a lie in every text where `lies` says so."""

    def script(question: Question) -> Act:
        return answer(json.dumps(text_of(question, lie=lies(question)), ensure_ascii=False))

    return script


def is_rewriting(question: Question) -> bool:
    """Say whether the model is told what was wrong."""
    return question.prompt.startswith("This cannot be used")


def is_unguided(question: Question) -> bool:
    """Say whether the prompt gives no facts."""
    return "Facts" not in question.prompt and "Translate" not in question.prompt and not is_rewriting(question)


def text_of(question: Question, *, lie: bool = False) -> dict[str, object]:
    """Return the object that the request asks for."""
    prompt = _first_prompt(question)
    schema = question.body["response_format"]["json_schema"]["schema"]
    more = f" {LIE}" if lie else ""
    if "texts" in schema["properties"]:
        return {"texts": [_in_chinese(text, prompt) for text in _texts_to_translate(prompt)]}
    kind, names = _facts(prompt)
    shown = f"The image shows {' and '.join(names)}." if names else "There is nothing to see."
    if "turns" in schema["properties"]:
        asked = ("What does the report describe?", "Which kind of image is it about?", "What is seen?")
        said = (shown, f"It is about {kind}.", f"It names {' and '.join(names)}." if names else "Nothing is seen.")
        return {"turns": [{"question": q, "answer": a + more} for q, a in zip(asked, said, strict=True)]}
    if "caption" in schema["properties"]:
        is_region = "This region" in prompt
        return {"caption": (f"This region shows {names[0]}." if is_region else f"This is {kind}. {shown}") + more}
    return {"question": "What can be seen here?", "answer": shown + more}


def _first_prompt(question: Question) -> str:
    """Return the wish that the conversation began with: what a rewriting goes back to."""
    content = question.body["messages"][1]["content"]
    return content if isinstance(content, str) else next(p["text"] for p in content if p["type"] == "text")


def _facts(prompt: str) -> tuple[str, list[str]]:
    """Return the kind of image and the names of all that is there, or of the region alone."""
    kind = re.search(r"Kind of image: (.*)", prompt)
    if held := re.search(r"- Holds: (.*)", prompt):
        return kind[1] if kind else "an image", [held[1]]
    lines = re.findall(r"^- (.*)$", prompt, re.MULTILINE)
    told = [re.sub(r"^\d+ ", "", line.partition(";")[0]) for line in lines if ": " not in line.partition(";")[0]]
    names = [line for line in told if not line.startswith(("the ", "State", "Name", "Give", "Nothing", "Do not"))]
    result = re.search(r"- Result: (.*)", prompt)
    return kind[1] if kind else "an image", [result[1]] if result else names


def _texts_to_translate(prompt: str) -> list[str]:
    listed = re.search(r"^\[.*\]$", prompt, re.MULTILINE)
    assert listed, prompt
    texts: list[str] = json.loads(listed[0])
    return texts


def _in_chinese(text: str, prompt: str) -> str:
    """Return a question for a question, else a sentence that names everything that the prompt gives a term for."""
    if text.endswith("?"):
        last = text.rpartition(". ")[2]
        return (_report(text, prompt) if last != text else "") + QUESTIONS.get(last, "图中可见什么？")
    image, names = _terms(prompt)
    if text.startswith("It is about"):
        return f"所述为{image}图像。"
    if text.startswith("It names"):
        return f"报告提到{names}。"
    return f"{'该区域' if text.startswith('This region') else f'这是一幅{image}图像，图中'}可见{names}。"


def _report(text: str, prompt: str) -> str:
    """Return a report in Chinese with the shares of the image that the English one gives."""
    image, names = _terms(prompt)
    shares = "".join(f"，约占图像的{share}%" for share in re.findall(r"(\d+)%", text))
    return f"这是一幅{image}图像，图中可见{names}{shares}。"


def _terms(prompt: str) -> tuple[str, str]:
    """Return the Chinese of the kind of image and of all else that the prompt gives a term for."""
    terms = dict(re.findall(r"^- (.*?): (.*)$", prompt, re.MULTILINE))
    modalities = {term.en for term in MODALITIES}
    image = "".join(chinese for english, chinese in terms.items() if english in modalities)
    return image, "、".join(chinese for english, chinese in terms.items() if english not in modalities)
