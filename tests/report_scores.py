"""Made-up scores for the tests of reports, and a text that is hostile to all their forms."""

from typing import Any

from gmai_vl.evaluation.reports import Run, run_of

HOSTILE = "</div><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}<!-- ]]> & &lt;b&gt;\n\n  **B**"


def score(benchmark: str, accuracy: float = 0.5, n: int = 200, **changes: Any) -> dict[str, Any]:
    """Return a small made-up score; `model` and `created` go into its manifest."""
    manifest = {"model": changes.pop("model", "ours"), "model_sha256": "ab", "prompt": "direct", "commit": "8b36103"}
    manifest |= {"decoding": {"temperature": 0}, "created": changes.pop("created", "2026-01-01")}
    interval = [max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.05)]
    fields = {
        "benchmark": benchmark,
        "variant": "test",
        "protocol": "strict",
        "n": n,
        "n_unparsed": 3,
        "n_guessed": 0,
        "n_patients": 90,
        "micro": accuracy,
        "macro": 0.4,
        "macro_over": "source",
        "interval": interval,
        "intervals": {"clustered": interval, "wilson": interval},
        "groups": {},
        "leaks": {"status": "clean", "n": 0, "without": None},
        "manifest": manifest,
    }
    return fields | changes


def groups(**accuracies: float) -> dict[str, dict[str, Any]]:
    """Return the groups of one name: value, with underscores for blanks, -> accuracy."""
    return {
        value.replace("_", " "): {
            "n": 40,
            "correct": round(40 * share),
            "accuracy": share,
            "interval": [share - 0.1, share + 0.1],
            "n_unparsed": 1,
            "n_patients": 20,
        }
        for value, share in accuracies.items()
    }


def runs(*scores: dict[str, Any]) -> list[Run]:
    return [run_of(each, f"runs/{number}/score.json") for number, each in enumerate(scores)]
