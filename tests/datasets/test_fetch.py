"""Downloads that go wrong: nothing under the final name, and a message with URL, path and hash (case 41)."""

import contextlib
import errno
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokred_sci.datasets.fetch import LOCK, data_folder, fetch, read_lock, verify
from tokred_sci.errors import FetchError, FileError, InputError

DATA = b"\x1f\x8b" + os.urandom(600_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA; the first part of the address says how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.tag, self.asked, self.cuts = DATA, '"one"', [], 10**9
        self.go_on = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, how: str = "good", name: str = "set.gz") -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        self.server.asked.append((how, self.headers.get("Range"), self.headers.get("If-Range")))
        self.close_connection = True
        getattr(self, how)()

    def answer(self, code: int, body: bytes, length: int | None, **headers: str) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def ranged(self, keep: int, tag: str | None) -> None:
        """`keep` bytes, from where the client asks."""
        data, asked = self.server.data, self.headers.get("Range")
        start = int(asked[6:-1]) if asked and self.headers.get("If-Range", tag) == tag else 0
        extra = {"ETag": tag} if tag else {}
        if start:
            extra["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.answer(206 if start else 200, data[start:][:keep], len(data) - start, **extra)

    def good(self) -> None:
        self.ranged(len(DATA), self.server.tag)

    def cut(self) -> None:
        self.server.cuts -= 1
        self.ranged(250_000 if self.server.cuts >= 0 else len(DATA), self.server.tag)

    def cut_no_tag(self) -> None:
        self.server.cuts -= 1
        self.ranged(250_000 if self.server.cuts >= 0 else len(DATA), None)

    def cut_no_range(self) -> None:
        self.answer(200, self.server.data[:250_000], len(DATA), ETag='"one"')

    def wrong(self) -> None:
        self.answer(200, DATA[:-1] + b"!" + b"", len(DATA))

    def text(self) -> None:
        self.answer(200, b"Quota exceeded, sorry.", 22)

    def page(self) -> None:
        self.answer(200, b"\n<!DOCTYPE html><html>Sign in</html>", 36, Content_Type="application/octet-stream")

    def typed(self) -> None:
        self.answer(200, b"Sign in", 7, Content_Type="text/html; charset=utf-8")

    def nothing(self) -> None:
        self.answer(200, b"", 0)

    def missing(self) -> None:
        self.answer(404, b"not here", 8)

    def slow(self) -> None:
        """Most of it, and then nothing until `go_on`."""
        if self.server.go_on.is_set():
            return self.good()
        self.answer(200, DATA[:550_000], len(DATA), ETag=self.server.tag)
        self.server.go_on.wait(30)

    def busy(self) -> None:
        self.server.cuts -= 1
        if self.server.cuts >= 0:
            self.answer(503, b"later", 5)
        else:
            self.good()

    def endless(self) -> None:
        self.answer(200, self.server.data, None)

    def chunked(self) -> None:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(self.server.data), self.server.data)
        self.answer(200, body, None, Transfer_Encoding="chunked")

    def chunked_cut(self) -> None:
        body = b"%x\r\n%b" % (len(DATA), DATA[:1000])
        self.answer(200, body, None, Transfer_Encoding="chunked")

    def strict(self) -> None:
        asked = self.headers.get("Range")
        if asked and int(asked[6:-1]) >= len(self.server.data):
            self.answer(416, b"", 0, Content_Range=f"bytes */{len(self.server.data)}")
        else:
            self.ranged(len(DATA), None)

    def squeezed(self) -> None:
        self.answer(200, b"\x1f\x8b...", 5, Content_Encoding="gzip")

    def moved(self) -> None:
        self.answer(302, b"", 0, Location="/good/set.gz")


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    served = Server()
    yield served
    served.shutdown()
    served.server_close()


def left(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def refused(url: str | tuple[str, ...], path: Path, word: str, sha256: str | None = None, **more: object) -> None:
    with pytest.raises(FetchError, match=word) as error:
        fetch(url, path, sha256, wait=0.001, progress=False, **more)
    told = str(error.value)
    assert str(path) in told and (url if isinstance(url, str) else url[0]) in told and "By hand" in told
    assert (sha256 or "No hash is published") in told
    assert not path.exists()


def test_whole_and_checked(server, tmp_path):
    path = tmp_path / "sub" / "set.gz"
    assert fetch(server.url(), path, SHA, len(DATA)) == path
    assert path.read_bytes() == DATA and left(path.parent) == {"set.gz"}
    assert fetch(server.url("missing"), path, SHA) == path  # not asked again
    assert len(server.asked) == 1


@pytest.mark.parametrize("how", ["moved", "chunked"])
def test_other_ways_to_answer(server, tmp_path, how):
    assert fetch(server.url(how), tmp_path / "set.gz", SHA).read_bytes() == DATA


def test_cut_transfers_go_on_where_they_ended(server, tmp_path):
    server.cuts = 2
    assert fetch(server.url("cut"), tmp_path / "set.gz", SHA, wait=0.001).read_bytes() == DATA
    assert [a[1] for a in server.asked] == [None, "bytes=250000-", "bytes=500000-"]
    assert [a[2] for a in server.asked] == [None, '"one"', '"one"']


def test_the_next_call_goes_on_too(server, tmp_path):
    server.cuts = 1
    refused(server.url("cut"), tmp_path / "set.gz", "250,000 of 600,002", SHA, tries=1)
    assert left(tmp_path) == {"set.gz.part", "set.gz.part.json"}
    assert fetch(server.url("cut"), tmp_path / "set.gz", SHA).read_bytes() == DATA
    assert server.asked[-1][1] == "bytes=250000-" and left(tmp_path) == {"set.gz"}


def test_no_bytes_of_two_versions_in_one_file(server, tmp_path):
    server.cuts = 1
    refused(server.url("cut"), tmp_path / "set.gz", "kept", tries=1)
    server.data, server.tag = b"\x1f\x8b" + DATA[:1:-1], '"two"'
    assert fetch(server.url("cut"), tmp_path / "set.gz").read_bytes() == server.data


def test_without_mark_or_hash_a_part_is_not_trusted(server, tmp_path):
    server.cuts = 1
    refused(server.url("cut_no_tag"), tmp_path / "set.gz", "kept", tries=1)
    assert fetch(server.url("cut_no_tag"), tmp_path / "set.gz").read_bytes() == DATA
    assert server.asked[-1][1] is None


def test_a_part_of_other_bytes_is_caught_by_the_hash(server, tmp_path):
    server.cuts = 1
    refused(server.url("cut_no_tag"), tmp_path / "set.gz", "kept", SHA, tries=1)
    with (tmp_path / "set.gz.part").open("r+b") as part:
        part.write(b"????")
    assert fetch(server.url("cut_no_tag"), tmp_path / "set.gz", SHA, wait=0.001).read_bytes() == DATA
    assert [asked for _, asked, _ in server.asked] == [None, "bytes=250000-", None]


def test_another_mirror_goes_on_where_the_hash_will_tell(server, tmp_path):
    urls = (server.url("cut_no_range"), server.url())
    assert fetch(urls, tmp_path / "set.gz", SHA, tries=1).read_bytes() == DATA
    assert server.asked == [("cut_no_range", None, None), ("good", "bytes=250000-", None)]


def test_a_part_longer_than_the_file_is_dropped(server, tmp_path):
    server.cuts = 1
    refused(server.url("cut"), tmp_path / "set.gz", "kept", tries=1)
    server.data = DATA[:1000]
    assert (
        fetch(server.url("strict"), tmp_path / "set.gz", hashlib.sha256(DATA[:1000]).hexdigest()).stat().st_size == 1000
    )


def test_compressed_on_the_way_is_refused(server, tmp_path):
    refused(server.url("squeezed", "table.csv"), tmp_path / "table.csv", "compressed it on the way")


def test_no_address_is_refused(tmp_path):
    with pytest.raises(FetchError, match="no address is known"):
        fetch((), tmp_path / "set.gz")


def test_always_cut_is_refused(server, tmp_path):
    refused(server.url("cut_no_range"), tmp_path / "set.gz", "250,000 of 600,002", SHA)
    refused(server.url("chunked_cut"), tmp_path / "other.gz", "broke off", SHA)


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("wrong", "SHA-256 is"),
        ("page", "web page"),
        ("typed", "web page"),
        ("text", "begins with"),
        ("missing", "404"),
        ("endless", "does not say how long"),
        ("nothing", "nothing came"),
    ],
)
def test_what_is_not_the_file_is_refused(server, tmp_path, how, word):
    sha = SHA if how == "wrong" else None
    refused(server.url(how), tmp_path / "set.gz", word, sha)
    assert left(tmp_path) == set()


def test_another_size_is_refused_before_a_byte(server, tmp_path):
    refused(server.url(), tmp_path / "set.gz", "600,002 bytes offered, not 7", None, size=7)


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.cuts = 2
    assert fetch(server.url("busy"), tmp_path / "set.gz", SHA, wait=0.001).read_bytes() == DATA
    server.cuts = 9
    refused(server.url("busy"), tmp_path / "other.gz", "503", SHA)


def test_mirrors_in_turn(server, tmp_path):
    urls = (server.url("missing"), server.url("page"), server.url("cut_no_range"), server.url())
    assert fetch(urls, tmp_path / "set.gz", SHA, wait=0.001).read_bytes() == DATA
    refused(urls[:2], tmp_path / "other.gz", "(?s)404.*web page", SHA, by_hand="Ask Ann.")


def test_offline_is_refused_at_once(server, tmp_path):
    server.server_close()
    refused(server.url(), tmp_path / "set.gz", "no connection", SHA, by_hand="fill in the form")
    refused("https://nowhere.invalid/a.gz", tmp_path / "a.gz", "no connection", SHA)
    assert left(tmp_path) == set()


def test_disk_full_is_refused(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tokred_sci.datasets.transfer.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        refused(server.url(), tmp_path / "set.gz", "600,002 bytes needed, 1,000 free", SHA)
        assert server.asked and left(tmp_path) == set()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tokred_sci.datasets.fetch.os.fsync", full)
        refused(server.url(), tmp_path / "set.gz", "No space left", SHA)
    asked = len(server.asked)
    assert fetch(server.url(), tmp_path / "set.gz", SHA).read_bytes() == DATA
    assert len(server.asked) == asked  # all had come


def test_an_unwritable_folder_is_refused(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(server.url(), tmp_path / "file" / "set.gz", "this disk", SHA)


def test_ctrl_c_keeps_the_part_and_nothing_else(server, tmp_path, monkeypatch):
    def interrupted(chunk: bytes, *_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tokred_sci.datasets.transfer.tqdm.update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(server.url(), tmp_path / "set.gz", SHA)
    assert left(tmp_path) == {"set.gz.part", "set.gz.part.json"}
    assert fetch(server.url(), tmp_path / "set.gz", SHA).read_bytes() == DATA
    assert server.asked[-1][1] is not None


def test_killed_in_mid_transfer(server, tmp_path):
    path = tmp_path / "set.gz"
    code = f"from tokred_sci.datasets.fetch import fetch; fetch({server.url('slow')!r}, {str(path)!r}, {SHA!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        for _ in range(2000):
            if (tmp_path / "set.gz.part").exists() and (tmp_path / "set.gz.part").stat().st_size >= 1 << 18:
                break
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
        server.go_on.set()
    assert left(tmp_path) == {"set.gz.part", "set.gz.part.json"}
    assert fetch(server.url("slow"), path, SHA).read_bytes() == DATA
    assert server.asked[-1][1] is not None and left(tmp_path) == {"set.gz"}


def test_trust_on_first_use(server, tmp_path):
    path, lock = tmp_path / "a" / "set.gz", tmp_path / LOCK
    fetch(server.url(), path, lock=lock)
    entry = json.loads(lock.read_text())["files"]["a/set.gz"]
    assert entry["sha256"] == SHA and entry["size"] == len(DATA) and entry["url"] == server.url() and entry["date"]
    path.unlink()
    server.data = DATA[:-1] + b"!"
    with pytest.raises(FetchError, match=r"(?s)SHA-256 is .*trusted on first use") as error:
        fetch(server.url(), path, lock=lock)
    assert SHA in str(error.value) and left(path.parent) == set()
    server.data = DATA
    assert fetch(server.url(), path, lock=lock) == path


def test_a_file_put_there_by_hand(tmp_path):
    (tmp_path / "set.gz").write_bytes(DATA)
    assert fetch("https://nowhere.invalid/set.gz", tmp_path / "set.gz", SHA)
    assert verify(tmp_path / "set.gz") == "unknown"
    fetch("https://nowhere.invalid/set.gz", tmp_path / "set.gz")
    assert read_lock(tmp_path / LOCK)["set.gz"]["url"] == "put there by hand"
    assert verify(tmp_path / "set.gz") == verify(tmp_path / "set.gz", SHA) == "good"


def test_a_changed_file_is_refused_and_stays(tmp_path):
    (tmp_path / "set.gz").write_bytes(DATA)
    fetch("https://nowhere.invalid/set.gz", tmp_path / "set.gz")
    (tmp_path / "set.gz").write_bytes(DATA + b"!")
    for sha in (None, SHA):
        with pytest.raises(FetchError, match="is there already"):
            fetch("https://nowhere.invalid/set.gz", tmp_path / "set.gz", sha)
    assert verify(tmp_path / "set.gz") == "changed"
    assert (tmp_path / "set.gz").read_bytes() == DATA + b"!"
    assert verify(tmp_path / "nothing") == "absent"


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"a": 3}}', '{"files": {"a": {"url": ""}}}', "\0"])
def test_a_damaged_lock_file_is_refused(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(FileError, match=LOCK):
        fetch("https://nowhere.invalid/a.gz", tmp_path / "a.gz")


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(InputError, match="https"):
        fetch("ftp://nowhere.invalid/a.gz", tmp_path / "a.gz")
    with pytest.raises(InputError, match="64 hexadecimal"):
        fetch("https://nowhere.invalid/a.gz", tmp_path / "a.gz", "abc")


@pytest.mark.parametrize("turn", range(10))
def test_several_at_once_download_once(server, tmp_path, turn):
    done: list[Path] = []

    def work() -> None:
        done.append(fetch(server.url(), tmp_path / "set.gz", SHA))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert len(done) == 6 and len(server.asked) == 1 and left(tmp_path) == {"set.gz"}


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TOKRED_DATA_HOME", raising=False)
    if os.name != "nt":
        assert data_folder() == tmp_path / "tokred_sci"
    monkeypatch.setenv("TOKRED_DATA_HOME", str(tmp_path / "x"))
    assert data_folder() == tmp_path / "x"
    assert data_folder(tmp_path / "y") == tmp_path / "y"
