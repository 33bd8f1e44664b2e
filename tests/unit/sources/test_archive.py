from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from clusterstack.errors import SourceError
from clusterstack.sources import archive
from clusterstack.sources.archive import extract, read_member

from .conftest import tgz


def entry(name: str, kind: bytes, *, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info, b""


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "archive.tgz"
    path.write_bytes(data)
    return path


def test_files_and_directories_are_unpacked(tmp_path: Path, into: Path) -> None:
    data = tgz({"a.yaml": "a", "./deep/b.yaml": "b"}, more=(entry("empty", tarfile.DIRTYPE),))
    assert extract(write(tmp_path, data), into) == ()
    assert (into / "a.yaml").read_text() == "a"
    assert (into / "deep" / "b.yaml").read_text() == "b"
    assert (into / "empty").is_dir()


def test_links_and_devices_are_left_out_and_listed(tmp_path: Path, into: Path) -> None:
    more = (
        entry("soft", tarfile.SYMTYPE, link="/etc/passwd"),
        entry("hard", tarfile.LNKTYPE, link="a.yaml"),
        entry("fifo", tarfile.FIFOTYPE),
        entry("device", tarfile.CHRTYPE),
    )
    assert extract(write(tmp_path, tgz({"a.yaml": "a"}, more=more)), into) == ("soft", "hard", "fifo", "device")
    assert [path.name for path in into.iterdir()] == ["a.yaml"]


def test_nothing_is_written_through_a_link(tmp_path: Path, into: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        tar.addfile(entry("door", tarfile.SYMTYPE, link=str(outside))[0])
        info = tarfile.TarInfo("door/file")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    extract(write(tmp_path, raw.getvalue()), into)
    assert list(outside.iterdir()) == []
    assert (into / "door" / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a\\..\\x", "/".join(["d"] * 100)])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, into: Path, name: str) -> None:
    with pytest.raises(SourceError, match="leads out") as caught:
        extract(write(tmp_path, tgz({name: "x"})), into)
    assert caught.value.reason == "InvalidArchive"
    assert not (tmp_path / "x").exists()


def test_damaged_archives_are_refused(tmp_path: Path, into: Path) -> None:
    good = tgz({"a.yaml": "a" * 5000, "b.yaml": "b"})
    for number, data in enumerate(
        (b"", b"nonsense", good[: len(good) // 2], gzip.compress(b"no tar at all" * 100), good[:-4])
    ):
        target = into / str(number)
        target.mkdir()
        with pytest.raises(SourceError) as caught:
            extract(write(tmp_path, data), target)
        assert caught.value.reason == "InvalidArchive"


def test_bombs_are_refused(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_BYTES", 10_000)
    monkeypatch.setattr(archive, "_MAX_FILE", 8_000)
    monkeypatch.setattr(archive, "_MAX_ENTRIES", 5)
    for files in ({"a": "x" * 9_000}, {"a": "x" * 6_000, "b": "x" * 6_000}, {str(n): "" for n in range(6)}):
        with pytest.raises(SourceError, match="too large") as caught:
            extract(write(tmp_path, tgz(files)), into)
        assert caught.value.reason == "FetchTooLarge"


def test_an_oversized_header_is_refused_before_it_is_read(tmp_path: Path, into: Path) -> None:
    info = tarfile.TarInfo("@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 1 << 32
    data = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096)
    with pytest.raises(SourceError, match="oversized header"):
        extract(write(tmp_path, data), into)


def test_a_file_and_a_directory_of_one_name_are_refused(tmp_path: Path, into: Path) -> None:
    with pytest.raises(SourceError, match="same name"):
        extract(write(tmp_path, tgz({"a": "x", "a/b": "x"})), into)


def test_one_member_is_read_at_its_depth(tmp_path: Path) -> None:
    path = write(tmp_path, tgz({"web/charts/dep/Chart.yaml": "inner", "web/Chart.yaml": "outer"}))
    assert read_member(path, "Chart.yaml", depth=1) == b"outer"
    assert read_member(path, "values.yaml", depth=1) is None
