"""All benchmarks by name: what each is, and what reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.benchmarks.corpus import read_corpus
from gmai_vl.evaluation.benchmarks.gmai_mmbench import read_gmai_mmbench, read_gmai_mmbench_test
from gmai_vl.evaluation.benchmarks.medxpertqa import read_medxpertqa
from gmai_vl.evaluation.benchmarks.mmmu import read_mmmu
from gmai_vl.evaluation.benchmarks.mmmu_pro import read_mmmu_pro
from gmai_vl.evaluation.benchmarks.omnimedvqa import read_omnimedvqa
from gmai_vl.evaluation.benchmarks.own import read_own
from gmai_vl.evaluation.benchmarks.path_vqa import read_path_vqa
from gmai_vl.evaluation.benchmarks.pmc_vqa import read_pmc_vqa, read_pmc_vqa_2
from gmai_vl.evaluation.benchmarks.slake import read_slake
from gmai_vl.evaluation.benchmarks.vqa_rad import read_vqa_rad
from gmai_vl.foundation import UserError, nearest


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One benchmark as the list has it."""

    about: str
    """What it asks, and what to give as --data."""

    read: Callable[..., Benchmark]
    """From the downloaded folder, and the name of a prompt where there is one."""

    prompt: str | None = "direct"
    """The usual one; None where the questions hold their own instructions."""


BENCHMARKS = {
    "vqa-rad": Listed(about="VQA-RAD, test questions; OSF's JSON, MEVF's testset.json or parquet", read=read_vqa_rad),
    "slake": Listed(about="SLAKE, test, English and Chinese; test.json and imgs", read=read_slake),
    "slake-en": Listed(about="SLAKE, test, English part", read=partial(read_slake, language="en")),
    "slake-zh": Listed(about="SLAKE, test, Chinese part", read=partial(read_slake, language="zh")),
    "path-vqa": Listed(about="PathVQA, test; parquet or the original pickles", read=read_path_vqa),
    "pmc-vqa": Listed(about="PMC-VQA, version 1; test_clean.csv and images", read=read_pmc_vqa),
    "pmc-vqa-2": Listed(about="PMC-VQA, version 2, another track; test_2.csv and images", read=read_pmc_vqa_2),
    "omnimedvqa": Listed(about="OmniMedVQA, all that is there; QA_information and Images", read=read_omnimedvqa),
    "omnimedvqa-open": Listed(about="OmniMedVQA, open-access part", read=partial(read_omnimedvqa, access="open")),
    "omnimedvqa-restricted": Listed(
        about="OmniMedVQA, restricted-access part", read=partial(read_omnimedvqa, access="restricted")
    ),
    "gmai-mmbench": Listed(about="GMAI-MMBench, VAL; its TSV", read=read_gmai_mmbench, prompt="vlmevalkit"),
    "gmai-mmbench-test": Listed(
        about="GMAI-MMBench, TEST, answers withheld: predictions and the file to hand in",
        read=read_gmai_mmbench_test,
        prompt="vlmevalkit",
    ),
    "mmmu-health": Listed(
        about="MMMU Health & Medicine, validation; parquet by subject or TSV", read=read_mmmu, prompt="mmmu"
    ),
    "mmmu-health-dev": Listed(about="MMMU Health & Medicine, dev", read=partial(read_mmmu, split="dev"), prompt="mmmu"),
    "mmmu-health-test": Listed(
        about="MMMU Health & Medicine, test, answers withheld", read=partial(read_mmmu, split="test"), prompt="mmmu"
    ),
    "mmmu-pro-health": Listed(about="MMMU-Pro, standard, Health & Medicine; parquet", read=read_mmmu_pro),
    "medxpertqa-mm": Listed(about="MedXpertQA MM, test; JSON lines and images", read=read_medxpertqa),
    "corpus": Listed(
        about="multiple-choice, closed and grounding questions of a corpus's test split; --data CORPUS",
        read=read_corpus,
        prompt=None,
    ),
    "own": Listed(about="questions of one's own: a table or messages; --data FILE or its folder", read=read_own),
}
"""Name -> benchmark."""


def read_benchmark(name: str, data: Path, prompt: str | None = None) -> Benchmark:
    """Read a benchmark by its name, put to the model by `prompt` or as is usual for it.

    Raises UserError for an unknown name, a prompt where there is none to choose, and files that cannot be used.
    """
    chosen = prompt_of(name, prompt)
    return BENCHMARKS[name].read(data) if chosen is None else BENCHMARKS[name].read(data, chosen)


def prompt_of(name: str, prompt: str | None) -> str | None:
    """Return the prompt that is chosen, or else the usual one of a benchmark; None where there is none to choose.

    Raises UserError for an unknown benchmark, and for a prompt where there is none to choose.
    """
    if name not in BENCHMARKS:
        raise UserError(f"--benchmark {name}: no benchmark of that name; {nearest(name, BENCHMARKS)}")
    usual = BENCHMARKS[name].prompt
    if prompt is not None and usual is None:
        raise UserError(f"--prompt {prompt}: the questions of `{name}` hold their own instructions; leave it out")
    return prompt or usual
