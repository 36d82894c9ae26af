"""One stage on a tiny model: what is frozen, what is learned, what the gradient is, when it stops."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from one_stage import learner_of, one_stage
from PIL import Image

from gmai_vl.corpus import Corpus, build
from gmai_vl.foundation import UserError
from gmai_vl.model import Batch, ModelSettings, Request, Vlm, build_model, generate, loss_sum, parts
from gmai_vl.records import Sample
from gmai_vl.training.dealing import Slot
from gmai_vl.training.feed import image_loader, micro_batches
from gmai_vl.training.fit import fitted, packs_of, plan_steps
from gmai_vl.training.gradients import backward
from gmai_vl.training.health import is_leap
from gmai_vl.training.loop import Totals
from gmai_vl.training.mixture import Mixture, training_mixture, validation_mixture
from gmai_vl.training.packing import PackLimits
from gmai_vl.training.recipe import Stage
from gmai_vl.training.tokens import open_tokens
from gmai_vl.training.words import telling_words


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "images")
    (folder / "data.yaml").write_text(
        "name: small\nlanguages: {en: 1}\nsplit: {train: 0.6, val: 0.2, test: 0.2}\n"
        "sources: [{name: pngs, format: folder, root: images, modality: X-ray, license: MIT}]\n"
    )
    build(folder / "data.yaml", folder / "corpus")
    return Corpus(folder / "corpus")


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("nodule", "normal tissue"):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 99, (40, 48), dtype=np.uint8)
            if label == "nodule":
                pixels[10:30, 10:30] = 250
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def stage(**changes: Any) -> Stage:
    defaults = {
        "name": "trial",
        "train": ["vision", "projector", "language"],
        "learning_rate": 1e-2,
        "global_batch": 4,
        "max_steps": 2,
        "mixture": [{"corpus": "small"}],
    }
    return Stage.model_validate(defaults | changes)


def tiny() -> Vlm:
    return build_model(ModelSettings(preset="tiny"), seed=0)


def mixture_of(trial: Stage, corpus: Corpus) -> Mixture:
    return training_mixture(trial, {"small": open_tokens(corpus, tiny().processor)}, seed=0)


def held_out_of(trial: Stage, corpus: Corpus) -> Mixture | None:
    return validation_mixture(trial, {"small": open_tokens(corpus, tiny().processor)}, seed=0)


def ids(mixture: Mixture) -> list[str]:
    return mixture.ids(range(len(mixture)))


def run(vlm: Vlm, trial: Stage, corpus: Corpus, out: Path, mixture: Mixture | None = None) -> Totals:
    chosen = mixture_of(trial, corpus) if mixture is None else mixture
    return one_stage(vlm, trial, chosen, out, held_out_of(trial, corpus))


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == kind]


def states(vlm: Vlm) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {key: value.clone() for key, value in part.state_dict().items()}
        for name, part in parts(vlm.model).items()
    }


@pytest.mark.parametrize("train", [["projector"], ["vision", "projector"], ["language"]])
def test_frozen_parts_stay_to_the_bit_and_the_others_move(corpus: Corpus, tmp_path: Path, train: list[str]) -> None:
    vlm = tiny()
    before = states(vlm)
    run(vlm, stage(train=train), corpus, tmp_path)
    for name, after in states(vlm).items():
        same = [torch.equal(before[name][key], value) for key, value in after.items()]
        assert all(same) if name not in train else not all(same)


def test_a_tiny_model_learns_eight_samples_by_heart(corpus: Corpus, tmp_path: Path) -> None:
    trial = stage(max_steps=40, global_batch=8)
    mixture = mixture_of(trial, corpus)
    closed = {sample.id for sample in corpus.samples() if sample.kind == "closed"}
    is_closed = np.array([name in closed for name in ids(mixture)])
    totals = run(tiny(), trial, corpus, tmp_path, mixture[is_closed][:8])
    first = events(tmp_path, "step")[0]["loss"]
    assert first > math.log(100)  # a random model knows nothing about its 260 tokens
    assert totals.loss < first / 10


def batches_of(vlm: Vlm, examples: Mixture, cut: Sequence[Sequence[int]], kind: torch.dtype) -> list[Batch]:
    fit = fitted(vlm.processor, examples, None, "trial")
    made = micro_batches(vlm.processor, image_loader(vlm.processor), fit, [(tuple(micro), True) for micro in cut])
    return [
        replace(batch, pixel_values=batch.pixel_values.to(kind)) for batch in made if batch.pixel_values is not None
    ]


def gradient(vlm: Vlm, batches: Sequence[Batch], supervised: int) -> torch.Tensor:
    vlm.model.zero_grad()
    slots = [Slot(number, True) for number in range(len(batches))]
    backward(learner_of(vlm), loss_sum, slots, batches, supervised, len(batches))
    return torch.cat([weight.grad.flatten() for weight in vlm.model.parameters() if weight.grad is not None])


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_the_gradient_does_not_depend_on_how_a_batch_is_cut(
    corpus: Corpus, kind: torch.dtype, tolerance: float
) -> None:
    vlm = tiny()
    vlm.model.to(kind)
    examples = mixture_of(stage(), corpus)[:8]
    supervised = examples.numbers("supervised").tolist()
    together = gradient(vlm, batches_of(vlm, examples, [range(8)], kind), sum(supervised))
    apart = batches_of(vlm, examples, [[index] for index in range(8)], kind)
    difference = gradient(vlm, apart, sum(supervised)) - together
    assert difference.norm() < tolerance * together.norm()

    # The mean of the samples' means, which most trainers take, is another gradient.
    means = sum(gradient(vlm, [batch], 8 * count) for batch, count in zip(apart, supervised, strict=True))
    assert (means - together).norm() > 0.1 * together.norm()


def limits(length: int, most_images: int = 4, too_long: Literal["cut", "quarantine"] = "cut") -> PackLimits:
    return PackLimits(packing="bfd", length=length, most_images=most_images, too_long=too_long)


def test_a_step_on_packs_is_the_step_on_the_samples_in_them(corpus: Corpus, tmp_path: Path) -> None:
    trial = stage(max_steps=1, global_batch=500)
    examples = mixture_of(trial, corpus)
    packed, apart = tiny(), tiny()
    one = one_stage(packed, trial, examples, tmp_path / "packed", limits=limits(1024))
    other = one_stage(apart, trial, examples, tmp_path / "apart")
    assert (one.samples, one.tokens) == (other.samples, other.tokens) == (len(examples), one.tokens)
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    norms = [events(tmp_path / name, "step")[0]["gradient_norm"] for name in ("packed", "apart")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_an_epoch_of_packs_holds_every_sample_once(corpus: Corpus) -> None:
    examples = mixture_of(stage(), corpus)
    packed = limits(int(examples.numbers("tokens").max()) + 20)
    trial = stage(epochs=2, max_steps=None, global_batch=2)
    sizes = fitted(tiny().processor, examples, packed, "trial").sizes
    steps = plan_steps(trial, sizes, packs_of(sizes, packed, seed=0), seed=0)
    plan = list(steps.after(0))
    first, second = plan[: len(plan) // 2], plan[len(plan) // 2 :]
    for epoch in (first, second):
        assert sorted(i for step in epoch for pack in step for i in pack) == list(range(len(examples)))
    assert first != second
    assert all(len(step) <= 2 for step in plan)


@pytest.mark.parametrize("too_long", ["cut", "quarantine"])
def test_samples_longer_than_a_pack_are_cut_or_left_out_and_named(
    corpus: Corpus, tmp_path: Path, too_long: Literal["cut", "quarantine"]
) -> None:
    trial = stage(max_steps=None, epochs=1)
    examples = mixture_of(trial, corpus)
    vlm = tiny()
    encoded = [examples.read(index).encoded for index in range(len(examples))]
    length = sorted(len(one.input_ids) for one in encoded)[len(encoded) // 2]
    names = ids(examples)
    longer = {name for name, one in zip(names, encoded, strict=True) if len(one.input_ids) > length}
    unusable = {name for name, one in zip(names, encoded, strict=True) if max(one.labels[:length]) < 0}
    totals = one_stage(vlm, trial, examples, tmp_path / "out", limits=limits(length, too_long=too_long))
    (told,) = events(tmp_path / "out", "too long")
    assert longer > unusable
    assert set(told["left_out"]) == (longer if too_long == "quarantine" else unusable)
    assert set(told["cut"]) == (set() if too_long == "quarantine" else longer - unusable)
    assert totals.left_out == len(told["left_out"])
    assert totals.samples == len(examples) - totals.left_out
    assert max(row["tokens"] / row["samples"] for row in events(tmp_path / "out", "step")) <= length


def test_the_sizes_of_what_is_cut_are_those_of_what_is_fed(corpus: Corpus) -> None:
    vlm = tiny()
    examples = mixture_of(stage(), corpus)
    packed = limits(int(np.median(examples.numbers("tokens"))))
    fit = fitted(vlm.processor, examples, packed, "trial")
    assert 0 < len(fit.cut) < len(fit.mixture)
    for index in range(len(fit.mixture)):
        (batch,) = micro_batches(vlm.processor, image_loader(vlm.processor), fit, [((index,), False)])
        images = 0 if batch.pixel_values is None else len(batch.pixel_values)
        sizes = (fit.sizes.tokens_N[index], fit.sizes.supervised_N[index], fit.sizes.images_N[index])
        assert sizes == (batch.input_ids.numel(), int((batch.labels >= 0).sum()), images)


def test_a_mixture_of_which_nothing_fits_into_a_pack_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    examples = mixture_of(stage(), corpus)
    with pytest.raises(UserError, match=r"none of .* samples fits into a pack of 3 tokens"):
        one_stage(tiny(), stage(), examples, tmp_path / "out", limits=limits(3))


def test_held_out_samples_are_cut_as_those_to_learn(corpus: Corpus, tmp_path: Path) -> None:
    trial = stage(max_steps=1, validation={"every": 1})
    examples, held_out = mixture_of(trial, corpus), held_out_of(trial, corpus)
    assert held_out is not None
    shortest = int(held_out.numbers("tokens").min())
    totals = one_stage(tiny(), trial, examples, tmp_path / "out", held_out, limits=limits(shortest))
    assert totals.validation_loss is not None and math.isfinite(totals.validation_loss)
    assert len(events(tmp_path / "out", "too long")) == 2


def test_bf16_computes_nearly_the_same_and_keeps_weights_in_fp32(corpus: Corpus, tmp_path: Path) -> None:
    examples = mixture_of(stage(), corpus)
    losses = {}
    for precision in ("fp32", "bf16"):
        vlm = tiny()
        losses[precision] = one_stage(vlm, stage(), examples, tmp_path / precision, precision=precision).loss
        assert {weight.dtype for weight in vlm.model.parameters()} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_a_loss_that_is_not_finite_stops_the_run_names_its_samples_and_changes_nothing(
    corpus: Corpus, tmp_path: Path
) -> None:
    vlm = tiny()
    before = states(vlm)
    letter = vlm.processor.tokenizer("X").input_ids[0]

    def poison(_: object, ids: tuple[torch.Tensor], embedded: torch.Tensor) -> torch.Tensor:
        return embedded.masked_fill((ids[0] == letter)[..., None], math.nan)

    vlm.model.get_input_embeddings().register_forward_hook(poison)
    trial = stage(global_batch=100, micro_batch_tokens=1, max_steps=1)
    examples = mixture_of(trial, corpus)
    encoded = [examples.read(index).encoded for index in range(len(examples))]
    ill = {name for name, one in zip(ids(examples), encoded, strict=True) if letter in one.input_ids}
    assert 8 < len(ill) < len(examples)
    with pytest.raises(UserError, match=r"stage trial, step 1: the loss is not finite") as error:
        run(vlm, trial, corpus, tmp_path)
    assert set(events(tmp_path, "stopped")[0]["sample_ids"]) == ill
    assert sum(name in str(error.value) for name in ill) == 8
    assert all(
        torch.equal(before[name][key], value) for name, part in states(vlm).items() for key, value in part.items()
    )


def test_a_gradient_that_is_not_finite_stops_the_run_too(corpus: Corpus, tmp_path: Path) -> None:
    vlm = tiny()
    next(parts(vlm.model)["projector"].parameters()).register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(UserError, match="the gradient is not finite"):
        run(vlm, stage(), corpus, tmp_path)
    assert len(events(tmp_path, "stopped")[0]["sample_ids"]) == 4


def test_a_loss_that_leaps_stops_the_run_before_it_does_harm_and_names_the_samples(
    corpus: Corpus, tmp_path: Path
) -> None:
    vlm = tiny()
    trial = stage(max_steps=60, global_batch=2, learning_rate=1e-3, micro_batch_tokens=1)
    steps = 0

    def spoil(_: object, states: tuple[torch.Tensor], output: Any) -> Any:
        nonlocal steps
        steps += torch.is_grad_enabled()
        return output * -20 if steps > 2 * 40 else output  # two micro-batches a step: from step 41 on

    vlm.model.model.language_model.norm.register_forward_hook(spoil)
    with pytest.raises(UserError, match=r"stage trial, step 41: the loss leapt to .*raise `stop_at_leap`") as error:
        one_stage(vlm, trial, mixture_of(trial, corpus), tmp_path, stop_at_leap=3.0)
    rows = events(tmp_path, "step")
    assert rows[-1]["step"] == 40
    (told,) = events(tmp_path, "stopped")
    assert len(told["sample_ids"]) == 2
    assert all(name in str(error.value) for name in told["sample_ids"])


@pytest.mark.parametrize(
    ("loss", "before", "times", "leaps"),
    [
        (4.1, [1.0] * 32, 4.0, True),
        (3.9, [1.0] * 32, 4.0, False),
        (4.1, [1.0] * 31, 4.0, False),  # too few to know what is usual
        (4.1, [9.0] * 40 + [1.0] * 32, 4.0, True),  # the last ones count
        (0.9, [0.1] * 32, 4.0, False),  # nine times nearly nothing
        (99.0, [1.0] * 32, None, False),
        (4.1, [1.0] * 17 + [9.0] * 15, 4.0, True),
    ],
)
def test_what_a_leap_is(loss: float, before: list[float], times: float | None, leaps: bool) -> None:
    assert is_leap(loss, before, times) == leaps


def test_the_validation_loss_is_the_mean_over_all_tokens_of_the_held_out_samples(
    corpus: Corpus, tmp_path: Path
) -> None:
    vlm = tiny()
    trial = stage(max_steps=3, validation={"every": 2, "samples": 7})
    totals = run(vlm, trial, corpus, tmp_path)
    held_out = held_out_of(trial, corpus)
    assert held_out is not None and len(held_out) == 7
    assert {corpus.sample(name).split for name in ids(held_out)} == {"val"}
    with torch.no_grad():
        alone = [
            loss_sum(vlm.model, batch) for batch in batches_of(vlm, held_out, [[i] for i in range(7)], torch.float32)
        ]
    expected = sum(float(loss) for loss, _ in alone) / sum(count for _, count in alone)
    assert totals.validation_loss == pytest.approx(expected, rel=1e-5)
    rows = events(tmp_path, "validation")
    assert [row["step"] for row in rows] == [2, 3]
    kinds = [corpus.sample(name).kind for name in ids(held_out)]
    assert set(rows[-1]["accuracy_by_kind"]) == set(kinds)
    shares = [rows[-1]["accuracy_by_kind"][kind] for kind in kinds]
    assert rows[-1]["accuracy"] == pytest.approx(sum(shares) / 7)


def test_the_accuracy_on_held_out_samples_is_that_of_greedy_decoding(corpus: Corpus, tmp_path: Path) -> None:
    vlm = tiny()
    # Yes or no, by heart: what is held out is then partly right.
    trial = stage(max_steps=40, global_batch=8, validation={"every": 40}, mixture=[{"corpus": "small"}])
    closed = {sample.id for sample in corpus.samples() if sample.kind == "closed"}
    chosen, held_out = mixture_of(trial, corpus), held_out_of(trial, corpus)
    assert held_out is not None
    chosen, held_out = (some[np.array([name in closed for name in ids(some)])] for some in (chosen, held_out))
    one_stage(vlm, trial, chosen, tmp_path, held_out)
    (row,) = events(tmp_path, "validation")
    right = []
    for name in ids(held_out):
        sample = corpus.sample(name)
        images = tuple(corpus.image(image) for image in sample.images)
        (said,) = generate(vlm, [Request(sample.turns[:1], images)], max_new_tokens=40, batch_size=1)
        right.append(said == sample.turns[1].text)
    assert row["accuracy"] == sum(right) / len(right) == row["accuracy_by_kind"]["closed"]
    assert sum(right) > 0


def test_an_objective_of_words_learns_to_tell_the_images_apart(corpus: Corpus, tmp_path: Path) -> None:
    trial = stage(
        train=["vision", "projector"],
        objective="words",
        learning_rate=3e-3,
        max_steps=40,
        global_batch=10,
        mixture=[{"corpus": "small", "forms": ["caption"]}],
        validation={"every": 40},
    )
    vlm = tiny()
    before = states(vlm)["language"]
    totals = run(vlm, trial, corpus, tmp_path)
    assert totals.loss < events(tmp_path, "step")[0]["loss"] / 2
    assert totals.validation_loss is not None and math.isfinite(totals.validation_loss)
    assert all(torch.equal(before[key], value) for key, value in states(vlm)["language"].items())


def test_telling_words_are_said_of_some_images_and_not_of_most(corpus: Corpus) -> None:
    examples = mixture_of(stage(mixture=[{"corpus": "small", "forms": ["caption"]}]), corpus)
    words = telling_words(examples, "align").tolist()
    answers = [set(examples.read(index).encoded.labels) - {-100} for index in range(len(examples))]
    uses = {word: sum(word in answer for answer in answers) for word in set().union(*answers)}
    assert words == sorted(word for word, count in uses.items() if 3 <= count <= 0.6 * len(answers))
    assert 0 < len(words) < len(uses)


def test_answers_that_an_objective_of_words_cannot_use_are_told(corpus: Corpus) -> None:
    examples = mixture_of(stage(mixture=[{"corpus": "small", "forms": ["caption"]}]), corpus)
    with pytest.raises(UserError, match="stage align: no word is used by some but not most of its 2 answers"):
        telling_words(examples[:2], "align")


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"forms": ["caption", "modality"]}, lambda s: s.provenance.facts["form"] in ("caption", "modality")),
        ({"subsets": ["caption"]}, lambda s: s.subset == "caption"),
        ({"min_words": 4}, lambda s: len(" ".join(t.text for t in s.turns if t.role == "assistant").split()) >= 4),
    ],
)
def test_a_stage_learns_from_training_samples_that_pass_its_filters_only(
    corpus: Corpus, filters: dict[str, Any], passes: Callable[[Sample], bool]
) -> None:
    examples = mixture_of(stage(mixture=[{"corpus": "small", "ratio": 1.5} | filters]), corpus)
    every = corpus.samples(split="train")
    named = {sample.id for sample in every if passes(sample)}
    assert set(ids(examples)) == named
    assert len(examples) == round(1.5 * len(named))
    assert 0 < len(named) < len(every)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mixture": [{"corpus": "small", "languages": ["zh"]}]}, "stage trial: mixture[0]: ratio 1 of the 0 training"),
        ({"mixture": [{"corpus": "small", "ratio": 1e-4}]}, "stage trial: mixture[0]: ratio 0.0001 of the"),
    ],
)
def test_a_part_of_the_mixture_that_comes_to_nothing_is_told(
    corpus: Corpus, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as error:
        mixture_of(stage(**changes), corpus)
    assert str(error.value).startswith(told)
