"""What would end a run later, looked for before it begins: questions, images and packages that cannot be used."""

from collections.abc import Sequence
from importlib.util import find_spec

from transformers import LlavaProcessor

from gmai_vl.evaluation import Question
from gmai_vl.foundation import UserError, progress
from gmai_vl.reasoning.grpo.recipe import GrpoRecipe
from gmai_vl.reasoning.items import Items


def check_packages(recipe: GrpoRecipe) -> None:
    """Raise UserError where the recipe wants a package that is not installed."""
    if recipe.vllm and find_spec("vllm") is None:
        raise UserError("vllm: the package vllm is not installed; install it, or take `vllm` out of the recipe")


def check_shown(questions: Sequence[Question]) -> None:
    """Raise UserError where some questions show images and others none, which TRL cannot put in one batch."""
    blind = next((question for question in questions if not question.images), None)
    seeing = next((question for question in questions if question.images), None)
    if blind and seeing:
        raise UserError(f"questions: `{blind.id}` has no image and `{seeing.id}` has; leave the ones or the others out")


def check_images(asked: Items) -> None:
    """Read each image once. Raises UserError, naming file and question, for the first that cannot be read."""
    names = list(dict.fromkeys(name for question in asked.questions for name in question.images))
    for name in progress(names, "reading images", len(names)):
        asked.image(name)


def check_words(questions: Sequence[Question], processor: LlavaProcessor) -> None:
    """Raise UserError, naming the question, where one says what the model reads as no words.

    TRL tokenizes a whole conversation at once, and takes such letters for the token. Everywhere else they are letters
    (`model.chatml.text_tokens`), so that the model would be taught another question than it is asked.
    """
    added = processor.tokenizer.added_tokens_decoder.values()
    control = sorted({processor.image_token, *(token.content for token in added if token.special)})
    for question in questions:
        said = "\n".join(turn.text for turn in question.turns)
        if found := next((token for token in control if token in said), None):
            raise UserError(
                f"questions: `{question.id}` says {found}, which is a control token of the model; say it in other "
                "words, or leave this one out"
            )
