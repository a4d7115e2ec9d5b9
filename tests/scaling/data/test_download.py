from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from scaling.data import cifar10, sources
from scaling.data.config import Cifar10Config
from scaling.data.download import download_once
from scaling.limits import ConfigError
from tests.scaling.data.archives import batches, write_archive

CONTENT = bytes(range(256)) * 10_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Gives CONTENT, announces it whole, sends `sent` bytes of it."""

    sent = len(CONTENT)
    n_requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast(Server, self.server)
        server.n_requests += 1
        found = self.path == "/file"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(CONTENT) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(CONTENT[: server.sent])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[tuple[Server, str]]:
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_downloaded_once(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "file"
    with serving() as (server, address):
        for _ in range(2):
            download_once(f"{address}/file", target, MD5)
        assert server.n_requests == 1
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["file"]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """Not even locked: the folder may be another user's."""
    (tmp_path / "file").write_text("there")
    download_once("nonsense", tmp_path / "file", MD5)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_many_at_once_download_once(tmp_path: Path) -> None:
    with serving() as (server, address):
        arguments = (f"{address}/file", tmp_path / "file", MD5)
        threads = [threading.Thread(target=download_once, args=arguments) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.n_requests == 1
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_broken_connection_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    with serving() as (server, address):
        server.sent = 1000
        with pytest.raises(ConfigError, match=r"^data\.url=http.*/file: ") as caught:
            download_once(f"{address}/file", tmp_path / "file", MD5)
        assert "\n" not in str(caught.value)
        assert left(tmp_path) == []
        server.sent = len(CONTENT)
        download_once(f"{address}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_file_is_refused_by_its_checksum(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ConfigError, match=rf"gave {len(CONTENT)} bytes with md5 .* expected {MD5}"):
        download_once(source.as_uri(), tmp_path / "cache" / "file", MD5)
    assert left(tmp_path / "cache") == []


def test_addresses_that_give_nothing(tmp_path: Path) -> None:
    with (
        serving() as (_, address),
        pytest.raises(ConfigError, match=r"^data\.url=.*cannot be downloaded \(HTTP Error 404"),
    ):
        download_once(f"{address}/other", tmp_path / "file", MD5)
    for url in (f"{address}/file", "file:///nowhere/at/all", "nonsense", "http://[bad"):
        with pytest.raises(ConfigError, match=r"^data\.url=.*cannot be downloaded .*data\.path"):
            download_once(url, tmp_path / "file", MD5)
    assert left(tmp_path) == []


def test_cifar10_downloads_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "archive.tar.gz", batches())
    config = Cifar10Config(url=archive.as_uri())
    with pytest.raises(ConfigError, match=rf"expected {cifar10.ARCHIVE_MD5}"):
        sources.load_images(config, tmp_path / "cache")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", md5)
    first = sources.load_images(config, tmp_path / "cache")
    archive.unlink()
    again = sources.load_images(config, tmp_path / "cache")
    np.testing.assert_array_equal(first.train, again.train)
    assert len(first.train) == 10
    assert left(tmp_path / "cache") == [cifar10.ARCHIVE_NAME]


def test_the_official_archive_is_asked_for() -> None:
    assert Cifar10Config().url == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert cifar10.ARCHIVE_MD5 == "c58f30108f718f92721af3b95e74349a"
    assert Cifar10Config().classes == ["horse"]
    assert sources.source_signature(Cifar10Config()) == [[cifar10.ARCHIVE_MD5]]
