"""An archive is unpacked whole or not at all; what could harm is refused before the first byte lands (case 42)."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from tokred_sci.datasets.archive import differing, unpack
from tokred_sci.errors import FileError

CONTENT = {"set/train.csv": b"sequence,label\nACGT,1\n", "set/deep/er/test.csv": b"x" * 300_000, "readme": b""}


def make_zip(path: Path, content: dict[str, bytes], change: dict | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            for key, value in (change or {}).items():
                setattr(entry, key, value)
            made.writestr(entry, data)
    return path


def make_tar(path: Path, content: dict[str, bytes], change: dict | None = None, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as made:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for key, value in (change or {}).items():
                setattr(entry, key, value)
            made.addfile(entry, io.BytesIO(data))
    return path


def landed(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def refused(archive: Path, word: str, **limits: float) -> None:
    home = archive.parent / "home"
    home.mkdir(exist_ok=True)
    before = landed(archive.parent)
    with pytest.raises(FileError, match=word) as error:
        unpack(archive, home / "out", **limits)
    assert archive.name in str(error.value)
    assert landed(archive.parent) == before


@pytest.mark.parametrize("mode", ["zip", "w:", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_gives_the_same_bytes(tmp_path, mode):
    path = tmp_path / "named-anyhow.bin"
    archive = make_zip(path, CONTENT) if mode == "zip" else make_tar(path, CONTENT, mode=mode)
    folder = unpack(archive, tmp_path / "new" / "out")
    assert {n: (folder / n).read_bytes() for n in CONTENT} == CONTENT
    assert differing(archive, folder) == []
    (folder / "readme").write_text("more")
    (folder / "set" / "train.csv").unlink()
    assert differing(archive, folder) == ["set/train.csv", "readme"]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "..\\up", "C:/up", "C:up", "a/" + "b" * 300])
def test_names_that_lead_elsewhere_are_refused(tmp_path, make, name):
    refused(make(tmp_path / "a", {"good": b"1", name: b"2"}), "name")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_tar_links_and_devices_are_refused(tmp_path, kind):
    refused(make_tar(tmp_path / "a", {"x": b""}, {"type": kind, "linkname": "/etc/passwd"}), "a link|a device")


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_zip_links_and_devices_are_refused(tmp_path, mode):
    refused(make_zip(tmp_path / "a", {"x": b"/etc/passwd"}, {"external_attr": mode << 16}), "a link|a device")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_bombs_are_refused(tmp_path, make):
    refused(make(tmp_path / "a", {"x": bytes(20_000_000)}), "bytes unpacked")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_too_many_bytes_or_members_are_refused(tmp_path, make):
    archive = make(tmp_path / "a", {str(i): os.urandom(1000) for i in range(20)})
    refused(archive, "at most 10 members", most_members=10)
    refused(archive, "at most 5,000 bytes", most_bytes=5000)


def test_a_tar_header_that_claims_much_is_refused_without_reading_it(tmp_path):
    entry = tarfile.TarInfo("x")
    entry.size, entry.type = 1 << 40, tarfile.GNUTYPE_LONGNAME
    (tmp_path / "a").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    refused(tmp_path / "a", "limits")


def test_one_name_twice_is_refused(tmp_path):
    twice = make_zip(tmp_path / "a", {"x1": b"1", "x2": b"2"})
    twice.write_bytes(twice.read_bytes().replace(b"x2", b"x1"))
    refused(tmp_path / "a", "every name once")
    refused(make_tar(tmp_path / "b", {"x": b"1", "x/y": b"2"}), "both under one name")
    refused(make_tar(tmp_path / "c", {"x/y": b"2", "x": b"1"}), "both under one name|once")


@pytest.mark.parametrize("mode", ["zip", "w:", "w:gz", "w:bz2", "w:xz"])
def test_cut_anywhere_is_refused(tmp_path, mode):
    content = {f"{i}": os.urandom(700) for i in range(6)}
    path = tmp_path / "a"
    whole = (make_zip(path, content) if mode == "zip" else make_tar(path, content, mode=mode)).read_bytes()
    end = len(whole) if mode != "w:" else whole.rstrip(b"\0").__len__()
    for cut in [*range(0, end, 173), end - 1]:
        path.write_bytes(whole[:cut])
        refused(path, "whole zip or tar|promise")


@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:xz"])
def test_flipped_bytes_are_refused_or_harmless(tmp_path, mode):
    path = tmp_path / "a"
    whole = (make_zip(path, CONTENT) if mode == "zip" else make_tar(path, CONTENT, mode=mode)).read_bytes()
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            folder = unpack(path, tmp_path / f"out{place}")
        except FileError:
            continue
        data = sorted(p.read_bytes() for p in folder.rglob("*") if p.is_file())
        assert data == sorted(CONTENT.values())  # only names, dates or comments changed


def test_not_an_archive_is_refused(tmp_path):
    (tmp_path / "a").write_text("<html>please log in</html>")
    refused(tmp_path / "a", "whole zip or tar")
    (tmp_path / "empty").write_bytes(b"")
    refused(tmp_path / "empty", "whole zip or tar")


def test_a_folder_with_content_is_refused(tmp_path):
    refused(make_zip(tmp_path / "a", {"x/": b"1"}), "empty entries for folders")


def test_encrypted_is_refused(tmp_path):
    whole = bytearray(make_zip(tmp_path / "a", {"x": b"1"}).read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a").write_bytes(whole)
    refused(tmp_path / "a", "encrypted")


def test_a_folder_that_exists_is_refused_and_stays(tmp_path):
    archive = make_zip(tmp_path / "a", CONTENT)
    (tmp_path / "out").mkdir()
    with pytest.raises(FileError, match="not there yet"):
        unpack(archive, tmp_path / "out")
    assert landed(tmp_path / "out") == []


def test_ctrl_c_in_mid_unpacking_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    archive = make_zip(tmp_path / "a", CONTENT)
    monkeypatch.setattr("tokred_sci.datasets.archive.shutil.copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out")
    assert landed(tmp_path) == ["a"]


def test_too_little_room_is_refused_before_a_byte(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("tokred_sci.datasets.archive.shutil.disk_usage", lambda _: usage)
    refused(make_zip(tmp_path / "a", CONTENT), "300,022 bytes free")


def test_disk_full_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    archive = make_zip(tmp_path / "a", CONTENT)
    monkeypatch.setattr("tokred_sci.datasets.archive.shutil.copyfileobj", full)
    with pytest.raises(FileError, match="No space left"):
        unpack(archive, tmp_path / "out")
    assert landed(tmp_path) == ["a"]
