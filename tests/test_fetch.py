"""Downloads from a real server on this machine, which cuts, refuses and changes its mind."""

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from nasplatform.errors import DataError
from nasplatform.fetch import Patience, RemoteFile, catalogue, fetch, get_download, unpack

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(attempts=3, wait=0.01, timeout=5)


class Server(ThreadingHTTPServer):
    """Serves ``content``; what it does wrong is set by its attributes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.cut_after: list[int] = []  # bytes after which the next answers break off
        self.answers: list[int] = []  # status of the next answers, in place of the file
        self.ranges = True
        self.length = True
        self.shift = 0  # bytes by which a range is answered wrongly
        self.pause = 0.0  # seconds between blocks
        self.seen: list[str | None] = []  # the Range header of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/some/file.bin?x=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append(asked)
        if server.answers:
            return self.send_error(server.answers.pop(0))
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if self.headers.get("If-Range") not in (None, server.etag):
            start = 0
        if start >= len(server.content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        start += server.shift if start else 0
        if start:
            end = f"{len(server.content) - 1}/{len(server.content)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.length:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self._send(server.content[start:])
        return None

    def _send(self, content: bytes) -> None:
        server = self.server
        cut = server.cut_after.pop(0) if server.cut_after else None
        for at in range(0, len(content[:cut]), 100_000):
            self.wfile.write(content[:cut][at : at + 100_000])
            time.sleep(server.pause)
        if cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def remote(server: Server) -> RemoteFile:
    return RemoteFile(url=server.url, sha256=DIGEST, sha256_from="the test")


def test_whole_file_with_progress(server: Server, remote: RemoteFile, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = fetch(remote, tmp_path / "new", lambda *where: told.append(where), QUICK)
    assert path == tmp_path / "new" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    fetch(remote, tmp_path / "new", patience=QUICK)
    assert len(server.seen) == 1  # what is there and right is not asked for again


def test_goes_on_where_it_was_cut(server: Server, remote: RemoteFile, tmp_path: Path) -> None:
    server.cut_after = [700_000, 900_000, 50_000]
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.seen == [None, "bytes=700000-", "bytes=1600000-", "bytes=1650000-"]


def test_many_cuts_are_fine_while_bytes_come(
    server: Server, remote: RemoteFile, tmp_path: Path
) -> None:
    server.cut_after = [250_000] * 9
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_gives_up_keeps_the_part_and_goes_on_later(
    server: Server, remote: RemoteFile, tmp_path: Path
) -> None:
    server.cut_after = [1_000_000, 0, 0, 0]
    with pytest.raises(
        DataError, match=r"cut after 1,000,000 of 3,000,000 .*1,000,000 bytes so far"
    ):
        fetch(remote, tmp_path, patience=QUICK)
    assert (tmp_path / "file.bin.part").stat().st_size == 1_000_000
    server.cut_after, server.seen = [], []
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.seen == ["bytes=1000000-"]


def test_a_killed_download_goes_on(server: Server, remote: RemoteFile, tmp_path: Path) -> None:
    server.pause = 0.05
    code = "import sys, pathlib; from nasplatform.fetch import RemoteFile, fetch; "
    code += "fetch(RemoteFile(url=sys.argv[1], sha256=sys.argv[2]), pathlib.Path(sys.argv[3]))"
    process = subprocess.Popen([sys.executable, "-c", code, remote.url, DIGEST, str(tmp_path)])
    part = tmp_path / "file.bin.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 300_000):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = part.stat().st_size
    assert 0 < kept < len(CONTENT)
    server.pause, server.seen = 0.0, []
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.seen == [f"bytes={kept}-"]


def test_a_server_without_ranges(server: Server, remote: RemoteFile, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, [700_000]
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_a_server_that_says_no_length(server: Server, remote: RemoteFile, tmp_path: Path) -> None:
    server.length = False
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile(server: Server, tmp_path: Path) -> None:
    """The old beginning is not joined with the new end: If-Range asks for the whole."""
    server.cut_after = [700_000, 0, 0, 0]
    anything = RemoteFile(url=server.url)
    with pytest.raises(DataError, match="kept"):
        fetch(anything, tmp_path, patience=QUICK)
    server.content, server.etag, server.cut_after = CONTENT[::-1], '"two"', []
    assert fetch(anything, tmp_path, patience=QUICK).read_bytes() == CONTENT[::-1]


def test_wrong_digest_keeps_nothing(server: Server, remote: RemoteFile, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match=r"sha256 is .*expected .*from the test.*is removed"):
        fetch(remote, tmp_path, patience=QUICK)
    assert not list(tmp_path.iterdir())
    server.content = CONTENT
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_wrong_md5_of_the_authors(server: Server, tmp_path: Path) -> None:
    remote = RemoteFile(url=server.url, sha256=DIGEST, md5="0" * 32)
    with pytest.raises(DataError, match="the authors state 0000"):
        fetch(remote, tmp_path, patience=QUICK)
    right = RemoteFile(url=server.url, md5=hashlib.md5(CONTENT).hexdigest())
    assert fetch(right, tmp_path, patience=QUICK).exists()


def test_a_file_that_lies_there_and_is_another(
    server: Server, remote: RemoteFile, tmp_path: Path
) -> None:
    (tmp_path / "file.bin").write_bytes(b"other")
    with pytest.raises(DataError, match="remove it to download it afresh"):
        fetch(remote, tmp_path, patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == b"other"
    assert not server.seen


def test_a_part_that_is_too_long_or_complete(
    server: Server, remote: RemoteFile, tmp_path: Path
) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT
    (tmp_path / "file.bin").unlink()
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_trust_on_first_use(server: Server, tmp_path: Path) -> None:
    remote = RemoteFile(url=server.url)
    path = fetch(remote, tmp_path, patience=QUICK)
    assert (tmp_path / "file.bin.sha256").read_text() == f"{DIGEST}  file.bin\n"
    path.unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(DataError, match="from the first download"):
        fetch(remote, tmp_path, patience=QUICK)


def test_answers_that_pass_and_answers_that_stay(
    server: Server, remote: RemoteFile, tmp_path: Path
) -> None:
    server.answers = [503, 429]
    assert fetch(remote, tmp_path, patience=QUICK).exists()
    server.answers = [404]
    with pytest.raises(DataError, match="the server answers 404 Not Found"):
        fetch(remote, tmp_path / "other", patience=QUICK)
    server.answers, server.seen = [500] * 9, []
    with pytest.raises(DataError, match=r"answers 500 .*tried 3 times"):
        fetch(remote, tmp_path / "third", patience=QUICK)
    assert len(server.seen) == 3


def test_a_wrong_range_is_not_appended(server: Server, remote: RemoteFile, tmp_path: Path) -> None:
    server.cut_after, server.shift = [700_000], 5
    assert fetch(remote, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_offline_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/x", "http://name.invalid/x"):
        with pytest.raises(DataError, match=r"refused|cannot be reached") as caught:
            fetch(RemoteFile(url=url), tmp_path, patience=Patience(2, 0.01, 2))
        assert "\n" not in str(caught.value)


def test_no_redirect_to_a_local_file(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")

    class Redirect(Handler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", secret.as_uri())
            self.end_headers()

    server.RequestHandlerClass = Redirect
    with pytest.raises(DataError):
        fetch(RemoteFile(url=server.url), tmp_path / "out", patience=Patience(1, 0.01, 2))
    assert not (tmp_path / "out" / "file.bin").exists()


def test_every_entry_of_the_catalogue_is_https_and_has_a_digest() -> None:
    for download in catalogue().values():
        for file in download.files:
            assert file.url.startswith("https://")
            assert file.sha256 is not None
            assert file.sha256_from
    assert get_download("nasbench101").bytes == 522_767_376
    with pytest.raises(DataError, match="did you mean 'cifar10'"):
        get_download("cifar1")


def _archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_unpack(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.tar.gz", {"inner/one.bin": b"1", "two": b"2"})
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "inner" / "one.bin").read_bytes() == b"1"
    damaged = tmp_path / "b.tar.gz"
    damaged.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(damaged, tmp_path / "damaged")
    assert not (tmp_path / "damaged").exists()


def test_unpack_writes_nothing_outside(tmp_path: Path) -> None:
    for name in ("../evil", str(tmp_path / "evil")):
        archive = _archive(tmp_path / "evil.tar.gz", {"fine": b"1", name: b"2"})
        try:
            unpack(archive, tmp_path / "deep" / "out")
        except DataError:
            assert not (tmp_path / "deep" / "out").exists()
        assert not (tmp_path / "evil").exists()
        assert not (tmp_path / "deep" / "evil").exists()
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../etc"
        tar.addfile(link)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "link.tar", tmp_path / "deep" / "out2")
