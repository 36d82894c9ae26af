"""Corpora by a language model over a real endpoint: what holds is kept, the rest goes out, nothing is paid twice."""

import hashlib
import json
import random
import signal
import sqlite3
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from author import LIE, author, is_rewriting, is_unguided, text_of
from corpus_recipes import write_recipe, write_sources
from killing import run_killed_at
from publishing_corpus import published
from stub_server import Act, Question, Script, Stub, answer, cut_short, hang_up, html, in_turn, status

from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.corpus.compare import compare_writers, summary_of, write_report
from gmai_vl.corpus.importing import import_conversations
from gmai_vl.corpus.publishing.exporting import Form, export
from gmai_vl.corpus.recipe import read_recipe, recipe_sha256
from gmai_vl.corpus.tables import table_rows
from gmai_vl.corpus.withdraw import withdraw
from gmai_vl.foundation import Interrupted, UserError

SUBSETS = ["caption", "percept", "instruct", "text-single", "text-multi"]

PROMPTS = {1: "804bf043"}
"""Version of the prompts -> how the sha256 of their file begins; a change of either needs the other."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))


def llm_recipe(folder: Path, url: str, **writer: Any) -> Path:
    """Write the sources and a recipe whose writer is a model at `url`."""
    share = writer.pop("share", 1.0)
    write_sources(folder)
    settings = {"kind": "llm", "url": url, "model": "author", "concurrency": 4, "retry_wait_s": 0.001, "retries": 9}
    return write_recipe(
        folder,
        languages={"en": 1.0},
        subsets=SUBSETS,
        writer=settings | writer,
        max_quarantined=share,
    )


def texts(corpus: Path) -> list[str]:
    return [turn.text for sample in Corpus(corpus).samples() for turn in sample.turns]


def test_a_model_that_tells_the_truth_is_kept_in_two_languages(tmp_path: Path) -> None:
    with Stub(author()) as stub:
        summary = build(llm_recipe(tmp_path, stub.url, zh_share=0.5), tmp_path / "out")
    assert summary.texts is not None
    assert sum(entry["quarantined"] for entry in summary.texts.values()) == 0
    assert verify(tmp_path / "out") == []
    samples = Corpus(tmp_path / "out").samples()
    assert {sample.subset for sample in samples} == set(SUBSETS)
    english, chinese = (sum(sample.language == language for sample in samples) for language in ("en", "zh"))
    assert 0.3 < chinese / english < 0.7
    shown = [sample for sample in samples if not sample.subset.startswith("text-")]
    assert all(len(sample.images) == 1 for sample in shown)
    assert not any(sample.images for sample in samples if sample.subset.startswith("text-"))
    prompts = Corpus(tmp_path / "out").prompts
    assert all(sample.provenance.prompt_id in prompts for sample in samples)


def test_the_corpus_is_the_same_for_any_concurrency_and_from_the_cache_alone(tmp_path: Path) -> None:
    with Stub(author()) as stub:
        one = build(llm_recipe(tmp_path, stub.url, concurrency=1), tmp_path / "one")
        asked = stub.asked.total()
        many = build(llm_recipe(tmp_path, stub.url, concurrency=16), tmp_path / "many")
        assert stub.asked.total() == asked  # everything came from the cache
    without = build(llm_recipe(tmp_path, stub.url), tmp_path / "without")  # the server is gone
    assert one.fingerprint == many.fingerprint == without.fingerprint


def test_a_text_that_fails_is_written_again_once_with_its_faults(tmp_path: Path) -> None:
    faults: list[str] = []

    def lies_at_first(question: Question) -> bool:
        if is_rewriting(question):
            faults.append(question.prompt)
        return not is_rewriting(question)

    with Stub(author(lies=lies_at_first)) as stub:
        summary = build(llm_recipe(tmp_path, stub.url, zh_share=0), tmp_path / "out")
    assert summary.texts is not None
    assert all(entry["rewritten"] == entry["texts"] for entry in summary.texts.values())
    assert faults and all("rib fracture" in fault for fault in faults)
    assert not any(LIE in text for text in texts(tmp_path / "out"))
    assert verify(tmp_path / "out") == []
    drafts = list(table_rows(tmp_path / "out", "drafts"))
    assert all(len(draft["failed"]) == 1 and LIE in draft["failed"][0]["text"] for draft in drafts)


def test_what_contradicts_its_annotation_twice_goes_out(tmp_path: Path) -> None:
    def lies_in_captions(question: Question) -> bool:
        return "caption" in question.body["response_format"]["json_schema"]["schema"]["properties"]

    with Stub(author(lies=lies_in_captions)) as stub:
        build(llm_recipe(tmp_path, stub.url), tmp_path / "out")
    samples = Corpus(tmp_path / "out").samples()
    assert samples and not any(sample.subset == "caption" for sample in samples)
    assert not any(LIE in text for text in texts(tmp_path / "out"))
    assert verify(tmp_path / "out") == []


def test_a_build_whose_texts_all_fail_stops_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Stub(author(lies=lambda _: True)) as stub, pytest.raises(UserError, match="model's texts could be used"):
        build(llm_recipe(tmp_path, stub.url, share=0.2), tmp_path / "out")
    assert "could be used" in capsys.readouterr().err


def test_a_translation_that_uses_other_terms_goes_out(tmp_path: Path) -> None:
    def script(question: Question) -> Act:
        said = text_of(question)
        if "texts" in said:
            said = {"texts": [text.replace("黑色素瘤", "肿物") for text in said["texts"]]}
        return answer(json.dumps(said))

    with Stub(script) as stub:
        build(llm_recipe(tmp_path, stub.url, zh_share=1.0), tmp_path / "out")
    drafts = [draft for draft in table_rows(tmp_path / "out", "drafts") if draft["language"] == "zh"]
    assert {draft["outcome"] for draft in drafts} == {"kept", "quarantined"}  # the other labels are called as they are
    faults = [json.loads(one["faults"])["form"] for draft in drafts for one in draft["failed"]]
    assert set(faults) == {"`melanoma` has to be called 黑色素瘤"}


def hostile(then: Script) -> Script:
    """Before every good answer come one to four faults, which ones depends on the prompt."""
    acts = (status(429, retry_after="0"), status(500), html(), cut_short(), hang_up(), hang_up(reset=True), status(503))

    def script(question: Question) -> Any:
        rng = random.Random(question.prompt)
        some = [rng.choice(acts) for _ in range(rng.randint(1, 4))]
        return in_turn(*some, then(question))(question)

    return script


def test_a_hostile_server_gives_the_same_corpus(tmp_path: Path) -> None:
    with Stub(author()) as stub:
        well = build(llm_recipe(tmp_path, stub.url), tmp_path / "well")
    (tmp_path / "cache" / "replies.sqlite").unlink()
    with Stub(hostile(author())) as stub:
        badly = build(llm_recipe(tmp_path, stub.url), tmp_path / "badly")
    assert badly.fingerprint == well.fingerprint
    assert verify(tmp_path / "badly") == []


def test_text_in_another_form_is_asked_for_again_and_then_out(tmp_path: Path) -> None:
    with (
        Stub(in_turn(answer('{"caption": 7, "questions'))) as stub,
        pytest.raises(UserError, match="model's texts could be used"),
    ):
        build(llm_recipe(tmp_path, stub.url, share=0.0), tmp_path / "out")
    with sqlite3.connect(tmp_path / "cache" / "replies.sqlite") as replies:
        (kept,) = replies.execute("SELECT count(*) FROM replies").fetchone()
    assert stub.asked.total() == kept  # a reply that was paid for is not asked for again


def test_a_spent_budget_stops_and_more_of_it_goes_on(tmp_path: Path) -> None:
    with Stub(author()) as stub:
        with pytest.raises(Interrupted, match="budget"):
            build(llm_recipe(tmp_path, stub.url, budget={"requests": 20}), tmp_path / "out")
        assert stub.billed.total() <= 20
        summary = build(llm_recipe(tmp_path, stub.url, budget={"requests": 10_000}), tmp_path / "out")
        assert max(stub.billed.values()) <= 1 + sum(1 for count in stub.billed.values() if count > 1)
        assert summary.texts is not None and verify(tmp_path / "out") == []


@pytest.mark.parametrize("moments", [3, pytest.param(20, marks=pytest.mark.long)])
def test_killed_at_any_moment_it_ends_as_the_same_corpus(tmp_path: Path, moments: int) -> None:
    call = "from gmai_vl.corpus import build; call = lambda recipe, out: build(recipe, out)"
    with Stub(author()) as stub:
        recipe = llm_recipe(tmp_path, stub.url, concurrency=2)
        whole = build(recipe, tmp_path / "whole")
        once = Counter(stub.asked)
        (tmp_path / "cache" / "replies.sqlite").unlink()
        operations = int(run_killed_at(call, [recipe, tmp_path / "counted"], tmp_path / "counted", 0).stdout)
        (tmp_path / "cache" / "replies.sqlite").unlink()
        before, kills = Counter(stub.asked), 0
        for moment in sorted(random.Random(4).sample(range(1, operations), moments), reverse=True):
            kills += (
                run_killed_at(call, [recipe, tmp_path / "out"], tmp_path / "out", moment).returncode == -signal.SIGKILL
            )
        assert kills > 0
        summary = build(recipe, tmp_path / "out")
        asked = stub.asked - before
    assert summary.fingerprint == whole.fingerprint
    assert verify(tmp_path / "out") == []
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    # What was under way at a kill may have to be asked again, nothing else.
    assert asked.total() <= once.total() + 2 * kills


def test_a_conversation_about_nothing_that_the_report_tells_goes_out(tmp_path: Path) -> None:
    empty = {"question": "How do I proceed?", "answer": "You can ask more about it."}

    def script(question: Question) -> Act:
        said = text_of(question)
        if "turns" in said:
            said = {"turns": [empty, {"question": "And then?", "answer": "The next one."}]}
        elif "report" in question.prompt and "question" in said:
            said = empty
        return answer(json.dumps(said))

    with Stub(script) as stub:
        build(llm_recipe(tmp_path, stub.url, zh_share=0), tmp_path / "out")
    drafts = list(table_rows(tmp_path / "out", "drafts"))
    failed = [set(json.loads(row["failed"][-1]["faults"])) for row in drafts if row["route"].startswith("text-")]
    assert failed and all(faults == {"speaks"} for faults in failed)
    assert not any(sample.subset.startswith("text-") for sample in Corpus(tmp_path / "out").samples())


def test_invisible_and_broken_characters_go_out(tmp_path: Path) -> None:
    def script(question: Question) -> Act:
        said = text_of(question)
        if "caption" in said:
            said = {"caption": f"{said['caption']} A pneumo\u200bthorax \ud800."}
        return answer(json.dumps(said))

    with Stub(script) as stub:
        build(llm_recipe(tmp_path, stub.url, zh_share=0), tmp_path / "out")
    assert verify(tmp_path / "out") == []
    assert not any(sample.subset == "caption" for sample in Corpus(tmp_path / "out").samples())


def test_a_key_that_is_not_set_leaves_an_unfinished_corpus_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "secret")
    with Stub(author()) as stub:
        recipe = llm_recipe(tmp_path, stub.url, budget={"requests": 60}, key_env="THE_KEY")
        with pytest.raises(Interrupted, match="budget"):
            build(recipe, tmp_path / "out")
        parts = sorted((tmp_path / "out" / ".parts").iterdir())
        monkeypatch.delenv("THE_KEY")
        with pytest.raises(UserError, match="THE_KEY is not set"):
            build(recipe, tmp_path / "out")
    assert len(parts) > 2 and sorted((tmp_path / "out" / ".parts").iterdir()) == parts


def test_verify_names_drafts_that_no_build_writes(tmp_path: Path) -> None:
    with Stub(author(lies=lambda question: not is_rewriting(question))) as stub:
        build(llm_recipe(tmp_path, stub.url), tmp_path / "out")
    path = tmp_path / "out" / "drafts.parquet"
    table = pq.read_table(path)
    for change in (
        {"outcome": "lost"},
        {"failed": None},
        {"failed": [{"text": "", "faults": "{"}]},
        {"outcome": "kept"},
    ):
        rows = table.to_pylist()
        rows[0] |= change
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
        assert any(rows[0]["sample_id"] in finding for finding in verify(tmp_path / "out"))
    pq.write_table(table.slice(1), path)
    assert any("no draft of it" in finding for finding in verify(tmp_path / "out"))


def test_withdrawal_takes_the_drafts_of_a_source_too(tmp_path: Path) -> None:
    with Stub(author(lies=lambda question: not is_rewriting(question))) as stub:
        build(llm_recipe(tmp_path, stub.url), tmp_path / "out")
    withdraw(tmp_path / "out", "skin", [])
    assert verify(tmp_path / "out") == []
    assert {draft["source"] for draft in table_rows(tmp_path / "out", "drafts")} == {"polyps"}


@pytest.mark.parametrize("form", ["llava", "messages"])
def test_what_a_model_wrote_is_exported_and_comes_back(tmp_path: Path, form: Form) -> None:
    with Stub(author()) as stub:
        build(llm_recipe(tmp_path, stub.url, zh_share=0.5), tmp_path / "out")
    export(tmp_path / "out", form, tmp_path / "export")
    import_conversations(tmp_path / "export", None, tmp_path / "back")
    assert published(tmp_path / "back") == published(tmp_path / "out")
    assert verify(tmp_path / "back") == []


def test_address_speed_and_budget_do_not_change_what_a_recipe_makes(tmp_path: Path) -> None:
    recipe = llm_recipe(tmp_path, "http://127.0.0.1:1/v1")
    same = llm_recipe(tmp_path, "http://127.0.0.1:2/v1", concurrency=9, budget={"tokens": 5}, key_env="KEY")
    assert recipe_sha256(read_recipe(recipe)) == recipe_sha256(read_recipe(same))
    first = recipe_sha256(read_recipe(recipe))
    assert recipe_sha256(read_recipe(llm_recipe(tmp_path, "http://127.0.0.1:1/v1", model="other"))) != first


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "ftp://x"}, "writer.url: "),
        ({"url": "http://key@x/v1"}, "writer.url: "),
        ({"modle": "x"}, "writer.modle: unknown key; did you mean `model`"),
        ({"zh_share": 1.5}, "writer.zh_share: "),
        ({"budget": {"dollars": 1}}, "writer.budget.dollars: unknown key"),
    ],
)
def test_a_fault_in_the_writer_is_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match="writer") as error:
        read_recipe(llm_recipe(tmp_path, **({"url": "http://127.0.0.1:1/v1"} | changes)))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_model_writes_english_and_the_command_line_says_who_writes(tmp_path: Path) -> None:
    recipe = llm_recipe(tmp_path, "http://127.0.0.1:1/v1")
    build(recipe, tmp_path / "out", writer="template")
    assert {sample.provenance.writer for sample in Corpus(tmp_path / "out").samples()} == {"template"}
    data = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump(data | {"languages": {"en": 0.5, "zh": 0.5}}))
    with pytest.raises(UserError, match="writes English and translates"):
        read_recipe(recipe)
    recipe.write_text(yaml.safe_dump(data | {"writer": {"kind": "template"}}))
    with pytest.raises(UserError, match="needs `kind: llm`"):
        build(recipe, tmp_path / "other", writer="llm")


def test_prompts_that_change_get_a_new_version() -> None:
    text = (files("gmai_vl.writing.llm") / "prompts.yaml").read_text(encoding="utf-8")
    version = yaml.safe_load(text)["version"]
    words = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert hashlib.sha256(words.encode()).hexdigest().startswith(PROMPTS[version])


def test_guided_is_measured_against_unguided_on_the_same_images(tmp_path: Path) -> None:
    with Stub(author(lies=is_unguided)) as stub:
        recipe = llm_recipe(tmp_path, stub.url)
        pairs = list(compare_writers(recipe))
        asked = stub.asked.total()
        again = list(compare_writers(recipe))
        assert stub.asked.total() == asked
    assert [pair.case_id for pair in pairs] == [pair.case_id for pair in again]
    summary = write_report(pairs, tmp_path / "report", model="author", saw_images=True)
    assert summary == summary_of(pairs)
    assert summary["all"].guided == 1.0 and summary["all"].unguided == 0.0
    assert summary["all"].difference == 1.0
    assert summary["caption"].images == 16
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("<article>") == len(pairs) and LIE in page
    written = [json.loads(line) for line in (tmp_path / "report" / "pairs.jsonl").read_text().splitlines()]
    assert [row["case_id"] for row in written] == [pair.case_id for pair in pairs]
