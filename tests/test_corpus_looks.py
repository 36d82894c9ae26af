"""Looking into a corpus: the page, the plots, the card and the way of a sample; hostile names stay text."""

import html
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import dump, text_of
from corpus_recipes import RECIPE, write_picture, write_recipe, write_sources
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from gmai_vl.corpus import Corpus, build, trace
from gmai_vl.corpus.browse import browse, outline
from gmai_vl.corpus.columns import paper_shares, unclear_in_paper
from gmai_vl.corpus.plots import plot
from gmai_vl.corpus.stats import stats
from gmai_vl.foundation import UserError, canonical_json, sha256_of_file
from gmai_vl.records import Sample
from gmai_vl.vocabulary import CLINICAL_TASKS, DEPARTMENTS, MODALITIES

HOSTILE = "<img src=x onerror=alert(1)>'\"&|"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose sources have a file name and a licence that would like to be markup, damaged files and a duplicate."""
    folder = tmp_path_factory.mktemp("corpus")
    write_sources(folder)
    write_picture(folder / "skin" / "nevus" / f"p6_{HOSTILE}.png", seed=60)
    for number in range(7):
        (folder / "skin" / "nevus" / f"p7_damaged_{number}.png").write_bytes(b"no picture")
    shutil.copy(folder / "skin" / "nevus" / "p0_0.png", folder / "skin" / "nevus" / "p0_again.png")
    sources = [RECIPE["sources"][0] | {"license": HOSTILE}, RECIPE["sources"][1]]
    return build(write_recipe(folder, sources=sources, max_quarantined=0.5), folder / "out").corpus


class Page(HTMLParser):
    """What stands in the page before its script has run: the tags with their attributes, and the data of the script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.scripts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)
        else:
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_holds_every_case_sample_box_and_outline(corpus: Path) -> None:
    page = Page(browse(corpus))
    opened = Corpus(corpus)
    samples, cases = opened.samples(), list(opened.cases())
    assert f"This page holds all {len(cases)} cases." in page.words
    held = {sample["id"]: sample for case in page.data["cases"] for sample in case["samples"]}
    assert set(held) == {sample.id for sample in samples}
    for sample in samples:
        assert held[sample.id]["turns"] == [[turn.role, turn.text] for turn in sample.turns]
        assert page.data["prompts"][held[sample.id]["prompt"]][1] == opened.prompts[sample.provenance.prompt_id]
        assert page.data["checks"][held[sample.id]["checks"]] == sample.provenance.checks
    by_id = {case["case_id"]: case for case in page.data["cases"]}
    for case in cases:
        boxes = [box for label in by_id[case.case_id]["labels"] for box in label["boxes"]]
        found = [finding.box for finding in case.findings if finding.box]
        assert boxes == [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in found]
        outlined = [label["outline"] for label in by_id[case.case_id]["labels"]]
        assert all(outlined) == all(finding.mask is not None for finding in case.findings)


def test_what_was_left_out_is_grouped_by_reason_and_counted(corpus: Path) -> None:
    ledger = Page(browse(corpus)).data["ledger"]
    rows = list(Corpus(corpus).rows("ledger"))
    for source in ("skin", "polyps"):
        counted = Counter(row["outcome"] for row in rows if row["source"] == source)
        assert ledger["outcomes"][source] == counted
    damaged, duplicate = ledger["reasons"]
    assert (damaged["number"], damaged["outcome"], damaged["source"]) == (7, "quarantined", "skin")
    assert len(damaged["examples"]) == 5
    assert "damaged_" not in damaged["reason"]
    assert (duplicate["number"], duplicate["reason"]) == (1, "same pixels as another")


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_an_outline_has_as_many_steps_as_the_mask_has_edges(mask_HW: np.ndarray) -> None:
    path = outline(mask_HW)
    padded = np.pad(mask_HW, 1).astype(int)
    edges = int(np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum())
    assert sum(map(int, re.findall(r"[hv](\d+)", path))) == edges
    # Drawn without the strokes along columns, the even-odd rule gives the mask back.
    crossed = np.zeros((mask_HW.shape[0] + 1, mask_HW.shape[1]), int)
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)", path):
        crossed[int(y), int(x) : int(x) + int(length)] += 1
    assert (np.cumsum(crossed, axis=0)[:-1] % 2 == mask_HW).all()


def test_hostile_text_stays_text_and_nothing_is_loaded(corpus: Path) -> None:
    path = browse(corpus)
    page = Page(path)
    assert HOSTILE in {case["license"] for case in page.data["cases"]}
    assert "<img" not in path.read_text(encoding="utf-8")
    assert all(case["image"].startswith("data:image/jpeg;base64,") for case in page.data["cases"])
    assert [script.get("type") for script in page.all("script")] == ["application/json", None]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "href"]
    assert not [tag for tag, attributes in page.tags if "src" in attributes]
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_a_page_for_few_cases_says_so_and_takes_from_every_source(corpus: Path) -> None:
    page = Page(browse(corpus, most_cases=4))
    assert Counter(case["source"] for case in page.data["cases"]) == {"skin": 2, "polyps": 2}
    assert "This page holds 4 of 17 cases" in page.words


def test_a_browser_shows_all_cases_and_none_of_their_text_as_markup(corpus: Path) -> None:
    document = dump(browse(corpus))
    samples = Corpus(corpus).samples()
    assert text_of(document, "shown") == f"Shown: 17 cases, {len(samples)} samples."
    assert document.count("<article") == 17
    assert not re.search(r"<img[^>]*src=\"?x", document)
    assert document.count("<rect") == 6
    assert document.count("<path") == 6


@pytest.mark.parametrize(
    ("fragment", "keep"),
    [
        ("q=POLYP&kind=mcq", lambda sample: sample.source == "polyps" and sample.kind == "mcq"),
        ("source=skin&language=zh", lambda sample: sample.source == "skin" and sample.language == "zh"),
        ("split=test&subset=caption", lambda sample: sample.split == "test" and sample.subset == "caption"),
        ("modality=Dermoscopy&task=2d+classification", lambda sample: sample.source == "skin"),
        ("license=MIT&department=not+given", lambda sample: sample.license == "MIT"),
        ("q=p3_0.png", lambda sample: sample.case_id.endswith("p3_0.png")),
        ("q=nothing+has+this", lambda sample: False),
    ],
)
def test_a_browser_searches_and_filters(corpus: Path, fragment: str, keep: Callable[[Sample], bool]) -> None:
    kept = [sample for sample in Corpus(corpus).samples() if keep(sample)]
    document = dump(browse(corpus), fragment)
    numbers = re.findall(r"\d+", text_of(document, "shown"))
    assert numbers == [str(len({sample.case_id for sample in kept})), str(len(kept))]


def test_a_browser_opens_one_case_in_full(corpus: Path) -> None:
    document = dump(browse(corpus), "source=polyps&case=1")
    dialog = document[document.index("<dialog") : document.index("</dialog>")]
    case = next(case for case in Page(browse(corpus)).data["cases"] if case["source"] == "polyps")
    assert dialog.count('class="full"') == len(case["samples"])
    assert case["sha256"] in dialog
    assert case["samples"][0]["id"] in html.unescape(dialog)
    assert "✓" in dialog
    ledger = dump(browse(corpus), "tab=ledger")
    assert re.search(r'id="cases"[^>]*hidden', ledger)
    assert "same pixels as another" in ledger


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


def test_shares_of_the_paper_stand_in_known_words_and_what_is_unclear_is_left_out() -> None:
    shares = paper_shares()
    known = {"modality": MODALITIES, "department": DEPARTMENTS, "clinical_task": CLINICAL_TASKS}
    for column, terms in known.items():
        assert shares[column].keys() | unclear_in_paper(column) == {term.en for term in terms}
        assert not shares[column].keys() & unclear_in_paper(column)
    assert sum(shares["original_task"].values()) == pytest.approx(100)
    assert sum(shares["modality"].values()) + 2.0 + 1.4 == pytest.approx(99.9)  # infrared and OCT, as the paper adds up
    assert sum(shares["subset"].values()) == pytest.approx(100, abs=0.2)
    assert shares["language"] == {}
    assert all(0 < share < 100 for column in shares.values() for share in column.values())


def test_a_plot_of_many_values_stays_readable(tmp_path: Path) -> None:
    plot(
        "source", {f"source ${number} " + "x" * number: 100 - number for number in range(60)}, {}, tmp_path / "many.png"
    )
    plot("modality", {"MR": 3}, {"MR": 24.7, "PET": 0.2}, tmp_path / "few.png")
    with Image.open(tmp_path / "many.png") as many, Image.open(tmp_path / "few.png") as few:
        assert many.width < 1400
        assert many.height < 1600
        assert few.height < 220


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
    corpus = build(write_sources(tmp_path), tmp_path / "out").corpus
    tables = stats(corpus)
    total = sum(tables["modality"].values())
    card = (corpus / "card.md").read_text()
    endoscopy = tables["modality"]["Endoscopy"]
    assert f"| Endoscopy | {endoscopy} | {100 * endoscopy / total:.1f} | 12.6 |" in card
    assert "| PET | 0 | 0.0 | 0.2 |" in card
    assert set(tables["original_task"]) == {"2d classification", "2d segmentation"}
