"""A LLaVA of others, with a template, a tokenizer and image settings of its own, is asked and taught as it knows it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from internlm2_folder import write_llama_tokenizer, write_tokenizer
from PIL import Image
from tokenizers import processors
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.llava.modeling_llava import LlavaCausalLMOutputWithPast

from gmai_vl.foundation import UserError
from gmai_vl.model import (
    IGNORED,
    Request,
    collate,
    encode,
    encode_prompt,
    generate,
    load_model,
    loss_sum,
    prepare_image,
)
from gmai_vl.model.formats.internlm2_tokenizer import convert_tokenizer
from gmai_vl.records import ImageRef, Turn

VICUNA = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content[0].text + ' ' }}{%- else -%}
{{- message.role.upper() + ': ' -}}
{%- for part in message.content if part.type == 'image' -%}{{ '<image>\\n' }}{%- endfor -%}
{%- for part in message.content if part.type == 'text' -%}{{ part.text + ' ' }}{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"""
"""The form of LLaVA-1.5: no token ends an answer, images come first."""

LLAMA_3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start|>' + message.role + '<|stop|>\\n\\n' -}}
{%- for part in message.content -%}{{ '<image>' if part.type == 'image' else part.text | trim }}{%- endfor -%}
{{- '<|eot|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start|>assistant<|stop|>\\n\\n' }}{%- endif -%}"""
"""The form of Llama 3: it begins with the begin token, special tokens end headers and turns."""

ONE = [Turn("user", (ImageRef(0), "what does the chest show?")), Turn("assistant", ("a round opacity",))]
MANY = [
    Turn("system", ("the chest x-ray",)),
    *ONE,
    Turn("user", ("and <image> the </s> lung?",)),
    Turn("assistant", ("normal </s>",)),
]


@pytest.fixture(scope="module")
def model() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, num_hidden_layers=3, image_size=28, patch_size=14),
        text_config=LlamaConfig(**sizes, num_hidden_layers=2, vocab_size=410),
        image_token_index=400,
        image_seq_length=4,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture(scope="module", params=["a blank before each text", "a blank before the first text"])
def tokenizer(request, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("tokenizer")
    beyond = ("<image>", "<pad>", "<|start|>", "<|stop|>", "<|eot|>")
    if "first" in request.param:
        write_llama_tokenizer(folder, beyond=beyond)
    else:
        write_tokenizer(folder, beyond=beyond)
        convert_tokenizer(folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = tokenizer.bos_token_id  # put before every text, as by Llama's tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A", special_tokens=[("<s>", begin)]
    )
    return tokenizer


def processor_of(tokenizer, template: str | None) -> LlavaProcessor:  # type: ignore[no-untyped-def]
    square = {"height": 28, "width": 28}
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=square, do_center_crop=True)
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )


@pytest.fixture(params=[VICUNA, LLAMA_3], ids=["vicuna", "llama 3"])
def processor(request, tokenizer) -> LlavaProcessor:  # type: ignore[no-untyped-def]
    return processor_of(tokenizer, request.param)


def messages(turns: list[Turn]) -> list[dict]:
    return [
        {
            "role": turn.role,
            "content": [
                {"type": "image"} if isinstance(part, ImageRef) else {"type": "text", "text": part}
                for part in turn.content
            ],
        }
        for turn in turns
    ]


def plain(processor: LlavaProcessor, turns: list[Turn], *, asks: bool) -> list[int]:
    """Return the tokens that transformers' own processor makes of a conversation."""
    written = processor.apply_chat_template(messages(turns), tokenize=False, add_generation_prompt=asks)
    picture = Image.fromarray(np.zeros((28, 28, 3), np.uint8))
    begins = written.startswith(processor.tokenizer.bos_token)
    return processor(text=written, images=[picture], add_special_tokens=not begins).input_ids[0]


def test_a_prompt_has_the_tokens_of_transformers_own_processor(processor: LlavaProcessor) -> None:
    for turns in (ONE[:1], [MANY[0], *ONE, Turn("user", ("and the lung?",))]):
        prompt = encode_prompt(processor, turns)
        assert prompt.input_ids == list(plain(processor, turns, asks=True))
        assert prompt.input_ids.count(processor.tokenizer.bos_token_id) == 1


def test_answers_are_learnt_with_what_ends_them(processor: LlavaProcessor) -> None:
    encoded = encode(processor, ONE)
    prompt = encode_prompt(processor, ONE[:1])
    assert encoded.input_ids[: len(prompt.input_ids)] == prompt.input_ids
    assert set(encoded.labels[: len(prompt.input_ids)]) == {IGNORED}
    learnt = encoded.labels[len(prompt.input_ids) :]
    end = "<|eot|>" if "<|eot|>" in processor.chat_template else "</s>"
    assert processor.tokenizer.decode(learnt).strip() == f"a round opacity{end}"
    assert learnt == encoded.input_ids[len(prompt.input_ids) :]
    assert prompt.images == encoded.images == (0,)


def test_all_text_is_learnt_where_answer_only_is_off(processor: LlavaProcessor) -> None:
    encoded = encode(processor, ONE, answer_only=False)
    image = processor.image_token_id
    assert encoded.input_ids == encode(processor, ONE).input_ids
    assert encoded.labels == [IGNORED if token == image else token for token in encoded.input_ids]


def test_special_tokens_in_what_people_wrote_are_letters(processor: LlavaProcessor) -> None:
    encoded = encode(processor, MANY)
    assert encoded.input_ids.count(processor.image_token_id) == 4
    end = processor.tokenizer.eos_token_id
    assert encoded.input_ids.count(end) == ("<|eot|>" not in processor.chat_template)
    assert "and <image> the </s> lung?" in processor.tokenizer.decode(encoded.input_ids)
    said = processor.tokenizer.decode([label for label in encoded.labels if label != IGNORED])
    assert "a round opacity" in said and "normal </s>" in said and "lung" not in said


def test_saved_it_loads_answers_and_learns(  # type: ignore[no-untyped-def]
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    vlm = load_model(tmp_path)
    assert vlm.processor.chat_template == processor.chat_template
    picture = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    (answer,) = generate(vlm, [Request(tuple(ONE[:1]), (picture,))], max_new_tokens=5, batch_size=1)

    written = processor.apply_chat_template(messages(ONE[:1]), tokenize=False, add_generation_prompt=True)
    begins = written.startswith(processor.tokenizer.bos_token)
    inputs = processor(
        text=written, images=[Image.fromarray(picture)], return_tensors="pt", add_special_tokens=not begins
    )
    image = prepare_image(vlm.processor, picture)
    assert torch.equal(image, inputs["pixel_values"][0])
    said = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=processor.tokenizer.eos_token_id)
    expected = processor.tokenizer.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == expected.strip()

    encoded = encode(vlm.processor, ONE)
    loss, count = loss_sum(vlm.model, collate(vlm.processor, [encoded], [image]))
    labels = torch.tensor([encoded.labels])
    told: LlavaCausalLMOutputWithPast = model(
        input_ids=torch.tensor([encoded.input_ids]), pixel_values=image[None], labels=labels
    )
    assert float(loss) / count == pytest.approx(float(told.loss), rel=1e-5)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (None, "has no chat template"),
        ("{{ messages[0].content[0].text }}", "does not write each text of a conversation once and in order"),
        (
            "{% for m in messages %}{% for p in m.content if p.text %}{{ p.text }}{% endfor %}{% endfor %}",
            "one <image>",
        ),
        ("{{ raise_exception('roles must alternate') }}", "cannot write this conversation: roles must alternate"),
        ("{{ messages[0].content + 'a' }}", "cannot write this conversation"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(tokenizer, template: str | None, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=told) as error:
        encode(processor_of(tokenizer, template), ONE)
    assert "\n" not in str(error.value)
