"""The vision-language model: parts, presets, conversations as tokens, loss, generation, checkpoints."""

from gmai_vl.model.asked import Request, Sampling, rows_at_once
from gmai_vl.model.attention import SHORT_SEGMENT
from gmai_vl.model.backbones import BACKBONES, Backbone, backbone_path, cache_folder, is_present, pull
from gmai_vl.model.build import build_model, new_conversations
from gmai_vl.model.chatml import IGNORED, Batch, Encoded, collate, cut_to, encode, encode_many, encode_prompt
from gmai_vl.model.checkpoint import load_model, load_to_answer, save_model
from gmai_vl.model.formats.gguf_export import GgufFile, export_gguf
from gmai_vl.model.generate import Answer, generate, respond
from gmai_vl.model.images import image_side, image_token_count, prepare_image
from gmai_vl.model.likelihood import Weighing, mean_losses
from gmai_vl.model.loss import answers, loss_sum, words_loss_sum
from gmai_vl.model.outline import outline
from gmai_vl.model.presets import PRESETS, ModelSettings, backbone_records
from gmai_vl.model.vlm import Count, Vlm, count_parameters, parts, set_trainable

__all__ = [
    "BACKBONES",
    "IGNORED",
    "PRESETS",
    "SHORT_SEGMENT",
    "Answer",
    "Backbone",
    "Batch",
    "Count",
    "Encoded",
    "GgufFile",
    "ModelSettings",
    "Request",
    "Sampling",
    "Vlm",
    "Weighing",
    "answers",
    "backbone_path",
    "backbone_records",
    "build_model",
    "cache_folder",
    "collate",
    "count_parameters",
    "cut_to",
    "encode",
    "encode_many",
    "encode_prompt",
    "export_gguf",
    "generate",
    "image_side",
    "image_token_count",
    "is_present",
    "load_model",
    "load_to_answer",
    "loss_sum",
    "mean_losses",
    "new_conversations",
    "outline",
    "parts",
    "prepare_image",
    "pull",
    "respond",
    "rows_at_once",
    "save_model",
    "set_trainable",
    "words_loss_sum",
]
