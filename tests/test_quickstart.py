"""The quickstart's own part: recipes written out, steps kept, what the model has to beat, the report."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from corpus_recipes import write_recipe, write_sources

from gmai_vl.corpus import Corpus, build
from gmai_vl.corpus import read_recipe as read_data_recipe
from gmai_vl.corpus.stats import stats
from gmai_vl.evaluation import questions_of, read_predictions
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, build_model, load_model
from gmai_vl.quickstart import run_quickstart
from gmai_vl.quickstart.measure import ANSWERERS, measure, verdicts
from gmai_vl.quickstart.recipes import write_data_recipes, write_train_recipe
from gmai_vl.quickstart.report import write_report
from gmai_vl.training import read_recipe as read_train_recipe
from gmai_vl.training import train
from gmai_vl.training.mixture import training_mixture
from gmai_vl.training.tokens import open_tokens

DATA = """
name: phantom
languages: {en: 0.8, zh: 0.2}
split: {train: 0.5, val: 0.25, test: 0.25}
writer: {kind: template, answer_with: text}
sources:
  - {name: phantom, format: phantom, families: [chest-x-ray, fundus], patients: 8, size: 64, license: Apache-2.0}
"""

TRAIN = """
name: tiny
out: ../model
model: {preset: tiny}
stages:
  - {name: align, train: [projector], learning_rate: 1.0e-3, global_batch: 8, max_steps: 2,
     mixture: [{corpus: ../corpora/phantom}]}
  - {name: instruct, train: [projector, language], learning_rate: 1.0e-3, global_batch: 8, max_steps: 2,
     validation: {every: 1, samples: 8}, mixture: [{corpus: ../corpora/phantom}]}
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all steps at toy size."""
    out = tmp_path_factory.mktemp("quickstart")
    (out / "recipes").mkdir()
    (out / "recipes" / "phantom.yaml").write_text(DATA)
    (out / "recipes" / "train.yaml").write_text(TRAIN)
    build(out / "recipes" / "phantom.yaml", out / "corpora" / "phantom")
    stats(out / "corpora" / "phantom")
    final = train(read_train_recipe(out / "recipes" / "train.yaml"), base=out / "recipes")
    untrained = build_model(ModelSettings(preset="tiny"), seed=0)
    measure(Corpus(out / "corpora" / "phantom"), load_model(final), untrained, out / "evaluation" / "phantom", seed=0)
    return out


def scores(out: Path) -> dict:
    return json.loads((out / "evaluation" / "phantom" / "scores.json").read_text())


def test_every_answerer_is_asked_the_same_questions_of_the_test_split(out: Path) -> None:
    corpus = Corpus(out / "corpora" / "phantom")
    asked = {question.id for question in questions_of(corpus, "test")}
    for name in ANSWERERS:
        file = out / "evaluation" / "phantom" / f"{name.replace(' ', '-')}.jsonl"
        assert set(read_predictions(file)) == asked
    assert {score["n"] for score in scores(out)["choices"].values()} == {scores(out)["choices"]["trained"]["n"]}


def test_margins_are_differences_of_the_scores(out: Path) -> None:
    choices, margins = scores(out)["choices"], scores(out)["margins"]
    for name, margin in margins.items():
        assert margin["value"] == pytest.approx(choices["trained"]["micro"] - choices[name]["micro"])
        assert margin["interval"][0] <= margin["value"] <= margin["interval"][1]


def result_with(trained: tuple, majority: tuple) -> dict:
    (value, low, high), (other, other_low, other_high) = trained, majority
    entry = {"micro": other, "interval": [other_low, other_high]}
    others = {"majority": entry, "untrained": entry, "images exchanged": entry}
    return {
        "choices": {"trained": {"micro": value, "interval": [low, high]}, **others},
        "margins": {name: {"value": value - other} for name in others},
    }


@pytest.mark.parametrize(
    ("trained", "majority", "met"),
    [
        ((0.80, 0.76, 0.84), (0.55, 0.51, 0.59), True),
        ((0.70, 0.66, 0.74), (0.55, 0.51, 0.59), False),  # margin too small
        ((0.80, 0.58, 0.95), (0.55, 0.40, 0.60), False),  # intervals overlap
    ],
)
def test_a_target_is_met_by_margin_and_intervals_both(trained: tuple, majority: tuple, met: bool) -> None:
    rows = {row["name"]: row for row in verdicts(result_with(trained, majority))}
    assert rows["majority"]["met"] is met


class Sources(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_report_is_one_file_and_says_what_the_scores_say(out: Path) -> None:
    steps = {"training": {"result": "two <stages>", "seconds": 61.0}}
    path = write_report(
        out, [out / "corpora" / "phantom"], out / "recipes" / "train.yaml", seed=0, own_data=False, steps=steps
    )
    text = path.read_text(encoding="utf-8")
    sources = Sources()
    sources.feed(text)
    assert sources.found
    assert all(source.startswith("data:image/") for source in sources.found)
    assert "url(" not in text.replace("url(data:", "")
    for score in scores(out)["choices"].values():
        assert f"{score['micro']:.1%}" in text
    assert "two &lt;stages&gt;" in text
    assert "Research use only, not for diagnosis" in text
    assert re.search(r"Targets, with intervals apart: .*missed", text)  # two steps of a tiny model reach nothing


def test_recipes_are_written_as_they_are_run(tmp_path: Path) -> None:
    paths = write_data_recipes(tmp_path, seed=3)
    phantom, real = map(read_data_recipe, paths)
    assert (phantom.seed, phantom.sources[0].seed, real.seed) == (3, 3, 3)
    corpora = [build(write_sources(tmp_path), tmp_path / "corpora" / recipe.name).corpus for recipe in (phantom, real)]
    written = write_train_recipe(tmp_path, corpora, seed=3)
    assert "&" not in written.read_text(), "a recipe for people to read and change has no YAML aliases"
    recipe = read_train_recipe(written)
    assert recipe.seed == 3
    for stage in recipe.stages:
        assert {(tmp_path / "recipes" / part.corpus).resolve() for part in stage.mixture} == set(corpora)
    # The paper's three stages, and `speak` before the last, in which the vision tower rests: see train.yaml.
    everything = ("vision", "projector", "language")
    assert [(stage.name, stage.objective, stage.train) for stage in recipe.stages] == [
        ("align", "words", ("projector",)),
        ("deep", "words", ("vision", "projector")),
        ("speak", "text", everything),
        ("instruct", "text", ("projector", "language")),
    ]


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quickstart.json").write_text(json.dumps({"identity": {"seed": 1}, "steps": {}}))
    with pytest.raises(UserError, match="another recipe, seed or version; give another --out"):
        run_quickstart(tmp_path, seed=0)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds no quickstart; give another --out"):
        run_quickstart(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_wrong_recipe_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump({"name": "mine", "sources": [{"name": "a", "format": "folder", "rot": "."}]}))
    with pytest.raises(UserError, match=r"mine.yaml: sources\[0\].rot: unknown key; did you mean `root`"):
        run_quickstart(tmp_path / "out", recipe=recipe)
    assert not (tmp_path / "out").exists()


def test_no_stage_asks_for_what_the_users_data_lacks(tmp_path: Path) -> None:
    data = write_sources(tmp_path)
    sources = yaml.safe_load(data.read_text())["sources"]
    data = write_recipe(tmp_path, sources=sources[:1])  # classes of whole images: no region, no plane, no position
    corpus = Corpus(build(data, tmp_path / "corpora" / "mine").corpus)
    held = {sample.provenance.facts["form"] for sample in corpus.samples(split="train")}
    assert "region-kind" not in held
    recipe = read_train_recipe(write_train_recipe(tmp_path, [corpus.path], seed=0))
    store = open_tokens(corpus, build_model(ModelSettings(preset="tiny"), seed=0).processor)
    for stage in recipe.stages:
        assert len(training_mixture(stage, {part.corpus: store for part in stage.mixture}, seed=0))
        assert all(part.languages is None for part in stage.mixture)

    data = write_recipe(tmp_path, subsets=["caption"])
    corpus = Corpus(build(data, tmp_path / "corpora" / "captions").corpus)
    with pytest.raises(
        UserError, match=r"captions: has no training sample for stage `speak` \(modality, body-part, pl"
    ):
        write_train_recipe(tmp_path, [corpus.path], seed=0)
