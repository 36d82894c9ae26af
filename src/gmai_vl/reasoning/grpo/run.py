"""A reinforcement learning from recipe to checkpoint, that goes on after it was stopped."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback
from trl import GRPOConfig

from gmai_vl import __version__
from gmai_vl.evaluation import Question, checkpoint_sha256, choose, judge
from gmai_vl.foundation import UserError, canonical_json, code_identity, say, sha256_of_text, write_json
from gmai_vl.model import Request, Vlm, load_model, respond, rows_at_once, save_model, set_trainable
from gmai_vl.model.vlm import quiet_loading
from gmai_vl.reasoning.cases import Cases, find_cases
from gmai_vl.reasoning.grpo.data import dataset_of, of_difficulty, with_shuffled_labels
from gmai_vl.reasoning.grpo.recipe import GrpoRecipe
from gmai_vl.reasoning.grpo.telemetry import Log, last_state
from gmai_vl.reasoning.grpo.trainer import RewardedAnswers, Trainer
from gmai_vl.reasoning.items import Items, read_items
from gmai_vl.reasoning.rewards import Rewarded, format_reward, reward
from gmai_vl.training.adapters import add_adapters, freeze_all_but_adapters, merged
from gmai_vl.training.precision import resolve_precision

RUN, STATE, FINAL = "run.json", "state", "final"
"""What stands in the output folder, beside log.jsonl."""


def grpo(recipe: GrpoRecipe, *, base: Path, overwrite: bool = False, resume: bool = False) -> Path:
    """Train as `recipe` says and return OUT/final, a checkpoint like any other.

    Paths of the recipe are relative to `base`. OUT/state/ is what `resume` goes on from, OUT/log.jsonl tells how it
    went. Raises UserError if the model or the questions cannot be used, or OUT holds anything that is neither to be
    removed (`overwrite`) nor to go on with (`resume`).
    """
    out, init, folder = ((base / path).resolve() for path in (recipe.out, recipe.model.init, recipe.questions))
    items = read_items(folder, "train", recipe.prompt)
    cases = find_cases(folder, items.about if recipe.rewards.facts else {})
    told = _told(recipe, init, folder, items, cases)
    _claim(out, told, overwrite=overwrite, resume=resume)
    if (out / FINAL).is_dir():
        say(f"{recipe.name}: is finished, there is nothing to resume")
        return out / FINAL

    questions = of_difficulty(items.questions, items.about, recipe.difficulty, told["model_sha256"])
    if recipe.shuffle_labels:
        questions = with_shuffled_labels(questions, recipe.seed)
    if len(questions) < recipe.questions_per_step:
        raise UserError(f"questions_per_step: {recipe.questions_per_step} of {len(questions)} questions; lower it")
    known = _known(recipe, questions, cases)
    vlm = _model(recipe, init)
    rewarded = RewardedAnswers(questions, partial(_judged, recipe, cases))
    say(f"{recipe.name}: {len(questions)} questions, {recipe.answers_per_step} answers a step")
    unseen = read_items(folder, "val", recipe.prompt) if recipe.validation else None
    with quiet_loading(), Log(out, vlm, partial(_validated, vlm, recipe, unseen)) as log:
        trainer = Trainer(
            vlm,
            args=_arguments(recipe, out),
            train_dataset=dataset_of(questions, items.image, vlm.processor),
            rewarded=rewarded,
            drop_settled=recipe.drop_settled,
            vision_learns="vision" in recipe.train,
            callbacks=[log],
        )
        trainer.remove_callback(PrinterCallback)
        state = last_state(out / STATE)
        log.begin(0 if state is None else int(state.name.rpartition("-")[2]))
        trainer.train(resume_from_checkpoint=None if state is None else str(state))
        return _save(recipe, vlm, base, told | known, rewarded)


def _told(recipe: GrpoRecipe, init: Path, questions: Path, items: Items, cases: Cases) -> dict[str, Any]:
    """Return what makes a run this one and no other."""
    asked = [[question.id, question.stem, question.options, question.answer] for question in items.questions]
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"state"}),
        "model_sha256": checkpoint_sha256(init),
        "questions_sha256": _fingerprint(questions) or sha256_of_text(canonical_json(asked)),
        # A corpus that went or came while the run was stopped would change what answers earn.
        **({"cases_sha256": cases.sha256} if recipe.rewards.facts else {}),
    }


def _fingerprint(questions: Path) -> str | None:
    """Return the fingerprint of a folder of questions; None for one that was made by hand."""
    manifest = questions / "manifest.json"
    if not manifest.is_file():
        return None
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["fingerprint"])
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{manifest}: cannot be read: {error!r}; build the questions anew") from None


def _claim(out: Path, told: Mapping[str, Any], *, overwrite: bool, resume: bool) -> None:
    """Make the output folder this run's. Raises UserError where it is another's, or is not to be gone on with."""
    if overwrite:
        shutil.rmtree(out, ignore_errors=True)
    held = out / RUN
    if not held.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"{out}: holds other things; give another `out`, or --overwrite")
        write_json(held, dict(told))
        return
    if not resume:
        raise UserError(f"{out}: holds a run; --resume goes on with it, --overwrite begins anew")
    try:
        before = json.loads(held.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{held}: cannot be read: {error}; --overwrite begins anew") from None
    if other := sorted(key for key in told if before.get(key) != told[key]):
        raise UserError(f"{out}: was begun with another {' and '.join(other)}; --overwrite begins anew")


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
    questions = choose(unseen.questions, every.questions, recipe.seed)
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
    size = math.gcd(recipe.answers_per_step, recipe.micro_batch)
    return GRPOConfig(
        output_dir=str(out / STATE),
        seed=recipe.seed,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=math.ceil(recipe.warmup_ratio * recipe.max_steps),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=recipe.answers_per_step // size,
        num_generations=recipe.group,
        max_completion_length=recipe.max_new_tokens,
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        beta=recipe.kl,
        epsilon=recipe.clip,
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


def _save(recipe: GrpoRecipe, vlm: Vlm, base: Path, told: Mapping[str, Any], rewarded: RewardedAnswers) -> Path:
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
        "questions": [{"path": str(questions), "fingerprint": told["questions_sha256"]}],
        "faults": dict(rewarded.faults),
        "origin": {"init": str(init)},
        "use": "research use only, not for diagnosis",
    }
    plain = merged(weights, recipe.lora) if recipe.lora else None
    save_model(vlm, out / FINAL, weights=plain, provenance=provenance)
    shutil.rmtree(out / STATE, ignore_errors=True)
    return out / FINAL
