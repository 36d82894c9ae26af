"""Which layers of SmolLM2-135M-Instruct to keep when only some fit the time: drop, one by one, the one missed least.

The first 12 layers alone are worse than chance (loss 22.5 per token, chance 10.8); the 12 that this search keeps come
to 6.9, all 30 to 3.3. The preset `smol-12l` holds its result. Run: python benchmarks/choose_layers.py
(2 minutes on 2 cores; gmai-vl 0.1.0, torch 2.13.0).
"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gmai_vl.model import backbone_path

FEWEST = 8
TEXTS = (
    "<|im_start|>user\nWhich kind of examination produced this image?\nA. CT\nB. Ultrasound\nC. Endoscopy\n"
    "Answer with the text of the right option.<|im_end|>\n<|im_start|>assistant\nUltrasound<|im_end|>",
    "The chest X-ray shows a round opacity in the left upper lung field, consistent with a nodule. "
    "There is no pleural effusion and the heart size is normal.",
    "Photosynthesis is the process by which green plants use sunlight to synthesize nutrients from carbon dioxide "
    "and water. It generally involves chlorophyll and produces oxygen.",
)


def main() -> None:
    """Print loss and layers from 16 layers down."""
    folder = backbone_path("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = [tokenizer(text, return_tensors="pt").input_ids for text in TEXTS]
    layers = list(model.model.layers)

    @torch.no_grad()
    def loss(kept: list[int]) -> float:
        """Return the mean loss per token of the texts with only the `kept` layers."""
        model.model.layers = torch.nn.ModuleList([layers[number] for number in kept])
        model.config.num_hidden_layers = len(kept)
        return sum(float(model(input_ids=ids, labels=ids, use_cache=False).loss) for ids in inputs) / len(inputs)

    kept = list(range(len(layers)))
    print(f"{len(kept)} layers: loss {loss(kept):.2f}")
    print(f"first 12 layers: loss {loss(kept[:12]):.2f}")
    while len(kept) > FEWEST:
        value, dropped = min((loss([number for number in kept if number != one]), one) for one in kept)
        kept.remove(dropped)
        if len(kept) <= 16:
            print(f"{len(kept)} layers: loss {value:.2f}, {kept}")


if __name__ == "__main__":
    main()
