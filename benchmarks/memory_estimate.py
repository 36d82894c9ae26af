"""Whether a training step takes the memory that it is said to take, on a CPU, with models of a few ten million weights.

Run: python benchmarks/memory_estimate.py. Each row is a process of its own: a random CLIP tower with a Llama- or
Qwen2-shaped language model does three steps of two micro-batches. Measured is what PyTorch allocates at most in the
third, with weights and moments, and by how much the process has grown at most in the second: on a CPU that is more.
"""

import json
import subprocess
import sys
import tempfile
from itertools import accumulate, product
from pathlib import Path

import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from gmai_vl.model import (
    IGNORED,
    Batch,
    ModelSettings,
    Vlm,
    build_model,
    collate,
    encode,
    image_side,
    loss_sum,
    parts,
    set_trainable,
)
from gmai_vl.model.tiny import tiny_language
from gmai_vl.records import ImageRef, Turn
from gmai_vl.training.arithmetic import Load, Placement, load_of, memory_of_step
from gmai_vl.training.optimizer import clip_gradients, make_optimizer
from gmai_vl.training.precision import Precision, autocast
from gmai_vl.training.recipe import Part
from gmai_vl.training.survey import survey

CPU = torch.device("cpu")
STAGES: dict[str, tuple[Part, ...]] = {
    "I": ("projector",),
    "II": ("vision", "projector"),
    "III": ("vision", "projector", "language"),
}
LANGUAGES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}


def main() -> None:
    print(f"torch {torch.__version__}, transformers {transformers.__version__}; MB, decimal")
    print(f"{'model':6} {'stage':5} {'precision':9} {'recompute':9} {'said':>7} {'allocated':>9} {'ratio':>6} ", end="")
    print(f"{'beside weights':>14} {'resident':>8}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        for kind in LANGUAGES:
            save_parts(Path(folder), kind)
        for kind, stage, precision, recompute in product(LANGUAGES, STAGES, ("fp32", "bf16"), ("no", "yes")):
            command = [sys.executable, __file__, folder, kind, stage, precision, recompute]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            row = json.loads(output.splitlines()[-1])
            said, allocated, resident = row["said"], row["allocated"], row["resident"]
            of_step = (said - row["before"]) / (allocated - row["before"])
            print(f"{kind:6} {stage:5} {precision:9} {recompute:9} {said / 1e6:7.0f} {allocated / 1e6:9.0f} ", end="")
            print(f"{said / allocated:6.3f} {of_step:14.3f} {resident / 1e6:8.0f}", flush=True)


def save_parts(folder: Path, kind: str) -> None:
    """Save a tower of 13 million weights and a language model of 31 (tied) or 42 million."""
    torch.manual_seed(0)
    tower = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=7,
        num_attention_heads=6,
        image_size=224,
        patch_size=16,
    )
    CLIPVisionModel(tower).save_pretrained(folder / "clip")
    config, language = LANGUAGES[kind]
    sizes = config(
        vocab_size=16384,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2 if kind == "qwen2" else 8,
        tie_word_embeddings=kind == "qwen2",
    )
    language(sizes).save_pretrained(folder / kind)
    tiny_language()[1].save_pretrained(folder / kind)


def measure(folder: Path, kind: str, stage: str, precision: Precision, recompute: str) -> dict[str, float]:
    train = STAGES[stage]
    checkpointing = {"language", *train} - {"projector"} if recompute == "yes" else set()
    toy = build_model(ModelSettings(preset="tiny-clip"), seed=0)
    begin(toy, train, checkpointing, precision)  # code that is loaded at first use is not the step's
    before_all = status("VmRSS")
    vlm = build_model(ModelSettings(vision=str(folder / "clip"), language=str(folder / kind)), seed=0)
    optimizer, batch, load = begin(vlm, train, checkpointing, precision)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark (man 5 proc)
    step(vlm, optimizer, batch, precision)
    resident = status("VmHWM") - before_all
    moments = [moment for state in optimizer.state.values() for moment in state.values()]
    before = sum(tensor.untyped_storage().nbytes() for tensor in (*vlm.model.parameters(), *moments))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(vlm, optimizer, batch, precision)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    placement = Placement(precision=precision, checkpointing=tuple(checkpointing), attention="segments")
    said = memory_of_step(survey(vlm.model), placement, load, train=train).total
    return {"said": said, "allocated": before + max(accumulate(sizes)), "resident": resident, "before": before}


def begin(
    vlm: Vlm, train: tuple[Part, ...], checkpointing: set[str], precision: Precision
) -> tuple[torch.optim.Optimizer, Batch, Load]:
    """Do a first step; return what further ones need."""
    batch, load = batch_of(vlm)
    learn(vlm, train, checkpointing)
    optimizer = make_optimizer(vlm.model, dict.fromkeys(train, 1e-5), 0.0)
    step(vlm, optimizer, batch, precision)
    return optimizer, batch, load


def batch_of(vlm: Vlm) -> tuple[Batch, Load]:
    """Return four conversations of 337 tokens, 196 of them an image's and 61 supervised."""
    turns = [Turn("user", (ImageRef(0), "x" * 60)), Turn("assistant", ("y" * 60,))]
    encoded = [encode(vlm.processor, turns)] * 4
    side = image_side(vlm.processor)
    batch = collate(vlm.processor, encoded, [torch.rand(3, side, side) for _ in encoded])
    supervised = sum(label != IGNORED for one in encoded for label in one.labels)
    return batch, load_of([len(one.input_ids) for one in encoded], images=len(encoded), supervised=supervised)


def learn(vlm: Vlm, train: tuple[Part, ...], checkpointing: set[str]) -> None:
    set_trainable(vlm.model, train)
    for name, part in parts(vlm.model).items():
        part.train(name in train or name in checkpointing)  # transformers recomputes in training mode only
    towers = {"vision": vlm.model.model.vision_tower, "language": vlm.model.model.language_model}
    for name in checkpointing:
        towers[name].activation_checkpointing_enable()
        towers[name].disable_input_require_grads()  # else what comes before would be learned through too


def step(vlm: Vlm, optimizer: torch.optim.Optimizer, batch: Batch, precision: Precision) -> None:
    for _ in range(2):
        with autocast(precision, CPU):
            loss, count = loss_sum(vlm.model, batch)
        (loss / count).backward()
    clip_gradients(optimizer, 1.0)
    optimizer.step()
    optimizer.zero_grad()


def status(key: str) -> int:
    """Return a size of this process in bytes, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        folder, kind, stage, precision, recompute = sys.argv[1:]
        print(json.dumps(measure(Path(folder), kind, stage, precision, recompute)))  # type: ignore[arg-type]
    else:
        main()
