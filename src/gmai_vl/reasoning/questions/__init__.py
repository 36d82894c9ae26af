"""Questions to reason about: made from corpora, or read from a file in the form of GMAI-Reasoning10K."""

from gmai_vl.reasoning.questions.build import Built, build_questions, import_questions

__all__ = ["Built", "build_questions", "import_questions"]
