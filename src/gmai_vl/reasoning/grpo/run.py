"""A reinforcement learning from recipe to checkpoint, that goes on after it was stopped."""

import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback
from trl import GRPOConfig

from gmai_vl import __version__
from gmai_vl.evaluation import Question, checkpoint_sha256, choose, judge
from gmai_vl.foundation import UserError, code_identity, say
from gmai_vl.model import Request, Vlm, load_model, respond, rows_at_once, save_model, set_trainable
from gmai_vl.model.vlm import quiet_loading
from gmai_vl.reasoning.cases import Cases, find_cases
from gmai_vl.reasoning.grpo.checks import check_images, check_packages, check_shown, check_words
from gmai_vl.reasoning.grpo.claim import FINAL, STATE, check_place, claim, goes_on, told_of
from gmai_vl.reasoning.grpo.data import dataset_of, of_difficulty, with_shuffled_labels
from gmai_vl.reasoning.grpo.recipe import GrpoRecipe
from gmai_vl.reasoning.grpo.telemetry import Log, faults_of, last_state
from gmai_vl.reasoning.grpo.trainer import RewardedAnswers, Trainer
from gmai_vl.reasoning.items import Items, read_items
from gmai_vl.reasoning.rewards import Rewarded, format_reward, reward
from gmai_vl.training.adapters import add_adapters, freeze_all_but_adapters, merged
from gmai_vl.training.precision import resolve_precision


def grpo(recipe: GrpoRecipe, *, base: Path, overwrite: bool = False, resume: bool = False) -> Path:
    """Train as `recipe` says and return OUT/final, a checkpoint like any other.

    Paths of the recipe are relative to `base`. OUT/state/ is what `resume` goes on from, OUT/log.jsonl tells how it
    went. Raises UserError if the model or the questions cannot be used, or OUT holds anything that is neither to be
    removed (`overwrite`) nor to go on with (`resume`); then nothing was written or removed.
    """
    out, init, folder = ((base / path).resolve() for path in (recipe.out, recipe.model.init, recipe.questions))
    check_place(out, init, folder, overwrite=overwrite, resume=resume)
    model_sha256 = checkpoint_sha256(init)
    items = read_items(folder, "train", recipe.prompt)
    questions = of_difficulty(items.questions, items.about, recipe.difficulty, model_sha256)
    if recipe.shuffle_labels:
        questions = with_shuffled_labels(questions, recipe.seed)
    cases = find_cases(folder, items.about if recipe.rewards.facts else {})
    told = told_of(recipe, model_sha256, folder, questions, cases)
    resumed = resume and goes_on(out, told)
    if resumed and (out / FINAL).is_dir():
        say(f"{recipe.name}: is finished, there is nothing to resume")
        return out / FINAL

    if len(questions) < recipe.questions_per_step:
        raise UserError(f"questions_per_step: {recipe.questions_per_step} of {len(questions)} questions; lower it")
    check_packages(recipe)
    check_shown(questions)
    known = _known(recipe, questions, cases)
    unseen = _unseen(recipe, folder)
    for asked in (replace(items, questions=tuple(questions)), *([unseen] if unseen else ())):
        check_images(asked)
    vlm = _model(recipe, init)
    check_words(questions, vlm.processor)
    arguments = _arguments(recipe, out)
    # Only now: what is refused above leaves the folder, and an earlier run in it, as they were.
    if not resumed:
        claim(out, told)
    rewarded = RewardedAnswers(questions, partial(_judged, recipe, cases))
    say(f"{recipe.name}: {len(questions)} questions, {recipe.answers_per_step} answers a step")
    with quiet_loading(), Log(out, vlm, partial(_validated, vlm, recipe, unseen)) as log:
        trainer = Trainer(
            vlm,
            args=arguments,
            train_dataset=dataset_of(questions, items.image, vlm.processor),
            rewarded=rewarded,
            drop_settled=recipe.drop_settled,
            callbacks=[log],
        )
        trainer.remove_callback(PrinterCallback)
        state = last_state(out / STATE)
        log.begin(0 if state is None else int(state.name.rpartition("-")[2]))
        trainer.train(resume_from_checkpoint=None if state is None else str(state))
        return _save(recipe, vlm, base, told | known)


def _unseen(recipe: GrpoRecipe, folder: Path) -> Items | None:
    """Return the questions of a validation, the same ones every time; None where there is none."""
    if recipe.validation is None:
        return None
    items = read_items(folder, "val", recipe.prompt)
    return replace(items, questions=tuple(choose(items.questions, recipe.validation.questions, recipe.seed)))


def _model(recipe: GrpoRecipe, init: Path) -> Vlm:
    vlm = load_model(init, dtype=torch.float32)
    vlm.model.config._name_or_path = str(init)  # where TRL finds the base model, if the recipe has `kl`
    set_trainable(vlm.model, recipe.train)
    if recipe.lora:
        add_adapters(vlm.model, recipe.lora, seed=recipe.seed)
        freeze_all_but_adapters(vlm.model, recipe.lora.parts)
    return vlm


def _known(recipe: GrpoRecipe, questions: Sequence[Question], cases: Cases) -> dict[str, Any]:
    """Say how many questions have a case, where `facts` counts, and return what to keep of it."""
    if not recipe.rewards.facts:
        return {}
    unknown = Counter(cases.unknown[question.id] for question in questions if question.id in cases.unknown)
    known = len(questions) - unknown.total()
    why = "; ".join(f"{number}: {reason}" for reason, number in unknown.most_common())
    if not known:
        raise UserError(
            f"rewards.facts: {recipe.rewards.facts:g}, but none of the {len(questions)} questions in "
            f"{recipe.questions} has a known case ({why}); build them from corpora that are at hand, or set it to 0"
        )
    say(f"{recipe.name}: {known} of {len(questions)} questions have a case for `facts`{f' ({why})' if why else ''}")
    return {"cases": {"known": known, "unknown": dict(unknown)}}


def _judged(recipe: GrpoRecipe, cases: Cases, question: Question, response: str) -> Rewarded:
    return reward(question, response, recipe.rewards, cases.of(question.id))


def _validated(vlm: Vlm, recipe: GrpoRecipe, unseen: Items | None, step: int) -> dict[str, Any] | None:
    """Return how many greedy answers to unseen questions are right and well formed; None where it is not the time."""
    every = recipe.validation
    if every is None or unseen is None or (step % every.every and step != recipe.max_steps):
        return None
    questions = unseen.questions
    requests = [Request(asked.turns, tuple(unseen.image(name) for name in asked.images)) for asked in questions]
    answers = respond(vlm, requests, max_new_tokens=recipe.max_new_tokens, batch_size=rows_at_once(vlm))
    responses = {question.id: answer.text for question, answer in zip(questions, answers, strict=True)}
    judged = judge(questions, responses)
    return {
        "questions": len(questions),
        "accuracy": sum(entry.correct for entry in judged) / len(questions),
        "format": sum(format_reward(question, responses[question.id]) for question in questions) / len(questions),
        "tokens": sum(answer.tokens for answer in answers) / len(questions),
    }


def _arguments(recipe: GrpoRecipe, out: Path) -> GRPOConfig:
    """Return the recipe in TRL's words: one step for each batch of answers, one mean over all their tokens."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return GRPOConfig(
        output_dir=str(out / STATE),
        seed=recipe.seed,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=math.ceil(recipe.warmup_ratio * recipe.max_steps),
        per_device_train_batch_size=recipe.answers_at_once,
        gradient_accumulation_steps=recipe.answers_per_step // recipe.answers_at_once,
        num_generations=recipe.group,
        max_completion_length=recipe.max_new_tokens,
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        beta=recipe.kl,
        loss_type="dapo",
        bf16=resolve_precision(recipe.precision, device) == "bf16",
        use_cpu=device.type == "cpu",
        use_vllm=recipe.vllm is not None,
        vllm_mode="server",
        vllm_server_base_url=recipe.vllm.url if recipe.vllm else None,
        logging_steps=1,
        save_strategy="steps",
        save_steps=recipe.state.every,
        save_total_limit=recipe.state.keep,
        report_to="none",
        disable_tqdm=True,
        log_multimodal=False,
        dataloader_num_workers=0,
        gradient_checkpointing=False,
    )


def _save(recipe: GrpoRecipe, vlm: Vlm, base: Path, told: Mapping[str, Any]) -> Path:
    """Write OUT/final, and remove what a run only goes on from."""
    out, init, questions = ((base / path).resolve() for path in (recipe.out, recipe.model.init, recipe.questions))
    weights = dict(vlm.model.state_dict())
    provenance = {
        "name": recipe.name,
        "tool": f"gmai-vl {__version__}",
        "code": code_identity(),
        "stage": "grpo",
        "stages": [],
        **told,
        "questions": [{"path": str(questions), "fingerprint": told["questions_fingerprint"]}],
        "faults": faults_of(out),
        "origin": {"init": str(init)},
        "use": "research use only, not for diagnosis",
    }
    plain = merged(weights, recipe.lora) if recipe.lora else None
    save_model(vlm, out / FINAL, weights=plain, provenance=provenance)
    shutil.rmtree(out / STATE, ignore_errors=True)
    return out / FINAL
