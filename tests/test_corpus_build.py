"""Building a corpus: the same from any number of workers and after any interruption, and nothing lost on the way."""

import fcntl
import hashlib
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from corpus_recipes import RECIPE, write_picture, write_recipe, write_sources
from killing import run_killed_at

from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.foundation import UserError


def build_killed_at(recipe: Path, out: Path, moment: int) -> subprocess.CompletedProcess[str]:
    return run_killed_at("from gmai_vl.corpus import build as call", [recipe, out], out, moment)


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> int:
    """File operations of a build of the small recipe from beginning to end."""
    folder = tmp_path_factory.mktemp("counted")
    return int(build_killed_at(write_sources(folder), folder / "out", moment=0).stdout)


def files_of(corpus: Path) -> set[str]:
    return {path.relative_to(corpus).as_posix() for path in corpus.rglob("*") if path.is_file()}


def test_a_build_gives_every_file_and_nothing_else(tmp_path: Path) -> None:
    summary = build(write_sources(tmp_path), tmp_path / "out")
    tables = {"cases.parquet", "ledger.parquet", "prompts.jsonl", "manifest.json", "samples/00000.parquet"}
    cards = {"card.md", "croissant.json"}
    images = {
        f"images/{name[:2]}/{name}.png" for name in (row["image"] for row in Corpus(tmp_path / "out").rows("cases"))
    }
    assert files_of(tmp_path / "out") == tables | cards | images
    assert not (tmp_path / "out" / ".parts").exists()
    assert len(images) == summary.counts["cases"] == 5 * 2 + 6


def test_the_fingerprint_is_the_hash_of_sorted_rows_and_outcomes(tmp_path: Path) -> None:
    summary = build(write_sources(tmp_path), tmp_path / "out")

    def line(row: dict[str, object]) -> str:
        return json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    samples = pq.read_table(tmp_path / "out" / "samples" / "00000.parquet").to_pylist()
    ledger = pq.read_table(tmp_path / "out" / "ledger.parquet", columns=["source", "item", "outcome"]).to_pylist()
    lines = sorted(map(line, samples)) + sorted(map(line, ledger))
    assert summary.fingerprint == hashlib.sha256("".join(f"{each}\n" for each in lines).encode()).hexdigest()


def test_worker_count_and_place_do_not_change_a_corpus_but_the_seed_does(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path / "a")
    alone = build(recipe, tmp_path / "alone")
    together = build(write_sources(tmp_path / "b"), tmp_path / "together", workers=2)
    assert alone.fingerprint == together.fingerprint
    assert files_of(alone.corpus) == files_of(together.corpus)
    other = build(write_recipe(tmp_path / "a", seed=1), tmp_path / "other")
    assert other.fingerprint != alone.fingerprint


def test_a_finished_corpus_is_left_alone(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path)
    first = build(recipe, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    again = build(recipe, tmp_path / "out")
    assert (again.fingerprint, again.counts, again.new_parts) == (first.fingerprint, first.counts, 0)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}


def test_a_killed_build_is_finished_to_the_same_corpus(tmp_path: Path, moments: int) -> None:
    recipe = write_sources(tmp_path)
    whole = build(recipe, tmp_path / "whole")
    for moment in (moments // 2, moments - 12):  # while parts are made, and while they are merged
        _kill_and_finish(recipe, tmp_path / str(moment), moment, whole.fingerprint, files_of(whole.corpus))


@pytest.mark.long
def test_a_build_killed_at_any_moment_is_finished_to_the_same_corpus(tmp_path: Path, moments: int) -> None:
    recipe = write_sources(tmp_path)
    whole = build(recipe, tmp_path / "whole")
    for moment in random.Random(0).sample(range(1, moments + 1), 20):
        _kill_and_finish(recipe, tmp_path / str(moment), moment, whole.fingerprint, files_of(whole.corpus))


def _kill_and_finish(recipe: Path, out: Path, moment: int, fingerprint: str, files: set[str]) -> None:
    assert build_killed_at(recipe, out, moment).returncode == -signal.SIGKILL
    summary = build(recipe, out)
    assert summary.fingerprint == fingerprint, f"moment {moment}"
    assert files_of(out) == files, f"moment {moment}"


def test_workers_do_not_outlive_a_killed_build(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path, patients=15, polyps=20)
    whole = build(recipe, tmp_path / "whole")
    script = (
        "import sys; from pathlib import Path; from gmai_vl.corpus import build\n"
        "if __name__ == '__main__': build(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)"
    )
    (tmp_path / "build.py").write_text(script)
    out = tmp_path / "out"
    # Its output pipe closes when the last process that has it ends: waiting for that is waiting for the workers.
    with subprocess.Popen([sys.executable, tmp_path / "build.py", recipe, out], stdout=subprocess.PIPE) as process:
        while process.poll() is None and not list(out.glob(".parts/*-ledger.arrow")):
            pass
        process.kill()
        assert process.stdout is not None
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    summary = build(recipe, out)
    assert summary.reused_parts > 0
    assert summary.fingerprint == whole.fingerprint
    assert files_of(out) == files_of(whole.corpus)


def test_files_that_change_during_an_interruption_are_read_again(tmp_path: Path, moments: int) -> None:
    recipe = write_sources(tmp_path)
    build_killed_at(recipe, tmp_path / "out", moments - 12)
    write_picture(tmp_path / "skin" / "nevus" / "p0_0.png", seed=999)
    finished = build(recipe, tmp_path / "out")
    clean = build(recipe, tmp_path / "clean")
    assert finished.reused_parts > 0
    assert finished.fingerprint == clean.fingerprint
    assert files_of(finished.corpus) == files_of(clean.corpus)


def test_every_item_stands_in_the_ledger_with_what_became_of_it(tmp_path: Path) -> None:
    write_sources(tmp_path)
    sources = [RECIPE["sources"][0] | {"labels": {"artefact": None}}, RECIPE["sources"][1]]
    recipe = write_recipe(tmp_path, sources=sources)
    skin = tmp_path / "skin"
    write_picture(skin / "artefact" / "p7_0.png", seed=70)
    (skin / "nevus" / "p8_0.png").write_bytes(b"no picture")
    (skin / "nevus" / "p9_0.png").write_bytes((skin / "nevus" / "p0_0.png").read_bytes())
    (tmp_path / "polyps" / "masks" / "5.png").unlink()

    summary = build(recipe, tmp_path / "out")
    outcome_of = {(row["source"], row["item"]): row["outcome"] for row in Corpus(summary.corpus).rows("ledger")}
    assert outcome_of.pop(("skin", "artefact/p7_0.png")) == "excluded"
    assert outcome_of.pop(("skin", "nevus/p8_0.png")) == "quarantined"
    assert outcome_of.pop(("skin", "nevus/p9_0.png")) == "duplicate"
    assert outcome_of.pop(("polyps", "images/5.png")) == "quarantined"
    assert set(outcome_of.values()) == {"kept"}
    assert len(outcome_of) == 5 * 2 + 5
    assert summary.counts["outcomes"] == {"duplicate": 1, "excluded": 1, "kept": 15, "quarantined": 2}
    assert summary.counts["sources"]["polyps"]["outcomes"] == {"kept": 5, "quarantined": 1}
    reasons = {row["item"]: row["reason"] for row in Corpus(summary.corpus).rows("ledger")}
    assert reasons["nevus/p9_0.png"] == "same pixels as skin/nevus/p0_0.png"


def test_too_much_quarantine_stops_the_build_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = write_sources(tmp_path)
    broken = [tmp_path / "skin" / "nevus" / f"p{patient}_0.png" for patient in range(3)]
    for path in broken:
        path.write_bytes(b"no picture")
    with pytest.raises(UserError) as error:
        build(recipe, tmp_path / "out")
    assert "30% of its items cannot be used, 20% may be" in str(error.value)
    assert "\n" not in str(error.value)
    assert "nevus/p0_0.png" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []

    for seed, path in enumerate(broken):
        write_picture(path, seed=500 + seed)
    assert build(recipe, tmp_path / "out").counts["outcomes"] == {"kept": 16}


def test_reasons_are_counted_together_though_files_are_called_as_a_word_of_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("a", "d", "beginning", "p1"):
        path = tmp_path / "skin" / "nevus" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="or its beginning is damaged"):
        build(write_recipe(tmp_path, sources=RECIPE["sources"][:1]), tmp_path / "out")
    table = capsys.readouterr().err
    assert [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│") and "nevus" in line] == [
        "3",
        "1",
    ]


def test_a_label_that_nothing_can_be_written_with_goes_to_the_quarantine(tmp_path: Path) -> None:
    write_sources(tmp_path)
    write_picture(tmp_path / "skin" / "<b>" / "p0_9.png", seed=90)
    with pytest.raises(UserError, match="most often: label '<b>'"):
        build(tmp_path / "recipe.yaml", tmp_path / "out")
    sources = [RECIPE["sources"][0] | {"labels": {"<b>": "scar"}}, RECIPE["sources"][1]]
    assert build(write_recipe(tmp_path, sources=sources), tmp_path / "out").counts["outcomes"] == {"kept": 17}


def test_a_share_of_quarantine_that_the_recipe_allows_is_no_fault(tmp_path: Path) -> None:
    write_sources(tmp_path)
    for patient in range(3):
        (tmp_path / "skin" / "nevus" / f"p{patient}_0.png").write_bytes(b"no picture")
    summary = build(write_recipe(tmp_path, max_quarantined=0.3), tmp_path / "out")
    assert summary.counts["outcomes"] == {"kept": 13, "quarantined": 3}


def test_a_folder_of_another_recipe_is_refused_finished_or_not(tmp_path: Path, moments: int) -> None:
    recipe = write_sources(tmp_path)
    build(recipe, tmp_path / "finished")
    build_killed_at(recipe, tmp_path / "unfinished", moments // 2)
    other = write_recipe(tmp_path, name="other")
    for out in (tmp_path / "finished", tmp_path / "unfinished"):
        before = files_of(out)
        with pytest.raises(UserError, match=r"holds `small \(recipe .*makes `other \(recipe"):
            build(other, out)
        assert files_of(out) == before


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        build(recipe, tmp_path / "out")
    write_picture(tmp_path / "mine" / "images" / "a.png", seed=1)
    with pytest.raises(UserError, match="holds `images`"):
        build(recipe, tmp_path / "mine")
    assert files_of(tmp_path / "mine") == {"images/a.png"}
    with pytest.raises(UserError, match="is a file"):
        build(recipe, recipe)


def test_two_builds_do_not_work_in_one_folder(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path)
    (tmp_path / "out" / ".parts").mkdir(parents=True)
    with (tmp_path / "out" / ".parts" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another build"):
            build(recipe, tmp_path / "out")
    assert build(recipe, tmp_path / "out").counts["cases"] == 16


def test_a_fault_of_the_recipe_leaves_no_folder_behind(tmp_path: Path) -> None:
    write_sources(tmp_path)
    recipe = write_recipe(tmp_path, sources=[RECIPE["sources"][0] | {"images": "*.tif"}])
    with pytest.raises(UserError, match=r"recipe\.yaml: source `skin`: images"):
        build(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_patients_stay_whole_in_the_corpus(tmp_path: Path) -> None:
    corpus = build(write_sources(tmp_path), tmp_path / "out").corpus
    sides: dict[str, set[str]] = {}
    for sample in Corpus(corpus).samples():
        sides.setdefault(sample.patient_id or sample.images[0], set()).add(str(sample.split))
    assert all(len(splits) == 1 for splits in sides.values())
    assert Counter(min(splits) for unit, splits in sides.items() if unit.startswith("p")) == {
        "train": 3,
        "val": 1,
        "test": 1,
    }
    assert verify(corpus) == []


def test_a_split_by_image_does_not_tear_patients_apart(tmp_path: Path) -> None:
    write_sources(tmp_path)
    by_image = RECIPE["split"] | {"by": "image"}
    with pytest.raises(UserError, match="source `skin` names patients"):
        build(write_recipe(tmp_path, split=by_image), tmp_path / "out")
    summary = build(write_recipe(tmp_path, split=by_image, sources=RECIPE["sources"][1:]), tmp_path / "out")
    assert Corpus(summary.corpus).manifest["split_unit"] == "image"
