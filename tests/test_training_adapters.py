"""LoRA and layers that are computed again: what learns, what is saved, what stays the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from many_ranks import outcomes
from one_stage import learner_of
from phantoms import build_phantoms
from safetensors.torch import load_file
from torch import nn

from gmai_vl.foundation import UserError
from gmai_vl.model import Encoded, ModelSettings, Vlm, build_model, collate, load_model, loss_sum, save_model
from gmai_vl.training import TrainRecipe, train
from gmai_vl.training.adapters import add_adapters, freeze_all_but_adapters, merged
from gmai_vl.training.modes import set_modes
from gmai_vl.training.recipe import Lora, Stage

LANGUAGE = Lora(parts=("language",), rank=4, alpha=8)


def tiny(preset: str = "tiny-clip") -> Vlm:
    return build_model(ModelSettings(preset=preset), seed=0)


def loss(vlm: Vlm) -> torch.Tensor:
    ids = list(range(100, 140))
    batch = collate(vlm.processor, [Encoded(ids, [-100] * 20 + ids[20:])], [])
    return loss_sum(vlm.model, batch)[0]


def shake(model: nn.Module) -> None:
    """Change the adapters, which begin as no change."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_" in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))


def test_adapters_begin_as_no_change_and_are_all_that_learns() -> None:
    vlm = tiny()
    before = loss(vlm)
    add_adapters(vlm.model, LANGUAGE, seed=0)
    assert torch.equal(loss(vlm), before)
    freeze_all_but_adapters(vlm.model, ("language",))
    loss(vlm).backward()
    learnt = {name for name, weight in vlm.model.named_parameters() if weight.grad is not None}
    layers = [name for name, module in vlm.model.model.language_model.named_modules() if type(module) is nn.Linear]
    assert all(".lora_" in name and "language_model" in name for name in learnt)
    # q, k, v, o, gate, up, down of two layers, two matrices each
    assert len(learnt) == 2 * 7 * 2
    assert all("lora" in name or "base_layer" in name for name in layers)


def test_merged_weights_give_the_outputs_of_the_model_with_adapters() -> None:
    with_adapters, plain = tiny(), tiny()
    both = Lora(parts=("vision", "language"), rank=4, alpha=8)
    add_adapters(with_adapters.model, both, seed=0)
    shake(with_adapters.model)
    plain.model.load_state_dict(merged(with_adapters.model.state_dict(), both))
    with torch.no_grad():
        assert float(loss(plain)) == pytest.approx(float(loss(with_adapters)), rel=1e-5)
        assert abs(float(loss(plain)) - float(loss(tiny()))) > 0.1
    pixels = torch.randn(1, 3, 32, 32)
    seen = [vlm.model.get_image_features(pixel_values=pixels).pooler_output[0] for vlm in (with_adapters, plain)]
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-5)


def stage(**changes: Any) -> dict[str, Any]:
    return {
        "name": "adapt",
        "train": ["projector", "language"],
        "learning_rate": 1e-2,
        "global_batch": 4,
        "max_steps": 3,
        "mixture": [{"corpus": "corpus"}],
    } | changes


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    build_phantoms(folder)
    return folder


def recipe(out: str) -> TrainRecipe:
    lora = {"parts": ["language"], "rank": 4, "alpha": 8, "dropout": 0.1}
    stages = [stage(name="first", lora=lora), stage(name="second", train=["projector"])]
    data = {"name": "t", "out": out, "precision": "fp32", "model": {"preset": "tiny"}, "state": {"every": 2}}
    return TrainRecipe.model_validate(data | {"stages": stages})


def train_here(base: Path, out: str) -> None:
    train(recipe(out), base=base)


def start_of(base: Path) -> dict[str, torch.Tensor]:
    save_model(tiny("tiny"), base / "start")
    return load_file(base / "start" / "model.safetensors")


def test_a_stage_with_adapters_is_saved_as_a_plain_checkpoint_and_the_next_goes_on_from_it(base: Path) -> None:
    train_here(base, "one")
    first, second = (load_file(base / "one" / name / "model.safetensors") for name in ("first", "second"))
    start = start_of(base)
    assert start.keys() == first.keys()
    changed = {name for name, weight in first.items() if not torch.equal(weight, start[name])}
    assert {name.split(".")[-2] for name in changed if "language_model" in name} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert {name for name in first if not torch.equal(first[name], second[name])} == {
        name for name in first if "multi_modal_projector" in name
    }
    assert load_model(base / "one" / "first").model.config.text_config.num_hidden_layers == 2
    facts = json.loads((base / "one" / "first" / "provenance.json").read_text())
    assert facts["recipe"]["stages"][0]["lora"]["rank"] == 4


def test_two_ranks_train_adapters_as_one_does(base: Path) -> None:
    train_here(base, "alone")
    for outcome in outcomes(2, train_here, base, "together"):
        assert outcome.code == 0, outcome.error
    alone, together = (load_file(base / out / "second" / "model.safetensors") for out in ("alone", "together"))
    start = start_of(base)
    for name, weight in alone.items():
        drift, way = ((other - weight).double().norm() for other in (together[name], start[name]))
        # Dropout falls elsewhere on two ranks, so the ways are alike, not the same.
        assert drift <= 0.5 * way, name


@pytest.mark.parametrize("train", [["projector"], ["vision", "projector", "language"]])
def test_layers_that_are_computed_again_give_the_same_gradients(train: list[str]) -> None:
    gradients = []
    calls = []
    for again in ([], ["vision", "language"]):
        vlm = tiny()
        chosen = Stage.model_validate(stage(train=train, gradient_checkpointing=again))
        learner = learner_of(vlm)
        learner.learn(chosen.train)
        set_modes(vlm.model, chosen)
        count = 0

        def one_more(*_: object) -> None:
            nonlocal count
            count += 1

        vlm.model.model.language_model.layers[0].mlp.register_forward_pre_hook(one_more)
        pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        image = [vlm.processor.image_token_id] * 16
        ids = [100, *image, 101, 102, 103]
        batch = collate(vlm.processor, [Encoded(ids, [-100] * 17 + ids[17:], (0,))], [pixels[0]])
        loss_sum(vlm.model, batch)[0].backward()
        gradients.append({n: w.grad.clone() for n, w in vlm.model.named_parameters() if w.grad is not None})
        calls.append(count)
    assert calls == [1, 2]
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_a_tower_without_such_layers_is_told() -> None:
    chosen = Stage.model_validate(stage(gradient_checkpointing=["vision"]))
    with pytest.raises(UserError, match="stage adapt: gradient_checkpointing: the vision part has no layers"):
        set_modes(tiny("tiny").model, chosen)


def test_adapters_of_a_part_that_does_not_learn_are_refused() -> None:
    with pytest.raises(ValueError, match="`lora` names a part that does not learn"):
        Stage.model_validate(stage(train=["projector"], lora={"parts": ["language"]}))
