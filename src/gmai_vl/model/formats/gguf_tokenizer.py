"""A tokenizer as llama.cpp keeps it in a GGUF file: tokens with their kinds, and merges or scores."""

import json
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import LlavaProcessor, PreTrainedTokenizerBase

from gmai_vl.foundation import UserError, say
from gmai_vl.model.chatml import CHAT_TEMPLATE
from gmai_vl.model.within import within_conversation

_ISOLATED = {"behavior": "Isolated", "invert": False}
_DIGITS = {"type": "Digits", "individual_digits": True}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _bytes(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


_SPLITS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_bytes(use_regex=True)],
    "smollm": [_DIGITS, _bytes(use_regex=True)],
    "qwen2": [{"type": "Split", "pattern": {"Regex": _QWEN2}, **_ISOLATED}, _bytes(use_regex=False)],
}
"""llama.cpp's name for a way to split text before bytes are merged, and the steps of it in `tokenizers`."""


def describe_tokenizer(writer: GGUFWriter, processor: LlavaProcessor, rows: int, place: Path) -> None:
    """Write tokenizer and chat template of a processor; `rows` are those of the embedding, at least one a token.

    Raises UserError, naming the checkpoint `place`, where llama.cpp has no tokenizer like it.
    """
    tokenizer = processor.tokenizer
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    if told["model"]["type"] != "BPE" or told["model"].get("ignore_merges"):
        raise UserError(
            f"{place}: its tokenizer is of type {told['model']['type']} or ignores merges: it has no form in GGUF"
        )
    if not told["model"]["merges"]:
        raise UserError(f"{place}: its tokenizer has no merges: llama.cpp has none of that kind")
    if len(tokenizer) > rows:
        raise UserError(
            f"{place}: its tokenizer has {len(tokenizer)} tokens, the model {rows}; take both from one checkpoint"
        )
    names = {number: name for name, number in tokenizer.get_vocab().items()}
    tokens = [names.get(number, f"[PAD{number}]") for number in range(rows)]
    by_bytes = bool(told["model"].get("byte_fallback"))
    kinds = [_kind(tokenizer, number, by_bytes) if number in names else TokenType.UNUSED for number in range(rows)]
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in told["model"]["merges"]]
    if by_bytes:
        _check_blanks(told, processor, place)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_begins_with_blank(tokenizer))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split_name(told, place))
        writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_add_bos_token(tokenizer("").input_ids == [tokenizer.bos_token_id])
    writer.add_add_eos_token(False)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    for token, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
    ):
        if token is not None:
            add(token)
    writer.add_chat_template(processor.chat_template)


def _kind(tokenizer: PreTrainedTokenizerBase, number: int, by_bytes: bool) -> TokenType:
    name = tokenizer.convert_ids_to_tokens(number)
    if by_bytes and number == tokenizer.unk_token_id:
        return TokenType.UNKNOWN
    if (added := tokenizer.added_tokens_decoder.get(number)) is not None:
        return TokenType.CONTROL if added.special else TokenType.USER_DEFINED
    is_byte = by_bytes and len(name) == len("<0x00>") and name.startswith("<0x") and name.endswith(">")
    return TokenType.BYTE if is_byte else TokenType.NORMAL


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """Return the scores by which a sentencepiece tokenizer chooses what to merge: the earlier a piece, the higher."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    return [-float(ranks.get(token, len(merges))) for token in tokens]


def _begins_with_blank(tokenizer: PreTrainedTokenizerBase) -> bool:
    within = within_conversation(tokenizer)
    first = tokenizer.convert_ids_to_tokens(within("a", add_special_tokens=False).input_ids)[0]
    return bool(first.startswith("▁"))


def _check_blanks(told: dict[str, Any], processor: LlavaProcessor, place: Path) -> None:
    """Raise UserError where a tokenizer does more with blanks than sentencepiece; say where it does a little less."""
    normal, split = told["normalizer"] or {}, told["pre_tokenizer"]
    steps = normal["normalizers"] if normal.get("type") == "Sequence" else [normal] if normal else []
    is_plain = split is None or (split["type"] == "Metaspace" and not split["split"])
    if not is_plain or any(step["type"] not in ("Prepend", "Replace") for step in steps):
        raise UserError(f"{place}: its tokenizer normalises or splits text in a way that has no name in GGUF here")
    if within_conversation(processor.tokenizer) is not processor.tokenizer and processor.chat_template != CHAT_TEMPLATE:
        say(f"{place}: transformers puts a blank before the first word of a conversation, llama.cpp will not")


def _split_name(told: dict[str, Any], place: Path) -> str:
    split = told["pre_tokenizer"] or {}
    steps = split["pretokenizers"] if split.get("type") == "Sequence" else [split]
    # How offsets are told does not matter for tokens.
    steps = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    for name, known in _SPLITS.items():
        if steps == known:
            return name
    raise UserError(
        f"{place}: its tokenizer splits text in a way that has no name in GGUF here; {', '.join(_SPLITS)} and "
        "sentencepiece have"
    )
