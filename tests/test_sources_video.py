"""Videos: which frames are taken, with which pixels, and the labels that hold at their time."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.foundation import UserError
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import VideoSource, list_items, read_item
from gmai_vl.sources.spans import Span, labels_at

WIDTH, HEIGHT = 32, 24
LOSSLESS = ("ffv1", "bgr0")


def pixels_of(number: int) -> np.ndarray:
    """A frame that no other number gives."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def make(
    path: Path,
    times_ms: list[int],
    codec: tuple[str, str] = LOSSLESS,
    *,
    rate: int = 25,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> None:
    """Write a video whose frame n is `pixels_of(n)`, shown from times_ms[n] on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as video:
        track = video.add_stream(codec[0], rate=rate, options=options or {})
        track.width, track.height, track.pix_fmt = WIDTH, HEIGHT, codec[1]
        track.time_base = track.codec_context.time_base = Fraction(
            1, 1000 if times_ms != even(len(times_ms), rate) else rate
        )
        if sound:
            noise = video.add_stream("aac", rate=8000, layout="mono")
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 6), np.float32), format="fltp", layout="mono")
            tone.sample_rate = 8000
            video.mux([*noise.encode(tone), *noise.encode(None)])
        for number, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(pixels_of(number), format="rgb24")
            frame.pts, frame.time_base = (
                round(time / 1000 / track.codec_context.time_base),
                track.codec_context.time_base,
            )
            video.mux(track.encode(frame))
        video.mux(track.encode(None))


def even(count: int, rate: int) -> list[int]:
    """Times in ms of frames at an even rate."""
    return [round(1000 * number / rate) for number in range(count)]


def source(**keys: Any) -> VideoSource:
    shared = {"format": "video", "name": "v", "root": ".", "images": "videos", "modality": "Endoscopy"}
    return VideoSource.model_validate(shared | keys)


def read(root: Path, **keys: Any) -> tuple[list[Case], list[Rejected]]:
    spec = source(**keys)
    found = [each for item in list_items(spec, root) for each in read_item(spec, root, item)]
    assert len({each.item for each in found}) == len(found)
    cases = [each for each in found if isinstance(each, Case)]
    return cases, [each for each in found if isinstance(each, Rejected)]


def times_of(cases: list[Case]) -> list[float]:
    return [float(case.item.partition("@t=")[2]) for case in cases]


def labels_of(cases: list[Case]) -> list[list[str]]:
    return [[finding.label.en for finding in case.findings] for case in cases]


def chosen(times_ms: list[int], fps: int, end_ms: int) -> list[tuple[Fraction, int]]:
    """Return (seconds, frame) by trying every time of the grid: the frame on show there, unless it was taken before."""
    taken: dict[int, Fraction] = {}
    tick = 0
    while Fraction(tick, fps) * 1000 < end_ms:
        time = Fraction(tick, fps)
        number = max(n for n, at in enumerate(times_ms) if at <= time * 1000)
        taken.setdefault(number, time)
        tick += 1
    return [(time, number) for number, time in taken.items()]


@pytest.mark.parametrize("fps", [1, 2, 3, 5, 10])
def test_an_even_video_gives_the_frames_on_show(tmp_path: Path, fps: int) -> None:
    make(tmp_path / "videos/polyp/a.mkv", even(27, 10), rate=10)
    cases, rejected = read(tmp_path, fps=fps)
    wanted = chosen(even(27, 10), fps, 2700)
    assert not rejected
    assert times_of(cases) == [round(float(time), 3) for time, _ in wanted]
    for case, (_, number) in zip(cases, wanted, strict=True):
        np.testing.assert_array_equal(case.pixels, pixels_of(number))
    first = cases[0]
    assert first.item == "videos/polyp/a.mkv@t=0"
    assert (first.patient_id, first.task, first.dimension) == ("videos/polyp/a.mkv", "cls", "2d")
    assert labels_of(cases) == [["polyp"]] * len(cases)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(20, 900), min_size=2, max_size=12), st.sampled_from([1, 2, 5, 25]))
def test_an_uneven_video_gives_each_frame_at_most_once(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], fps: int
) -> None:
    root = tmp_path_factory.mktemp("uneven")
    times = [0, *np.cumsum(gaps).tolist()]
    make(root / "videos/polyp/a.mkv", times)
    cases, rejected = read(root, fps=fps)
    assert not rejected
    # How long the last frame stays is not in the file.
    wanted = [each for each in chosen(times, fps, times[-1] + 1) if each[1] < len(times) - 1]
    found = list(zip(times_of(cases), cases, strict=True))[: len(wanted)]
    assert [time for time, _ in found] == [round(float(time), 3) for time, _ in wanted]
    for (_, case), (_, number) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(case.pixels, pixels_of(number))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.avi", ("mpeg4", "yuv420p"), {}),
        ("a.avi", ("mjpeg", "yuvj420p"), {}),
        ("a.mp4", ("libx264", "yuv420p"), {"bf": "3"}),
        ("a.mov", ("libx264rgb", "rgb24"), {"qp": "0"}),
        ("a.mpg", ("mpeg2video", "yuv420p"), {}),
        ("a.webm", ("libvpx", "yuv420p"), {}),
        ("a.wmv", ("wmv2", "yuv420p"), {}),
    ],
)
def test_every_container_gives_the_times(
    tmp_path: Path, name: str, codec: tuple[str, str], options: dict[str, str]
) -> None:
    make(tmp_path / "videos/polyp" / name, even(75, 25), codec, options=options)
    cases, rejected = read(tmp_path)
    assert not rejected
    assert times_of(cases) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert {case.pixels.shape for case in cases} == {(HEIGHT, WIDTH, 3)}


def test_grey_stays_grey_and_sound_is_not_looked_at(tmp_path: Path) -> None:
    make(tmp_path / "videos/polyp/a.mkv", even(20, 10), ("ffv1", "gray"), rate=10, sound=True)
    cases, rejected = read(tmp_path)
    assert not rejected
    assert [case.pixels.shape for case in cases] == [(HEIGHT, WIDTH)] * 4


def table(root: Path, text: str, name: str = "labels.csv") -> str:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return name


def test_spans_hold_from_their_start_up_to_their_end(tmp_path: Path) -> None:
    make(tmp_path / "videos/a.mkv", even(30, 10), rate=10)
    rows = "video,from,to,what\na,0.5,00:00:01.5,cut\na.mkv,1,2,clip\nvideos/a.mkv,2,,rest\nother,0,9,no\n"
    annotations = table(tmp_path, rows)
    keys = {"annotations": annotations, "start_column": "from", "end_column": "to", "label_column": "what"}
    cases, rejected = read(tmp_path, **keys)
    assert times_of(cases) == [0.5, 1, 1.5, 2, 2.5]
    assert labels_of(cases) == [["cut"], ["cut", "clip"], ["clip"], ["rest"], ["rest"]]
    (unlabelled,) = rejected
    assert (unlabelled.item, unlabelled.outcome) == ("videos/a.mkv@unlabelled", "excluded")
    assert unlabelled.reason == "1 frames bear no label"


def test_without_an_end_a_label_holds_until_a_later_start(tmp_path: Path) -> None:
    make(tmp_path / "videos/a.mkv", even(30, 10), rate=10)
    annotations = table(tmp_path, "video,start,label\na,2,late\na,0,early\na,0,calm\na,1,\n")
    cases, rejected = read(tmp_path, annotations=annotations, label_column="label")
    assert list(zip(times_of(cases), labels_of(cases), strict=True)) == [
        (0, ["early", "calm"]),
        (0.5, ["early", "calm"]),
        (2, ["late"]),
        (2.5, ["late"]),
    ]
    assert rejected[0].reason == "2 frames bear no label"


def test_phases_and_tools_by_frame_as_cholec80_has_them(tmp_path: Path) -> None:
    make(tmp_path / "videos/video01.mp4", even(75, 25), ("libx264", "yuv420p"))
    phases = "".join(f"{number}\t{'Preparation' if number < 30 else 'ClippingCutting'}\n" for number in range(75))
    table(tmp_path, f"Frame\tPhase\n{phases}", "phase_annotations/video01-phase.txt")
    table(tmp_path, "Frame\tGrasper\tHook\n0\t1\t0\n25\t1\t1\n50\t0\t0\n", "tool_annotations/video01-tool.txt")
    by_frame = {"start_column": "Frame", "unit": "frames", "images": "videos/*.mp4"}
    cases, rejected = read(
        tmp_path, annotations="phase_annotations/{stem}-phase.txt", label_column="Phase", fps=1, **by_frame
    )
    assert labels_of(cases) == [["Preparation"], ["Preparation"], ["ClippingCutting"]]
    assert not rejected
    cases, rejected = read(
        tmp_path, annotations="tool_annotations/{stem}-tool.txt", label_columns=["Grasper", "Hook"], fps=1, **by_frame
    )
    assert list(zip(times_of(cases), labels_of(cases), strict=True)) == [(0, ["Grasper"]), (1, ["Grasper", "Hook"])]
    assert {term.en for term in cases[0].label_set} == {"Grasper", "Hook"}
    assert rejected[0].item == "videos/video01.mp4@unlabelled"


@pytest.mark.parametrize(("unit", "moments"), [("frames", [7, 23]), ("seconds", [0.75, 2.3])])
def test_a_moment_is_taken_itself_and_nothing_between(tmp_path: Path, unit: str, moments: list[float]) -> None:
    make(tmp_path / "videos/a.mkv", even(30, 10), rate=10)
    annotations = table(tmp_path, "video,start,label\n" + "".join(f"a,{each},polyp\n" for each in moments))
    cases, rejected = read(tmp_path, annotations=annotations, label_column="label", end_column="start", unit=unit)
    assert not rejected
    assert times_of(cases) == ([0.7, 2.3] if unit == "frames" else [0.75, 2.3])
    for case, number in zip(cases, (7, 23), strict=True):
        np.testing.assert_array_equal(case.pixels, pixels_of(number))


def test_moments_stand_beside_spans(tmp_path: Path) -> None:
    make(tmp_path / "videos/a.mkv", even(20, 10), rate=10)
    annotations = table(
        tmp_path, "video,start,end,label\na,0,1,cut\na,0.3,0.3,polyp\na,0.5,0.5,bleeding\na,1.7,1.7,cyst\n"
    )
    cases, rejected = read(tmp_path, annotations=annotations, label_column="label", end_column="end")
    assert list(zip(times_of(cases), labels_of(cases), strict=True)) == [
        (0, ["cut"]),
        (0.3, ["cut", "polyp"]),
        (0.5, ["cut", "bleeding"]),
        (1.7, ["cyst"]),
    ]
    assert rejected[0].reason == "2 frames bear no label"


SPANS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8)


@given(SPANS, st.integers(0, 9))
def test_labels_are_those_of_the_spans_about_a_time(pairs: list[tuple[int, int]], at: int) -> None:
    spans = tuple(Span(start=min(pair), end=max(pair), labels=(str(n),)) for n, pair in enumerate(pairs))
    wanted = {str(n) for n, (a, b) in enumerate(pairs) if at in range(min(a, b), max(a, b)) or a == b == at}
    assert set(labels_at(spans, at, at, at + 1)) == wanted


def test_labels_may_be_named_excluded_negative_or_one_for_all(tmp_path: Path) -> None:
    make(tmp_path / "videos/a.mkv", even(20, 10), rate=10)
    annotations = table(tmp_path, "video,start,label\na,0,p1\na,0.5,none\na,1,junk\na,1.5,p1|none\n")
    labels = {
        "p1": {"en": "polyp", "zh": "息肉"},
        "none": {"en": "no finding", "negative": True},
        "junk": None,
        "x": "ulcer",
    }
    cases, rejected = read(tmp_path, annotations=annotations, label_column="label", label_separator="|", labels=labels)
    assert [case.negative.en if case.negative else case.findings[0].label.zh for case in cases] == [
        "息肉",
        "no finding",
    ]
    assert {term.en for term in cases[0].label_set} == {"polyp", "ulcer"}
    reasons = {each.item: (each.outcome, each.reason) for each in rejected}
    assert reasons["videos/a.mkv@excluded"] == ("excluded", "1 frames bear only labels that the recipe excludes")
    assert "says that nothing is there" in reasons["videos/a.mkv@t=1.5"][1]
    cases, _ = read(tmp_path, label="p1", labels={"p1": "polyp"})
    assert labels_of(cases) == [["polyp"]] * 4
    _, (alone,) = read(tmp_path)
    assert "lies in no class folder" in alone.reason


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("video,start,label\nb,0,x\n", "has no row in the table"),
        ("video,start,label\na,,x\n", "no time in `start`"),
        ("video,start,label\na,soon,x\n", "a time is a number or hours:minutes:seconds"),
        ("video,start,label\na,-1,x\n", "is `-1`"),
        ("video,start,label\na,nan,x\n", "is `nan`"),
        ("video,start,label,end\na,5,x,2\n", "ends at 2, before it starts at 5"),
    ],
)
def test_rows_without_a_sense_are_told(tmp_path: Path, rows: str, words: str) -> None:
    make(tmp_path / "videos/a.mkv", even(5, 10), rate=10)
    keys = {"end_column": "end"} if "end" in rows else {}
    cases, (rejected,) = read(tmp_path, annotations=table(tmp_path, rows), label_column="label", **keys)
    assert not cases
    assert (rejected.item, rejected.outcome) == ("videos/a.mkv", "quarantined")
    assert words in rejected.reason


def test_a_table_that_lacks_a_column_is_the_users_mistake(tmp_path: Path) -> None:
    make(tmp_path / "videos/a.mkv", even(5, 10), rate=10)
    with pytest.raises(UserError, match=r"source `v`: annotations: .* has no column `phase`"):
        read(tmp_path, annotations=table(tmp_path, "video,start,label\na,0,x\n"), label_column="phase")


def test_unknown_labels_may_be_quarantined_and_patients_named(tmp_path: Path) -> None:
    make(tmp_path / "videos/polyp/p7_1.mkv", even(5, 10), rate=10)
    cases, _ = read(tmp_path, patient={"regex": r"(p\d+)_", "of": "name"})
    assert {case.patient_id for case in cases} == {"p7"}
    _, (rejected,) = read(tmp_path, unknown_labels="quarantine", labels={"cyst": "cyst", "ulcer": "ulcer"})
    assert "label `polyp` is not in the recipe" in rejected.reason


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", LOSSLESS), ("a.avi", ("mpeg4", "yuv420p")), ("a.mp4", ("libx264", "yuv420p"))]
)
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_cut_video_gives_the_frames_before_and_a_reason(
    tmp_path: Path, name: str, codec: tuple[str, str], share: float
) -> None:
    path = tmp_path / "videos/polyp" / name
    make(path, even(200, 25), codec)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    cases, rejected = read(tmp_path)
    assert [each.outcome for each in rejected] == ["quarantined"]
    assert "ends after" in rejected[0].reason or "cannot be decoded" in rejected[0].reason
    assert str(tmp_path) not in rejected[0].reason
    assert len(cases) < 16


def test_a_playlist_under_a_false_name_opens_nothing(tmp_path: Path) -> None:
    make(tmp_path / "secret.mkv", even(5, 10), rate=10)
    (tmp_path / "videos/polyp").mkdir(parents=True)
    for name in ("a.mp4", "a.mkv", "a.avi", "a.mpg"):
        (tmp_path / "videos/polyp" / name).write_text(f"ffconcat version 1.0\nfile {tmp_path}/secret.mkv\n")
        cases, rejected = read(tmp_path, images=f"videos/polyp/{name}")
        assert not cases
        assert rejected[0].outcome == "quarantined"


def test_frames_that_are_too_large_or_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "videos/polyp/a.mkv", even(20, 10), rate=10)
    monkeypatch.setattr("gmai_vl.sources.video.MAX_FRAMES", 8)
    cases, rejected = read(tmp_path)
    assert "more than 8 frames" in rejected[0].reason
    assert len(cases) == 2
    monkeypatch.setattr("gmai_vl.sources.video.MAX_PIXELS", 700)
    _, rejected = read(tmp_path)
    assert "more than the limit of 700" in rejected[0].reason


def test_a_video_of_sound_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos/polyp").mkdir(parents=True)
    with av.open(tmp_path / "videos/polyp/a.mkv", "w") as video:
        noise = video.add_stream("aac", rate=8000, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 8000
        video.mux([*noise.encode(tone), *noise.encode(None)])
    _, rejected = read(tmp_path)
    assert "no stream of pictures" in rejected[0].reason


def test_a_corpus_of_videos_keeps_each_file_on_one_side(tmp_path: Path) -> None:
    for label in ("polyp", "ulcer"):
        for number in range(3):
            times = even(10 + number + 5 * (label == "ulcer"), 10)
            make(tmp_path / f"videos/{label}/{number}.mkv", times, rate=10)
    recipe = {"name": "v", "languages": {"en": 1.0}, "sources": [source(root=".").model_dump(mode="json")]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    built = build(tmp_path / "r.yaml", tmp_path / "out")
    assert verify(built.corpus) == []
    assert Corpus(built.corpus).manifest["split_unit"] == "file"
    # All six begin alike, so most of their frames are duplicates; none is lost without a word.
    outcomes = Corpus(built.corpus).manifest["counts"]["outcomes"]
    assert outcomes["kept"] + outcomes["duplicate"] == sum(
        len(chosen(even(n, 10), 2, n * 100)) for n in (10, 11, 12, 15, 16, 17)
    )


def test_one_frame_is_in_memory_at_a_time(tmp_path: Path) -> None:
    make(tmp_path / "videos/polyp/a.mkv", even(20, 10), rate=10)
    spec = source()
    frames = iter(read_item(spec, tmp_path, "videos/polyp/a.mkv"))
    assert isinstance(next(frames), Case)
    (tmp_path / "videos/polyp/a.mkv").unlink()  # it is open, so that the rest can still be read
    assert len(list(frames)) == 3
