"""The benchmark for GPUs runs through at toy size without one."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_for_gpus_runs_at_toy_size(tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "training_gpu.py"
    command = [sys.executable, str(script), "--toy", "--out", str(tmp_path / "results" / "gpu.json")]
    subprocess.run(command, check=True, capture_output=True)
    told = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert set(told["where"]) >= {"device", "command", "commit", "torch", "transformers", "precision"}
    results = {result["what"]: result for result in told["results"]}
    measured = [result for result in told["results"] if "pack" in result]
    assert len(measured) >= 11
    assert all(result["real tokens/s"] > 0 for result in measured)
    assert results["toy stage III, 200 steps on 4 packs"]["fell"] is True
    assert results["stopped and gone on"]["bit-equal"] is True
