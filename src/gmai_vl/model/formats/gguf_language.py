"""The language model of a checkpoint as llama.cpp describes it: keys of its shape, names of its weights."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, RopeScalingType, get_tensor_name_map
from transformers import PretrainedConfig

from gmai_vl.foundation import UserError
from gmai_vl.model.formats.gguf_tokenizer import describe_tokenizer
from gmai_vl.model.formats.gguf_weights import Part, Weight, as_it_stands
from gmai_vl.model.formats.llama_rows import interleaved
from gmai_vl.model.vlm import Vlm

_ARCHITECTURES = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2}

_INSIDE, _HEAD = "model.language_model.", "lm_head."


def language_part(vlm: Vlm, place: Path) -> Part:
    """Return what a GGUF file says about the language model of a checkpoint.

    Raises UserError, naming the checkpoint `place`, where llama.cpp has no such model.
    """
    config = vlm.model.config.text_config
    if config.model_type not in _ARCHITECTURES:
        raise UserError(
            f"{place}: a `{config.model_type}` has no form in GGUF here; {' and '.join(_ARCHITECTURES)} have"
        )
    if config.hidden_act != "silu" or getattr(config, "use_sliding_window", False):
        raise UserError(f"{place}: another activation than silu, or a sliding window, has no form in GGUF here")
    scaling = _scaling(config, place)
    rows = vlm.model.get_input_embeddings().num_embeddings

    def describe(writer: GGUFWriter) -> None:
        _describe_shape(writer, config, rows, scaling)
        describe_tokenizer(writer, vlm.processor, rows, place)

    arch = _ARCHITECTURES[config.model_type]
    return Part(MODEL_ARCH_NAMES[arch], describe, list(_weights(vlm, config, arch, place)))


def _describe_shape(writer: GGUFWriter, config: PretrainedConfig, rows: int, scaling: float | None) -> None:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(rows)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if scaling is not None:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling)


def _scaling(config: PretrainedConfig, place: Path) -> float | None:
    """Return the factor that positions are divided by, None for none.

    Dynamic scaling has no counterpart, and none within the context length that is written (InternLM2.5: 32,768).
    """
    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "dynamic", "linear"):
        raise UserError(
            f"{place}: scaling of positions of type `{kind}` has no form in GGUF here; dynamic and linear have"
        )
    return float(rope["factor"]) if kind == "linear" else None


def _weights(vlm: Vlm, config: PretrainedConfig, arch: MODEL_ARCH, place: Path) -> Iterator[Weight]:
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in vlm.model.state_dict().items():
        if not name.startswith((_INSIDE, _HEAD)) or (name.startswith(_HEAD) and config.tie_word_embeddings):
            continue
        theirs = names.get_name(name.replace(_INSIDE, "model.", 1), try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise UserError(f"{place}: weight {name} has no name in GGUF")
        module = name.split(".")[-2]
        turned = arch == MODEL_ARCH.LLAMA and module in heads
        change = partial(interleaved, heads=heads[module]) if turned else as_it_stands
        yield Weight(name, theirs, tuple(weight.shape), change)
