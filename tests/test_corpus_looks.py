"""Looking into a corpus: the page, the plots, the card and the way of a sample; hostile names stay text."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from corpus_recipes import RECIPE, write_picture, write_recipe, write_sources
from PIL import Image

from gmai_vl.corpus import Corpus, build, trace
from gmai_vl.corpus.browse import browse
from gmai_vl.corpus.stats import paper_shares, stats
from gmai_vl.foundation import UserError, canonical_json, sha256_of_file
from gmai_vl.vocabulary import CLINICAL_TASKS, DEPARTMENTS, MODALITIES

HOSTILE = "<img src=x onerror=alert(1)>'\"&|"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose sources have a file name and a licence that would like to be markup."""
    folder = tmp_path_factory.mktemp("corpus")
    write_sources(folder)
    write_picture(folder / "skin" / "nevus" / f"p6_{HOSTILE}.png", seed=60)
    sources = [RECIPE["sources"][0] | {"license": HOSTILE}, RECIPE["sources"][1]]
    return build(write_recipe(folder, sources=sources), folder / "out").corpus


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_shows_every_case_sample_and_box(corpus: Path) -> None:
    page = Page(browse(corpus).read_text(encoding="utf-8"))
    opened = Corpus(corpus)
    samples, cases = opened.samples(), list(opened.cases())
    assert len(page.all("article")) == len(cases)
    assert len(page.all("section")) == len(samples)
    assert f"This page holds all {len(cases)} cases." in page.words
    drawn = sorted((rect["x"], rect["y"], rect["width"], rect["height"]) for rect in page.all("rect"))
    boxes = [finding.box for case in cases for finding in case.findings if finding.box]
    assert drawn == sorted((str(x1), str(y1), str(x2 - x1), str(y2 - y1)) for x1, y1, x2, y2 in boxes)
    assert all(turn.text in page.words for sample in samples for turn in sample.turns)


def test_hostile_text_stays_text_and_nothing_is_loaded(corpus: Path) -> None:
    page = Page(browse(corpus).read_text(encoding="utf-8"))
    assert HOSTILE in page.words
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert len(page.all("script")) == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "href"]
    assert {tag for tag, attributes in page.tags if "src" in attributes} == {"img"}
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_a_page_for_few_cases_says_so_and_takes_from_every_source(corpus: Path) -> None:
    page = Page(browse(corpus, most_cases=4).read_text(encoding="utf-8"))
    assert [article["data-source"] for article in page.all("article")].count("skin") == 2
    assert [article["data-source"] for article in page.all("article")].count("polyps") == 2
    assert "This page holds 4 of 17 cases" in page.words


def test_tables_and_plots_cover_every_sample(corpus: Path) -> None:
    tables = stats(corpus)
    samples = Corpus(corpus).samples()
    assert tables["kind"]["mcq"] == sum(sample.kind == "mcq" for sample in samples)
    assert tables["department"] == {"not given": len(samples)}
    assert {sum(numbers.values()) for numbers in tables.values()} == {len(samples)}
    for column in tables:
        with Image.open(corpus / "stats" / f"{column}.png") as plot:
            plot.verify()
    before = {path.name: sha256_of_file(path) for path in (corpus / "stats").iterdir()}
    stats(corpus)
    assert {path.name: sha256_of_file(path) for path in (corpus / "stats").iterdir()} == before


def test_the_card_names_licences_splits_and_limits(corpus: Path) -> None:
    stats(corpus)
    card = (corpus / "card.md").read_text(encoding="utf-8")
    manifest = Corpus(corpus).manifest
    assert "Research use only, not for diagnosis" in card
    assert manifest["fingerprint"] in card
    assert f"| polyps | mask | 6 | {manifest['counts']['sources']['polyps']['samples']} | MIT |" in card
    assert "<img" not in card
    assert "&lt;img src=x onerror=alert(1)>'\"&\\|" in card


def test_a_trace_goes_from_the_pixel_file_to_the_text(corpus: Path) -> None:
    opened = Corpus(corpus)
    sample = next(sample for sample in opened.samples() if sample.kind == "grounding")
    way = trace(corpus, sample.id)
    assert Path(way["image"]["file"]).stem == sample.images[0] == way["image"]["sha256"]
    assert way["source"]["item"] == sample.case_id.removeprefix("polyps/")
    assert way["source"]["license"] == "MIT"
    assert way["annotation"]["findings"][0]["box"] == list(sample.regions[0].box)
    assert way["annotation"]["findings"][0]["mask_pixels"] == 35
    assert way["facts"] == sample.provenance.facts
    assert way["prompt"]["text"] == opened.prompts[sample.provenance.prompt_id]
    assert way["text"]["conversation"][1] == {"role": "assistant", "text": sample.answer}
    assert way["corpus"]["fingerprint"] == opened.manifest["fingerprint"]
    canonical_json(way)
    with pytest.raises(UserError, match="no sample `none`"):
        trace(corpus, "none")


def test_the_papers_shares_are_of_values_that_we_know_and_stand_in_the_card(tmp_path: Path) -> None:
    known = {
        "modality": {term.en for term in MODALITIES},
        "department": {term.en for term in DEPARTMENTS},
        "clinical_task": {term.en for term in CLINICAL_TASKS},
        "language": {"en", "zh"},
    }
    for column, shares in paper_shares().items():
        assert sum(shares.values()) <= 100.01
        assert shares.keys() <= known.get(column, shares.keys())
    assert sum(paper_shares()["original_task"].values()) == pytest.approx(100)
    corpus = build(write_sources(tmp_path), tmp_path / "out").corpus
    tables = stats(corpus)
    total = sum(tables["modality"].values())
    card = (corpus / "card.md").read_text()
    endoscopy = tables["modality"]["Endoscopy"]
    assert f"| Endoscopy | {endoscopy} | {100 * endoscopy / total:.1f} | 12.6 |" in card
    assert "| PET | 0 | 0.0 | 0.2 |" in card
    assert set(tables["original_task"]) == {"2d classification", "2d segmentation"}
