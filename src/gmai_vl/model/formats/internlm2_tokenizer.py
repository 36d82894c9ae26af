"""InternLM2's tokenizer, a sentencepiece model with code of its own, as one of `tokenizers` that needs no code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from gmai_vl.foundation import UserError

_NORMAL, _CONTROL, _USER_DEFINED, _BPE = 1, 3, 4, 2
"""Values in a sentencepiece file: types of pieces, and the type of model that InternLM2 has."""

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


def convert_tokenizer(source: Path, target: Path) -> None:
    """Write the tokenizer of the InternLM2 in `source` to `target`: the same ids, and the same token for each special.

    As in InternLM2's own fast tokenizer, texts begin with a blank where the file says so, no blanks are drawn together,
    and tokens of tokenizer_config.json stand in place of pieces that were left free for them. Raises UserError where a
    file is missing or damaged.
    """
    model = _model(source / "tokenizer.model")
    told = _told(source / "tokenizer_config.json")
    added = _added(model, told, source / "tokenizer_config.json")
    names = [piece.piece for piece in model.pieces]
    for number, token in added.items():
        names[number : number + 1] = [token.content]  # those beyond the end are appended, in order
    vocabulary = {name: number for number, name in enumerate(names)}
    if len(vocabulary) < len(names):
        raise UserError(f"{source / 'tokenizer_config.json'}: a token of `added_tokens_decoder` has a piece's name too")
    bpe = Tokenizer(
        BPE(vocabulary, _merges(model, vocabulary, added), unk_token=_unknown(model), fuse_unk=True, byte_fallback=True)
    )
    begins_blank = model.normalizer_spec.add_dummy_prefix
    blank = normalizers.Replace(" ", "▁")
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blank] if begins_blank else [blank])
    spoken = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    bpe.decoder = decoders.Sequence([*spoken, decoders.Strip(" ", 1, 0)] if begins_blank else spoken)
    for token in added.values():
        (bpe.add_special_tokens if token.special else bpe.add_tokens)([token])
    named = {key: _content(told[key]) for key in _NAMED if told.get(key)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **named)
    if isinstance(told.get("chat_template"), str):
        tokenizer.chat_template = told["chat_template"]
    tokenizer.save_pretrained(target)


def _model(file: Path) -> Any:
    model = ModelProto()
    try:
        model.ParseFromString(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{file}: is missing; fetch it again") from None
    except DecodeError as error:
        raise UserError(f"{file}: is no sentencepiece model: {error}; fetch it again") from error
    if model.trainer_spec.model_type != _BPE or not model.pieces:
        raise UserError(f"{file}: is no sentencepiece model of type BPE, which InternLM2 has")
    return model


def _told(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: is missing; fetch it again") from None
    except ValueError as error:
        raise UserError(f"{file}: is no JSON: {error}; fetch it again") from error
    if not isinstance(told, dict):
        raise UserError(f"{file}: holds no object; fetch it again")
    return told


def _added(model: Any, told: Mapping[str, Any], place: Path) -> dict[int, AddedToken]:
    """Return the tokens that are looked for before anything else, by their ids in order."""
    added = {
        number: AddedToken(piece.piece, special=piece.type == _CONTROL, normalized=False)
        for number, piece in enumerate(model.pieces)
        if piece.type in (_CONTROL, _USER_DEFINED)
    }
    try:
        for number, token in told.get("added_tokens_decoder", {}).items():
            flags = {key: token[key] for key in ("lstrip", "rstrip", "single_word", "normalized", "special")}
            added[int(number)] = AddedToken(token["content"], **flags)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{place}: `added_tokens_decoder` cannot be read: {error}; fetch it again") from error
    beyond = [number for number in sorted(added) if number >= len(model.pieces)]
    if beyond != list(range(len(model.pieces), len(model.pieces) + len(beyond))):
        raise UserError(f"{place}: `added_tokens_decoder` leaves ids free after {len(model.pieces) - 1}")
    return dict(sorted(added.items()))


def _merges(model: Any, vocabulary: Mapping[str, int], added: Mapping[int, AddedToken]) -> list[tuple[str, str]]:
    """Return the pairs that become a piece, the best piece first: sentencepiece keeps pieces with scores, no pairs."""
    pairs: list[tuple[float, str, str]] = []
    for number, piece in enumerate(model.pieces):
        if piece.type != _NORMAL or number in added:
            continue
        halves = ((piece.piece[:cut], piece.piece[cut:]) for cut in range(1, len(piece.piece)))
        pairs += [(-piece.score, left, right) for left, right in halves if left in vocabulary and right in vocabulary]
    pairs.sort(key=lambda pair: pair[0])
    return [(left, right) for _, left, right in pairs]


def _unknown(model: Any) -> str:
    return str(model.trainer_spec.unk_piece)


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
