"""What a corpus keeps of its review: CORPUS/review.json, true of one fingerprint only."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.review.draw import pair_name
from gmai_vl.corpus.review.rubric import AXES
from gmai_vl.corpus.review.scores import Rater, Review, by_pair
from gmai_vl.corpus.review.verdict import Verdict, agreement, as_json
from gmai_vl.foundation import UserError, write_json

NAME = "review.json"
VERDICTS = ("pass", "fail", "none")


def write_record(
    corpus: Corpus, review: Review, raters: Collection[Rater], found: dict[str, Verdict], pass_mark: float
) -> dict[str, Any]:
    """Write CORPUS/review.json and return what stands in it. People are counted, not named.

    Raises UserError if the sheets were drawn from another state of the corpus.
    """
    check_fingerprint(corpus, review)
    record = {
        "fingerprint": review.fingerprint,
        "seed": review.seed,
        "per_source": review.per_source,
        "scale": "1 best, 5 worst",
        "axes": list(AXES),
        "pass_mark": pass_mark,
        "people": sum(not rater.is_judge for rater in raters),
        "judges": sorted(rater.name for rater in raters if rater.is_judge),
        "agreement": agreement(raters),
        "sources": {source: as_json(verdict) for source, verdict in found.items()},
        "poor": _poor(corpus, review, raters, pass_mark),
    }
    write_json(corpus.path / NAME, record)
    return record


def check_fingerprint(corpus: Corpus, review: Review) -> None:
    """Raise UserError if `review` was drawn from another corpus, or from another state of it."""
    if review.fingerprint != corpus.manifest["fingerprint"]:
        raise UserError(
            f"{corpus.path}: has fingerprint {corpus.manifest['fingerprint'][:12]}, the sheets were drawn from "
            f"`{review.corpus}` with {review.fingerprint[:12]}; draw anew, `gmai data review {corpus.path} --out DIR`"
        )


def passed_sources(corpus: Corpus) -> set[str]:
    """Return the sources with the verdict pass. Raises UserError if there is no review, or it is not of this corpus."""
    path = corpus.path / NAME
    advice = f"review it with `gmai data review {corpus.path} --out SHEETS`"
    if not path.exists():
        raise UserError(f"{corpus.path}: was never reviewed (no {NAME}); {advice}")
    for fault in faults_of_record(corpus.path, corpus.manifest):
        raise UserError(f"{corpus.path}/{fault}; {advice}")
    sources = json.loads(path.read_text(encoding="utf-8"))["sources"]
    return {source for source, verdict in sources.items() if verdict["verdict"] == "pass"}


def faults_of_record(corpus: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a corpus's review, one line each: it cannot be read, or is of another fingerprint."""
    path = corpus / NAME
    if not path.exists():
        return
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        own, sources = record["fingerprint"], {name: each["verdict"] for name, each in record["sources"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        yield f"{NAME}: cannot be read ({type(error).__name__}: {error}); remove it and score the sheets again"
        return
    if own != manifest["fingerprint"]:
        yield (
            f"{NAME}: is of the corpus as it was before (fingerprint {str(own)[:12]}, now "
            f"{manifest['fingerprint'][:12]}); its verdicts no longer hold, review it again or remove the file"
        )
    for name, verdict in sources.items():
        if verdict not in VERDICTS:
            yield f"{NAME}: source {name}: verdict `{verdict}` is none of {', '.join(VERDICTS)}"


def forget_source(corpus: Path, source: str, before: str, after: str) -> None:
    """Take a withdrawn source out of the review, which then holds for the corpus without it.

    The texts of the other sources are the same to the letter, so their verdicts stand under the new fingerprint; those
    of a review that was stale before stay stale. May be done again. A file that cannot be read is removed.
    """
    path = corpus / NAME
    if not path.exists():
        return
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record.pop("agreement", None)  # over all sources, so also over the one that leaves
        record["sources"].pop(source, None)
        record["poor"] = [each for each in record.get("poor", ()) if each["source"] != source]
        if record["fingerprint"] == before:
            record["fingerprint"] = after
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        path.unlink()
        return
    write_json(path, record)


def _poor(corpus: Corpus, review: Review, raters: Collection[Rater], pass_mark: float) -> list[dict[str, Any]]:
    """Return the pairs whose mean is above the mark, worst first, with their samples and what was said of them."""
    means = {
        pair: sum(sum(scores.values()) for scores in given) / (len(AXES) * len(given))
        for pair, given in by_pair(raters).items()
    }
    poor = {pair: mean for pair, mean in means.items() if mean > pass_mark}
    if not poor:
        return []
    names = {pair_name(review.fingerprint, row["id"]): row["id"] for row in corpus.rows("samples", ("id",))}
    entries = [
        {
            "sample": names[pair],
            "source": review.source_of[pair],
            "mean": round(mean, 3),
            "comments": [rater.comments[pair] for rater in raters if pair in rater.comments],
        }
        for pair, mean in poor.items()
    ]
    return sorted(entries, key=lambda entry: (-entry["mean"], entry["sample"]))
