"""Whether llama.cpp answers as we do: real questions to a checkpoint and to its exported GGUF files, both greedily.

    python benchmarks/gguf_answers.py CHECKPOINT CORPUS [--limit 64]

Needs llama-cpp-python, which builds from source (`pip install llama-cpp-python`: a C++ compiler, ten minutes on two
cores). Questions come from the corpus's test split. Pictures are given as they are stored, and made as large as the
vision tower sees them beforehand, so that neither program resizes them: llama.cpp does that with another filter.
"""

import argparse
import base64
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import transformers
from llama_cpp.llama_chat_format import MTMDChatHandler
from numpy.typing import NDArray
from PIL import Image

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.evaluation import Question, questions_of
from gmai_vl.model import Request, Vlm, export_gguf, generate, image_side, load_model
from gmai_vl.records import ImageRef, Turn

TOKENS = 48
PRECISIONS = ("f16", "q8_0")

Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--limit", type=int, default=64)
    given = parser.parse_args()
    print(
        f"gmai-vl {__version__}, llama-cpp-python {llama_cpp.__version__}, transformers {transformers.__version__}, CPU"
    )
    corpus = Corpus(given.corpus)
    questions = [one for one in questions_of(corpus, limit=given.limit) if len(one.images) == 1]
    vlm = load_model(given.checkpoint)
    stored = [corpus.image(question.images[0]) for question in questions]
    pictures = {"as stored": stored, "tower's size": [square(vlm, picture) for picture in stored]}
    ours = {how: our_answers(vlm, questions, some) for how, some in pictures.items()}
    print(f"{len(questions)} questions, {len(set(ours['as stored']))} different answers of ours")
    with tempfile.TemporaryDirectory() as temporary:
        export_gguf(given.checkpoint, Path(temporary), PRECISIONS)
        for precision in PRECISIONS:
            for how, some in pictures.items():
                theirs = their_answers(Path(temporary), precision, questions, some)
                report(f"{precision}, pictures {how}", ours[how], theirs)


def square(vlm: Vlm, pixels: Pixels) -> Pixels:
    """Pad and resize a picture as our processor does: [side, side, 3]."""
    image = Image.fromarray(pixels).convert("RGB")
    longer, side = max(image.size), image_side(vlm.processor)
    mean = tuple(int(value * 255) for value in vlm.processor.image_processor.image_mean)
    padded = Image.new("RGB", (longer, longer), mean)
    padded.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
    return np.asarray(padded.resize((side, side), Image.Resampling.BICUBIC))


def our_answers(vlm: Vlm, questions: Sequence[Question], pictures: Sequence[Pixels]) -> list[str]:
    requests = [Request(asked.turns, (picture,)) for asked, picture in zip(questions, pictures, strict=True)]
    return generate(vlm, requests, max_new_tokens=TOKENS, batch_size=8)


def their_answers(folder: Path, precision: str, questions: Sequence[Question], pictures: Sequence[Pixels]) -> list[str]:
    handler = MTMDChatHandler(str(folder / f"mmproj-model-{precision}.gguf"), verbose=False)
    model = llama_cpp.Llama(str(folder / f"model-{precision}.gguf"), chat_handler=handler, n_ctx=2048, verbose=False)
    try:
        return [ask(model, asked.turns, picture) for asked, picture in zip(questions, pictures, strict=True)]
    finally:
        model.close()


def ask(model: llama_cpp.Llama, turns: Sequence[Turn], picture: Pixels) -> str:
    url = data_url(picture)
    messages = [{"role": turn.role, "content": [part_of(part, url) for part in turn.content]} for turn in turns]
    reply = model.create_chat_completion(messages, temperature=0.0, repeat_penalty=1.0, max_tokens=TOKENS)
    return str(reply["choices"][0]["message"]["content"])


def part_of(part: str | ImageRef, url: str) -> dict[str, object]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image_url", "image_url": {"url": url}}


def data_url(picture: Pixels) -> str:
    written = io.BytesIO()
    Image.fromarray(picture).convert("RGB").save(written, "PNG")
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def report(what: str, ours: Sequence[str], theirs: Sequence[str]) -> None:
    equal = sum(our == their for our, their in zip(ours, theirs, strict=True))
    print(f"{what}: {equal} of {len(ours)} answers equal")
    for our, their in zip(ours, theirs, strict=True):
        if our != their:
            print(f"  ours {our!r}\n  its  {their!r}")
            break


if __name__ == "__main__":
    main()
