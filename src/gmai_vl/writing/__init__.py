"""Instruction data from cases: facts, questions, wording, and the check that holds text against annotation."""

from gmai_vl.writing.asks import FORMS
from gmai_vl.writing.facts import CaseFacts, FindingFacts, facts_of
from gmai_vl.writing.given import write_given
from gmai_vl.writing.llm import Draft, LlmOptions, Written, llm_prompt_texts, prompts_version, write_with_llm
from gmai_vl.writing.markup import box_markup, boxes_markup, grounding_markup, parse_boxes, share_box
from gmai_vl.writing.phrases import prompt_texts
from gmai_vl.writing.templates import write_samples
from gmai_vl.writing.verify import check_sample
from gmai_vl.writing.verify_facts import MeasuredCase, measured

__all__ = [
    "FORMS",
    "CaseFacts",
    "Draft",
    "FindingFacts",
    "LlmOptions",
    "MeasuredCase",
    "Written",
    "box_markup",
    "boxes_markup",
    "check_sample",
    "facts_of",
    "grounding_markup",
    "llm_prompt_texts",
    "measured",
    "parse_boxes",
    "prompt_texts",
    "prompts_version",
    "share_box",
    "write_given",
    "write_samples",
    "write_with_llm",
]
