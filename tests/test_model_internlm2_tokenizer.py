"""InternLM2's tokenizer without its code: the ids of sentencepiece itself, and the tokens that stand in free places."""

import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from internlm2_folder import FREE, WORDS, write_tokenizer
from transformers import AutoTokenizer

from gmai_vl.foundation import UserError
from gmai_vl.model.formats.internlm2_tokenizer import convert_tokenizer

LETTERS = "thecsxraylung  肺部结节é\n\t🙂01.,▁"


def texts(count: int) -> list[str]:
    chance = random.Random(1)
    loose = ["".join(chance.choices(LETTERS, k=chance.randint(1, 24))) for _ in range(count)]
    return loose + [" ".join(chance.choices(WORDS, k=6)) for _ in range(count)]


@pytest.mark.parametrize("blank", [True, False])
def test_ids_are_those_of_sentencepiece_and_decode_to_the_text(tmp_path: Path, blank: bool) -> None:
    original = sentencepiece.SentencePieceProcessor(model_proto=write_tokenizer(tmp_path / "source", blank=blank))
    (tmp_path / "target").mkdir()
    convert_tokenizer(tmp_path / "source", tmp_path / "target")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "target")
    for text in texts(500):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ids == original.encode(text), repr(text)
        assert tokenizer.decode(ids) == text.replace("▁", " ")
    assert (original.encode("lung")[0] == original.piece_to_id("▁lung")) == blank


def test_special_tokens_stand_in_the_free_places(tmp_path: Path) -> None:
    original = sentencepiece.SentencePieceProcessor(model_proto=write_tokenizer(tmp_path))
    target = tmp_path / "target"
    target.mkdir()
    convert_tokenizer(tmp_path, target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    start, end = (original.piece_to_id(name) for name in FREE[:2])
    said = tokenizer("<|im_start|>user\nhi<|im_end|>\n<|plugin|>", add_special_tokens=False).input_ids
    assert said == [start, *original.encode("user\nhi"), end, *original.encode("\n"), original.get_piece_size()]
    assert tokenizer(FREE[2], add_special_tokens=False).input_ids == [original.piece_to_id(FREE[2])]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert not any(path.suffix == ".py" for path in target.iterdir())
    as_text = tokenizer("<|im_end|>", add_special_tokens=False, split_special_tokens=True).input_ids
    assert end not in as_text
    assert tokenizer.decode(as_text) == "<|im_end|>"


FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"added_tokens_decoder": {"999": {"content": "a", **FLAGS}}},
            "`added_tokens_decoder` leaves ids free after 399",
        ),
        ({"added_tokens_decoder": {"5": {"content": "a"}}}, "`added_tokens_decoder` cannot be read: 'lstrip'"),
        (
            {"added_tokens_decoder": {"5": {"content": "▁the", **FLAGS}}},
            "a token of `added_tokens_decoder` has a piece's",
        ),
        ({"kind": "unigram"}, "tokenizer.model: is no sentencepiece model of type BPE"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    write_tokenizer(tmp_path, **changes)
    with pytest.raises(UserError, match=told) as error:
        convert_tokenizer(tmp_path, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("file", "told"), [("tokenizer.model", "is missing"), ("tokenizer_config.json", "is missing")])
def test_a_missing_file_is_named(tmp_path: Path, file: str, told: str) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file}: {told}"):
        convert_tokenizer(tmp_path, tmp_path)
    (tmp_path / file).write_bytes(b"\xff\xfe no such thing")
    with pytest.raises(UserError, match=f"{file}: is no"):
        convert_tokenizer(tmp_path, tmp_path)


def test_its_chat_template_comes_along(tmp_path: Path) -> None:
    for name, told in (("with", {"chat_template": "{{ messages }}"}), ("without", {})):
        write_tokenizer(tmp_path / name, **told)
        convert_tokenizer(tmp_path / name, tmp_path / name)
        assert AutoTokenizer.from_pretrained(tmp_path / name).chat_template == told.get("chat_template")
