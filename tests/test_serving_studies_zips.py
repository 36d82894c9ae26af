"""Zips that mean no good: no name in them is a path, and nothing is unpacked beyond bounds."""

import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from serving_studies import HOSTILE_LIMITS, everything_below, good_picture, left_out_beside, zip_of

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies import open_study


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "unpacked").mkdir()
    return lambda files, limits=HOSTILE_LIMITS: open_study(files, limits, tmp_path / "unpacked")


@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "/etc/evil",
        "..\\..\\evil",
        "a/../../../evil",
        "C:\\evil",
        "x" * 5000,
        "\x01\x1b[2J",
        "a\0b",
        "名",
    ],
)
def test_names_within_a_zip_are_no_paths(tmp_path, opened, name):
    (tmp_path / "upload").mkdir()
    path = zip_of(tmp_path / "upload", [(name, good_picture(tmp_path / "good.png").read_bytes())])
    before = everything_below(tmp_path.parent)
    (series,) = opened([path]).series
    assert series.planes[0].width == 10
    new = {path for path in everything_below(tmp_path.parent) if path not in before}
    assert new == {tmp_path / "unpacked" / "000001"}
    assert not Path("/etc/evil").exists()


def test_links_devices_nested_zips_and_folders_within_a_zip(tmp_path, opened):
    entries = [("folder/", b""), ("ok", good_picture(tmp_path / "good.png").read_bytes())]
    for name, kind in (("link", stat.S_IFLNK), ("fifo", stat.S_IFIFO), ("device", stat.S_IFBLK)):
        info = zipfile.ZipInfo(name)
        info.external_attr = (kind | 0o777) << 16
        entries.append((info, b"/etc/passwd"))
    entries.append(("inner", zip_of(tmp_path, [("a", b"b")], "inner.zip").read_bytes()))
    study = opened([zip_of(tmp_path, entries)])
    assert len(study.series) == 1
    assert dict(study.left_out) == {"is a link or a device in a zip": 3, "is a zip in a zip": 1}


def test_encrypted_and_strangely_packed_entries(tmp_path, opened):
    good = good_picture(tmp_path / "good.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good", good)
        archive.writestr("secret", b"abc")
        archive.writestr("lzma", b"abc" * 100, zipfile.ZIP_LZMA)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    for mark, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(mark, content.index(mark) + 1)
        content[place + flags_at] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert dict(opened([tmp_path / "a.zip"]).left_out) == {
        "is encrypted in a zip": 1,
        "is packed in a way that is not read here": 1,
    }


def test_a_bomb_is_refused_while_it_is_unpacked(tmp_path, opened):
    path = zip_of(tmp_path, [("a", b"0" * 10**7)])
    assert path.stat().st_size < 2 * 10**4
    with pytest.raises(Refusal) as refused:
        opened([path])
    assert refused.value.status == 413
    on_disk = sum(each.stat().st_size for each in (tmp_path / "unpacked").iterdir())
    assert on_disk <= HOSTILE_LIMITS.unpacked_bytes


def test_a_bomb_whose_headers_say_that_it_is_small(tmp_path, opened):
    path = zip_of(tmp_path, [("a", b"0" * 10**7)])
    content = bytearray(path.read_bytes())
    real = struct.pack("<I", 10**7)
    while real in content:
        place = content.index(real)
        content[place : place + 4] = struct.pack("<I", 10)
    path.write_bytes(content)
    with pytest.raises(Refusal):
        opened([path])
    assert sum(each.stat().st_size for each in (tmp_path / "unpacked").iterdir()) <= HOSTILE_LIMITS.unpacked_bytes


def zip_with_directory(tmp_path, content, times):
    """Write a zip with one packed entry that its directory names so many times."""
    whole = zip_of(tmp_path, [("a", content)]).read_bytes()
    start, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    size, told = (end - start) * times, min(times, 0xFFFF)
    tail = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, told, told, size, start, 0)
    (tmp_path / "a.zip").write_bytes(whole[:start] + whole[start:end] * times + tail)
    return tmp_path / "a.zip"


def test_entries_that_lie_over_each_other_are_each_counted(tmp_path, opened):
    """One packed entry, named by the directory many times over."""
    path = zip_with_directory(tmp_path, b"0" * 10**5, 40)
    with pytest.raises(Refusal):
        opened([path])
    assert sum(each.stat().st_size for each in (tmp_path / "unpacked").iterdir()) <= HOSTILE_LIMITS.unpacked_bytes


@pytest.mark.parametrize("count", [51, 100_000])
def test_too_many_entries(tmp_path, opened, count):
    path = zip_with_directory(tmp_path, b"", count)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            opened([path], Limits(upload_files=50))
        assert tracemalloc.get_traced_memory()[1] < 2 * 10**7
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413


def test_a_zip_counts_with_the_files_beside_it(tmp_path, opened):
    path = zip_of(tmp_path, [(str(number), b"x") for number in range(49)])
    with pytest.raises(Refusal) as refused:
        opened([path, good_picture(tmp_path / "good.png")])
    assert refused.value.status == 413


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_zip_that_is_cut_short_or_garbled(tmp_path, opened, share):
    content = zip_of(tmp_path, [(str(number), os.urandom(500)) for number in range(10)]).read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(len(content) * share)])
    assert left_out_beside(tmp_path / "good.png", opened, tmp_path / "cut") == {"is a damaged zip": 1}
    garbled = bytearray(content)
    garbled[200:260] = os.urandom(60)
    (tmp_path / "garbled").write_bytes(garbled)
    reasons = left_out_beside(tmp_path / "good.png", opened, tmp_path / "garbled")
    assert reasons["is a damaged entry of a zip"] >= 1
    assert sum(reasons.values()) == 10
