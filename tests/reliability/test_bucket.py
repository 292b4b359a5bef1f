"""The store in a bucket: the same calls with a URL; of two writers at once one is refused, and nothing is lost."""

import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch

from tokred_sci.datasets.store import (
    append_tokens,
    compact_tokens,
    generations,
    read_tokens,
    update_tokens,
    verify_tokens,
    write_tokens,
)
from tokred_sci.errors import InputError, StoreError
from tokred_sci.tokens import Tokens

pytest.importorskip("moto")
pytest.importorskip("flask", reason="moto's server is an extra of moto")


def record(value, count=3):
    shape = (1, count)
    return Tokens(torch.full((*shape, 4), value), torch.zeros(*shape, 1), torch.ones(shape), torch.arange(count)[None])


def values(store):
    return [float(one.features[0, 0, 0]) for one in store]


@pytest.fixture(scope="module")
def options():
    """A local server that speaks S3, with a bucket 'sky'."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    url, quiet = f"http://127.0.0.1:{port}", subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as server:
        try:
            for _ in range(150):
                try:
                    urllib.request.urlopen(urllib.request.Request(f"{url}/sky", method="PUT"), timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield {
                "endpoint_url": url,
                "allow_http": True,
                "force_path_style": True,
                "region": "us-east-1",
                "access_key_id": "test",
                "secret_access_key": "test",
            }
        finally:
            server.kill()


def test_write_append_update_compact(options):
    url = "s3://sky/one"
    write_tokens(url, [record(1.0), record(2.0, 5)], "f", labels=[4, 5], options=options)
    append_tokens(url, [record(3.0)], "f", labels=[6], options=options)
    update_tokens(url, {0: record(9.0, 7)}, "f", options=options)
    store = read_tokens(url, "f", options=options)
    assert (values(store), store.labels.tolist()) == ([9.0, 2.0, 3.0], [4, 5, 6])
    assert values(read_tokens(url, generation=0, options=options)) == [1.0, 2.0]
    compact_tokens(url, options=options)
    assert verify_tokens(url, options=options) == []
    assert [one.what for one in generations(url, options)] == ["write", "append", "update", "compact"]
    assert values(store) == [9.0, 2.0, 3.0]
    with pytest.raises(InputError, match="Expected tokens of fingerprint"):
        read_tokens(url, "other", options=options)
    with pytest.raises(InputError, match="without a store"):
        write_tokens(url, [record(1.0)], "f", options=options)


def test_second_of_two_writers_is_refused(options):
    url = "s3://sky/two"
    write_tokens(url, [record(1.0)], "f", options=options)

    def slow():
        yield record(2.0)
        append_tokens(url, [record(3.0)], "f", options=options)  # another one commits meanwhile

    with pytest.raises(StoreError, match=r"only writer .*nothing was done, try again"):
        append_tokens(url, slow(), "f", options=options)
    assert values(read_tokens(url, options=options)) == [1.0, 3.0]
    append_tokens(url, [record(2.0)], "f", options=options)
    assert values(read_tokens(url, options=options)) == [1.0, 3.0, 2.0]


def test_compact_leaves_a_writer_alone(options):
    """What another writer has put there and not yet committed is no left-over."""
    url = "s3://sky/three"
    write_tokens(url, [record(1.0, 300)], "f", options=options)

    def slow():
        yield record(2.0, 100_000)
        compact_tokens(url, forget=True, options=options)

    append_tokens(url, slow(), "f", options=options)
    assert values(read_tokens(url, options=options)) == [1.0, 2.0]


def test_first_writer_that_fails_leaves_the_place_free(options):
    def broken():
        yield record(1.0)
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        write_tokens("s3://sky/four", broken(), "f", options=options)
    with pytest.raises(StoreError, match="has not finished"):
        read_tokens("s3://sky/four", options=options)
    write_tokens("s3://sky/four", [record(5.0)], "f", options=options)
    assert values(read_tokens("s3://sky/four", options=options)) == [5.0]


def test_what_is_not_there_is_refused(options):
    for url in ("s3://sky/nothing", "s3://earth/one"):
        with pytest.raises(StoreError):
            read_tokens(url, options=options)
    for url in ("s3://sky", "ftp://sky/one", "s3:///one"):
        with pytest.raises(InputError, match="s3://bucket/prefix"):
            write_tokens(url, [record(1.0)], "f", options=options)
    with pytest.raises(InputError, match="options"):
        read_tokens("s3://sky/one", options={"colour": "blue"})
