"""Texts by a language model: guided by the annotation, held against it, translated, with their history."""

from gmai_vl.writing.llm.brief import brief_of
from gmai_vl.writing.llm.drafts import Attempt, Draft, Drafted, Outcome
from gmai_vl.writing.llm.jobs import Job, jobs_of
from gmai_vl.writing.llm.prompts import llm_prompt_texts, prompts_version
from gmai_vl.writing.llm.writer import LlmOptions, Written, sent_image, within, write_job, write_with_llm

__all__ = [
    "Attempt",
    "Draft",
    "Drafted",
    "Job",
    "LlmOptions",
    "Outcome",
    "Written",
    "brief_of",
    "jobs_of",
    "llm_prompt_texts",
    "prompts_version",
    "sent_image",
    "within",
    "write_job",
    "write_with_llm",
]
