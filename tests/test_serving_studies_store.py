"""Uploads over HTTP and how long they stay: what comes back, what is refused, what is gone afterwards."""

import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from serving_server import running
from serving_studies import MARKER, axial_slices, body, write_series
from starlette.responses import JSONResponse
from test_sources_dicom import COLOUR

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies import StudyStore, study_routes
from gmai_vl.serving.studies.routes import UPLOADS_AT_ONCE

LIMITS = Limits(studies=3, study_seconds=100.0, upload_files=30, upload_bytes=200_000, unpacked_bytes=300_000)


class Clock:
    """A time that passes when told to."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = StudyStore(tmp_path / "kept", LIMITS, clock=clock)
    yield store
    store.close()


def png(seed=0, size=(5, 8)):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def put(store, *contents):
    """Put files into the store as an upload does."""
    room = store.room()
    files = []
    for number, content in enumerate(contents):
        (room / f"{number}").write_bytes(content)
        files.append(room / f"{number}")
    return store.add(room, files)[0]


def below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_here(store, name):
    try:
        store.get(name)
    except Refusal as refusal:
        assert refusal.status == 404
        return False
    return True


# The store


def test_a_study_stays_while_it_is_looked_at(store, clock, tmp_path):
    name = put(store, png())
    for _ in range(3):
        clock.now += 100
        assert is_here(store, name)
    clock.now += 100.5
    assert not is_here(store, name)
    assert below(tmp_path) == []


def test_what_has_expired_goes_without_being_asked_for(store, clock, tmp_path):
    put(store, png())
    clock.now += 101
    store.sweep()
    assert below(tmp_path) == []


def test_the_longest_unused_goes_first_where_there_are_too_many(store, tmp_path):
    names = [put(store, png(seed)) for seed in range(3)]
    assert is_here(store, names[0])
    names.append(put(store, png(3)))
    assert [is_here(store, name) for name in names] == [True, False, True, True]
    assert len(below(tmp_path)) == 3


def test_the_longest_unused_goes_first_where_they_are_too_large(tmp_path):
    limits = Limits(study_memory=2 * len(png()) + 10)
    store = StudyStore(tmp_path, limits)
    names = [put(store, png()) for _ in range(3)]
    assert [is_here(store, name) for name in names] == [False, True, True]
    alone = put(store, png(size=(50, 80)))
    assert [is_here(store, name) for name in (*names, alone)] == [False, False, False, True]
    store.close()


def test_only_what_slices_are_read_from_stays_on_the_disk_and_only_its_owner_may_look(store, tmp_path):
    files = [path.read_bytes() for path in write_series(tmp_path / "s", axial_slices(body()))]
    name = put(store, *files, b"no picture", png())
    kept = below(tmp_path / "kept")
    assert [path.read_bytes() for path in kept] == [png()]
    folders = [path for path in (tmp_path / "kept").rglob("*") if path.is_dir()]
    assert folders
    assert all(path.stat().st_mode & 0o077 == 0 for path in folders)
    study = store.get(name)
    assert study.nbytes == body().nbytes + len(png())
    store.remove(name)
    assert below(tmp_path / "kept") == []
    assert not is_here(store, name)


def test_a_refused_upload_leaves_nothing(store, tmp_path):
    with pytest.raises(Refusal) as refused:
        put(store, b"no picture")
    assert refused.value.status == 422
    assert list((tmp_path / "kept").rglob("*/*")) == []


def test_ids_cannot_be_guessed_and_differ(store):
    names = {put(store, png()) for _ in range(20)}
    assert len(names) == 20
    assert all(len(name) >= 22 for name in names)


def test_a_closed_store_is_empty_and_takes_nothing(store, tmp_path):
    name, room = put(store, png()), store.room()
    (room / "0").write_bytes(png())
    beside = tmp_path / "kept" / "not its own"
    beside.touch()
    store.close()
    assert below(tmp_path / "kept") == [beside]
    assert not is_here(store, name)
    with pytest.raises(Refusal) as refused:
        store.room()
    assert refused.value.status == 503


def test_many_threads_at_once(store):
    def work(seed):
        name = put(store, png(seed))
        try:
            store.get(name).series[0].slice("stored", 0)
        except Refusal as refusal:  # pushed out by another
            assert refusal.status in (404, 422)
        return name

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(work, range(20)))
    assert sum(is_here(store, name) for name in names) == 3


# HTTP


@pytest.fixture
def url(store):
    app = FastAPI()
    app.include_router(study_routes(store, LIMITS))

    @app.exception_handler(Refusal)
    async def refused(_request, refusal):
        return JSONResponse(refusal.body(), refusal.status, headers=refusal.headers)

    with running(app) as address:
        yield address + "/demo/studies"


def upload(url, *contents, field="files"):
    return httpx.post(
        url, files=[(field, (f"../../{MARKER} {place}.dcm", each)) for place, each in enumerate(contents)], timeout=60
    )


def pixels_of(reply):
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["cache-control"] == "no-store"
    return np.array(Image.open(io.BytesIO(reply.content)))


def zipped(contents):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, content in enumerate(contents):
            archive.writestr(f"{MARKER}/{place}", content)
    return file.getvalue()


@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_series_is_uploaded_looked_at_and_forgotten(url, store, tmp_path, is_zipped):
    volume = body()
    contents = [path.read_bytes() for path in write_series(tmp_path / "s", axial_slices(volume))]
    reply = upload(url, zipped(contents)) if is_zipped else upload(url, *contents)
    assert reply.status_code == 200, reply.text
    told = reply.json()
    assert told.keys() == {"id", "expires_s", "series", "left_out"}
    assert (told["expires_s"], told["left_out"]) == (100, [])
    (series,) = told["series"]
    assert series == {
        "number": 0,
        "modality": "CT",
        "kind": "volume",
        "windows": ["auto", "stored", "lung", "bone", "brain", "soft-tissue"],
        "notes": [],
        "planes": [
            {"name": "axial", "slices": 7, "first": 3, "width": 11, "height": 9, "pixel_mm": [0.9, 0.8]},
            {"name": "coronal", "slices": 9, "first": 4, "width": 11, "height": 7, "pixel_mm": [2.5, 0.8]},
            {"name": "sagittal", "slices": 11, "first": 5, "width": 9, "height": 7, "pixel_mm": [2.5, 0.9]},
        ],
    }
    kept = store.get(told["id"]).series[0]
    for window in series["windows"]:
        reply = httpx.get(f"{url}/{told['id']}/0/coronal/4.png", params={"window": window})
        np.testing.assert_array_equal(pixels_of(reply), kept.slice("coronal", 4, window))
    assert httpx.delete(f"{url}/{told['id']}").status_code == 204
    for gone in (httpx.get(f"{url}/{told['id']}/0/axial/0.png"), httpx.delete(f"{url}/{told['id']}")):
        assert gone.status_code == 404
        assert gone.json()["error"]["type"] == "not_found_error"
    assert below(tmp_path / "kept") == []


def test_a_picture_comes_back_as_it_is(url):
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "PNG")
    told = upload(url, file.getvalue()).json()
    assert told["series"][0]["windows"] == []
    np.testing.assert_array_equal(pixels_of(httpx.get(f"{url}/{told['id']}/0/stored/0.png?window=auto")), COLOUR)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("0/stored/1.png", 422),
        ("0/stored/-1.png", 422),
        ("0/stored/0.png?window=lung", 422),
        ("0/axial/0.png", 422),
        ("1/stored/0.png", 422),
        ("x/stored/0.png", 422),
        ("0/stored/٣.png", 422),
        ("0/stored/99999999999999999999.png", 422),
        ("0/stored/0.jpg", 404),
    ],
)
def test_wrong_slices_are_refused(url, path, status):
    told = upload(url, png()).json()
    assert httpx.get(f"{url}/{told['id']}/{path}").status_code == status


def test_too_many_files_and_too_much_in_them(url, tmp_path):
    assert upload(url, *[png()] * 31).status_code == 413
    assert upload(url, b"x" * 200_001).status_code == 413
    assert upload(url, zipped([png()] * 30)).status_code == 413
    assert upload(url, zipped([b"0" * 150_000] * 2 + [b"0"])).status_code == 413
    assert below(tmp_path) == []
    assert upload(url, *[png()] * 30).status_code == 200


def test_a_body_without_a_length_is_counted_as_it_comes(url, tmp_path):
    head = b'--b\r\ncontent-disposition: form-data; name="files"\r\n\r\n'

    def endless():
        yield head
        for _ in range(100):
            yield b"x" * 10_000

    reply = httpx.post(url, content=endless(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert reply.status_code == 413
    assert below(tmp_path) == []


BODIES = {
    "no form": ("application/json", b"{}"),
    "no boundary": ("multipart/form-data", b""),
    "a long boundary": ("multipart/form-data; boundary=" + "b" * 1000, b""),
    "cut short": ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="files"\r\n\r\nabc'),
    "no part": ("multipart/form-data; boundary=b", b"--b--\r\n"),
    "nothing": ("multipart/form-data; boundary=b", b""),
    "another field": (
        "multipart/form-data; boundary=b",
        b'--b\r\ncontent-disposition: form-data; name="other"\r\n\r\nabc\r\n--b--\r\n',
    ),
    "no name": ("multipart/form-data; boundary=b", b"--b\r\n\r\nabc\r\n--b--\r\n"),
    "a long header": ("multipart/form-data; boundary=b", b"--b\r\nx: " + b"y" * 10**5 + b"\r\n\r\nabc\r\n--b--\r\n"),
    "many headers": ("multipart/form-data; boundary=b", b"--b\r\n" + b"x: y\r\n" * 1000 + b"\r\nabc\r\n--b--\r\n"),
    "garbage": ("multipart/form-data; boundary=b", bytes(range(256)) * 20),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_no_form_of_files_is_refused(url, tmp_path, what):
    kind, body_bytes = BODIES[what]
    reply = httpx.post(url, content=body_bytes, headers={"content-type": kind})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert below(tmp_path) == []


def test_more_uploads_than_are_taken_at_a_time_are_told_to_wait(url):
    head = b'--b\r\ncontent-disposition: form-data; name="files"\r\n\r\n'
    kind = {"content-type": "multipart/form-data; boundary=b"}
    may_end, begun = threading.Event(), [threading.Event() for _ in range(UPLOADS_AT_ONCE)]

    def slow(number):
        yield head
        begun[number].set()
        assert may_end.wait(60)
        yield png() + b"\r\n--b--\r\n"

    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        replies = [
            pool.submit(httpx.post, url, content=slow(number), headers=kind, timeout=60)
            for number in range(UPLOADS_AT_ONCE)
        ]
        assert all(each.wait(60) for each in begun)
        reply = upload(url, png())
        while reply.status_code == 200:  # the server has not seen all of the heads yet
            reply = upload(url, png())
        may_end.set()
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
        assert [each.result().status_code for each in replies] == [200] * UPLOADS_AT_ONCE
    assert upload(url, png()).status_code == 200


def test_a_client_that_leaves_leaves_nothing_behind(url, tmp_path):
    def broken():
        yield b'--b\r\ncontent-disposition: form-data; name="files"\r\n\r\nabc'
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        httpx.post(url, content=broken(), headers={"content-type": "multipart/form-data; boundary=b"})
    # It may take the server a moment to see it; another upload is served meanwhile.
    assert upload(url, png()).status_code == 200
