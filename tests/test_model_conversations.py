"""Conversations with InternLM2's tokenizer and CLIP at 336 pixels: the tokens and labels that GMAI-VL trained on.

Its released trainer writes each message into the template and tokenizes it by itself, without a begin token: what the
user says with the header of the answer, the answer with its end, a line break. A loss is taken on the answer and end.
"""

import numpy as np
import pytest
import sentencepiece
from internlm2_folder import CONFIG, random_weights, write_internlm2, write_tokenizer
from small_models import small_model
from transformers import CLIPVisionConfig, CLIPVisionModel

from gmai_vl.model import IGNORED, ModelSettings, encode, encode_prompt, image_token_count, outline, pull
from gmai_vl.records import ImageRef, Turn

CONVERSATIONS = {
    "one turn": [Turn("user", (ImageRef(0), "what does the chest show?")), Turn("assistant", ("a round opacity",))],
    "many turns": [
        Turn("user", (ImageRef(0), "is the heart normal?")),
        Turn("assistant", ("yes",)),
        Turn("user", ("and the lung?",)),
        Turn("assistant", ("opacity in left upper field\npneumonia",)),
        Turn("user", (" why",)),
        Turn("assistant", (" round",)),
    ],
    "two images": [
        Turn("user", (ImageRef(0), ImageRef(1), "which shows the heart?")),
        Turn("assistant", ("the left",)),
    ],
    "image after text": [Turn("user", ("the lung", ImageRef(0), "normal?")), Turn("assistant", ("normal",))],
    "text only": [Turn("user", ("what is pneumonia?",)), Turn("assistant", ("感染 in the lung",))],
    "Chinese": [Turn("user", (ImageRef(0), "左肺有结节吗？")), Turn("assistant", ("肺部结节，可能感染",))],
    "system": [
        Turn("system", ("a chest x-ray",)),
        Turn("user", ("shows the lung?",)),
        Turn("assistant", ("the heart",)),
    ],
}
OF_IMAGE = 576


@pytest.fixture(scope="module", params=[True, False], ids=["blank first", "no blank"])
def models(request, tmp_path_factory):
    """A processor of ours, and what it was converted from: the sentencepiece model with ids of start and end."""
    folder = tmp_path_factory.mktemp("models")
    source = write_internlm2(folder / "source", random_weights(CONFIG), CONFIG)
    model = sentencepiece.SentencePieceProcessor(model_proto=write_tokenizer(source, blank=request.param))
    tower = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_attention_heads=2, image_size=336, patch_size=14)
    CLIPVisionModel(tower).save_pretrained(folder / "tower")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GMAI_CACHE", str(folder / "cache"))
        pull(str(source))
        processor = outline(ModelSettings(vision=str(folder / "tower"), language=str(source))).processor
    return processor, model


def published(processor, model, turns):
    """Tokenize as the released trainer does; the `<image>` of a template stands for 576 tokens afterwards."""
    start, end = (model.piece_to_id(f"[UNUSED_TOKEN_{number}]") for number in (0, 1))

    def learnt(ids):
        return [(token, token) for token in ids]

    def given(ids):
        return [(token, IGNORED) for token in ids]

    tokens = []
    for turn in turns:
        said = "\n".join("<image>" if isinstance(part, ImageRef) else part for part in turn.content)
        if turn.role == "assistant":
            tokens += learnt([*model.encode(said), end]) + given(model.encode("\n"))
            continue
        tokens += given([start])
        for number, text in enumerate(f"{turn.role}\n{said}".split("<image>")):
            if number:
                tokens += given([processor.image_token_id] * OF_IMAGE)
            tokens += given(model.encode(text))
        tokens += given([end, *model.encode("\n")])
        if turn.role == "user":
            tokens += given([start, *model.encode("assistant\n")])
    return tuple(map(list, zip(*tokens, strict=True)))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tokens_and_labels_are_those_of_the_released_trainer(models, name: str) -> None:
    processor, model = models
    turns = CONVERSATIONS[name]
    encoded = encode(processor, turns)
    ids, labels = published(processor, model, turns)
    # The line break after the last answer is left out: no loss is taken on it, and nothing comes after it.
    after = len(model.encode("\n"))
    assert (encoded.input_ids, encoded.labels) == (ids[:-after], labels[:-after])
    assert labels[-after:] == [IGNORED] * after

    shown = sum(isinstance(part, ImageRef) for turn in turns for part in turn.content)
    assert image_token_count(processor) == OF_IMAGE
    assert encoded.input_ids.count(processor.image_token_id) == OF_IMAGE * shown
    assert len(encoded.images) == shown


def test_a_conversation_worked_out_by_hand(models) -> None:
    processor, model = models
    encoded = encode(processor, CONVERSATIONS["one turn"])
    start, end = processor.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    question, answer = model.encode("\nwhat does the chest show?"), model.encode("a round opacity")
    header = [start, *model.encode("user\n")]
    between = [end, *model.encode("\n"), start, *model.encode("assistant\n")]
    assert encoded.input_ids == [*header, *[processor.image_token_id] * 576, *question, *between, *answer, end]
    before = len(header) + 576 + len(question) + len(between)
    assert encoded.labels == [IGNORED] * before + [*answer, end]
    assert processor.tokenizer.bos_token_id not in encoded.input_ids


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_prompt_ends_where_the_answer_was_learnt(models, name: str) -> None:
    processor, _ = models
    whole = encode(processor, CONVERSATIONS[name])
    prompt = encode_prompt(processor, CONVERSATIONS[name][:-1])
    assert whole.input_ids[: len(prompt.input_ids)] == prompt.input_ids
    assert whole.labels[len(prompt.input_ids)] != IGNORED
    assert whole.labels[len(prompt.input_ids) - 1] == IGNORED


def one_token_each(ids: list[int], image: int) -> list[int]:
    """Return tokens with one in place of the 576 of each image, as a template has it."""
    kept, place = [], 0
    while place < len(ids):
        kept.append(ids[place])
        place += OF_IMAGE if ids[place] == image else 1
    return kept


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_template_writes_what_was_trained(models, name: str) -> None:
    processor, model = models
    asked = CONVERSATIONS[name][:-1]
    messages = [
        {
            "role": turn.role,
            "content": [
                {"type": "image"} if isinstance(part, ImageRef) else {"type": "text", "text": part}
                for part in turn.content
            ],
        }
        for turn in asked
    ]
    written = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    expected = one_token_each(encode_prompt(processor, asked).input_ids, processor.image_token_id)
    # Where texts begin with a blank, earlier answers were learnt with one of their own, which no template can write.
    begins_blank = model.encode("lung")[0] == model.piece_to_id("▁lung")
    differs = begins_blank and any(turn.role == "assistant" for turn in asked)
    assert (processor.tokenizer(written, add_special_tokens=False).input_ids != expected) == differs


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_with_llamas_tokenizer_the_template_writes_whole_conversations(tmp_path, name: str) -> None:
    """Where only the first text begins with a blank, earlier answers too have the tokens of transformers."""
    processor = small_model(tmp_path / "model", "llama").processor
    turns = CONVERSATIONS[name]
    messages = [
        {
            "role": turn.role,
            "content": [
                {"type": "image"} if isinstance(part, ImageRef) else {"type": "text", "text": part}
                for part in turn.content
            ],
        }
        for turn in turns
    ]
    written = processor.apply_chat_template(messages)
    pictures = [np.zeros((56, 56, 3), np.uint8)] * written.count("<image>")
    theirs = processor(text=written, images=pictures or None).input_ids[0]
    assert encode(processor, turns).input_ids == list(theirs)
