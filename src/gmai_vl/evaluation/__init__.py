"""Questions to a model, its answers judged, and what they are worth: extraction, scores, intervals, baselines."""

from gmai_vl.evaluation.answers.extraction import Extracted, extract, is_correct
from gmai_vl.evaluation.baselines import exchange_images, majority_answers
from gmai_vl.evaluation.benchmarks.corpus import SCORED_KINDS, questions_of
from gmai_vl.evaluation.choose import choose
from gmai_vl.evaluation.grounding import grounding_iou, iou, matched_iou
from gmai_vl.evaluation.predictions import parse_file, read_predictions
from gmai_vl.evaluation.question import Question
from gmai_vl.evaluation.runner import ask, checkpoint_sha256, claim
from gmai_vl.evaluation.score import Judged, judge, score
from gmai_vl.evaluation.statistics import Difference, clustered, paired_difference, wilson

__all__ = [
    "SCORED_KINDS",
    "Difference",
    "Extracted",
    "Judged",
    "Question",
    "ask",
    "checkpoint_sha256",
    "choose",
    "claim",
    "clustered",
    "exchange_images",
    "extract",
    "grounding_iou",
    "iou",
    "is_correct",
    "judge",
    "majority_answers",
    "matched_iou",
    "paired_difference",
    "parse_file",
    "questions_of",
    "read_predictions",
    "score",
    "wilson",
]
