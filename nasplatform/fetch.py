"""Downloads that go on where they were cut off and are checked before they are used.

Bytes are appended to ``NAME.part``; a killed download goes on from there with a Range request.
Only a part whose digest is right is renamed to ``NAME``. What can be fetched stands in
``downloads.yaml``.
"""

from __future__ import annotations

import hashlib
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from functools import cache
from http.client import HTTPException, HTTPResponse
from importlib.resources import files
from pathlib import Path
from socket import gaierror
from typing import Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.atomic_io import recover, replace_folder, sha256, write_text
from nasplatform.errors import DataError, did_you_mean
from nasplatform.foreign import TarMember, blaming

Progress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all), the latter 0 where it is not known."""
_BLOCK = 1 << 18
_DAY = 86_400.0  # seconds after which nobody unpacks any more
_UNKNOWN = 64 << 30  # bytes of a file whose size nobody has said
_HARMLESS, _PACKED, _MEMBERS = 64 << 20, 20, 200_000
_NAME = 4096  # characters; the system takes no more, and each part costs time
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_PARTIAL, _BEYOND = 206, 416


class RemoteFile(BaseModel):
    """One file to download; the fields are explained in ``downloads.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://")
    bytes: int | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    sha256_from: str = ""
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")

    @property
    def name(self) -> str:
        """Last part of the address, the file's name."""
        return urlsplit(self.url).path.rsplit("/", 1)[-1]


class Download(BaseModel):
    """One entry of the catalogue; the fields are explained in ``downloads.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    kind: Literal["table", "images"]
    importer: str | None = None
    unpack: bool = False
    licence: str
    page: str
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int | None:
        """Size of all files; None where one of them is not known."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    attempts: failures in a row, without a byte gained between them, after which it is given up.
    wait:     seconds before the second attempt; doubled each time.
    timeout:  seconds without a sign of the server.
    """

    attempts: int = 5
    wait: float = 1.0
    timeout: float = 30.0


@cache
def catalogue() -> dict[str, Download]:
    """Return what can be fetched, by name."""
    text = files("nasplatform").joinpath("downloads.yaml").read_text("utf-8")
    return {name: Download(name=name, **entry) for name, entry in yaml.safe_load(text).items()}


def get_download(name: str) -> Download:
    """Return an entry of the catalogue; raise DataError for an unknown name."""
    known = catalogue()
    if name not in known:
        raise DataError(f"nothing to fetch is called {name!r}{did_you_mean(name, known)}")
    return known[name]


def fetch(
    remote: RemoteFile,
    folder: Path,
    progress: Progress | None = None,
    patience: Patience = Patience(),
) -> Path:
    """Download a file into ``folder``, or see that the one that lies there is right.

    Returns its path. Raises DataError where the server cannot be reached or refuses (what came so
    far is kept), and where the digest is wrong (nothing is kept).
    """
    report = progress or (lambda done, total: None)
    target, part = folder / remote.name, folder / f"{remote.name}.part"
    if target.exists():
        wrong = _wrong_digest(remote, target)
        if wrong:
            raise DataError(f"{target}: {wrong}; remove it to download it afresh")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    _download(remote, part, report, patience)
    wrong = _wrong_digest(remote, part)
    if wrong:
        _forget(part)
        raise DataError(f"{remote.url}: {wrong}; what was downloaded is removed")
    if remote.sha256 is None:
        write_text(_first_seen(target), f"{sha256(part)}  {target.name}\n")
    part.replace(target)
    _validator_of(part).unlink(missing_ok=True)
    return target


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into ``folder``, which appears whole or not at all.

    Raises DataError for a damaged archive and for one that would write outside of the folder.
    """
    if folder.parent.is_dir():
        recover(folder.parent, _DAY)
    with (
        replace_folder(folder) as temporary,
        blaming(archive, DataError, "cannot be unpacked"),
    ):
        room = _Room(archive, temporary)
        with tarfile.open(archive, tarinfo=TarMember) as tar:
            for member in tar:
                room.take(member)
                tar.extract(member, temporary, filter="data")


class _Room:
    """What an archive may still unpack to, so that a small one cannot fill the disk."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._bytes = max(_HARMLESS, _PACKED * archive.stat().st_size)
        self._seen = 0  # bytes of the archive, which headers fill too
        self._free = shutil.disk_usage(folder).free
        self._files = _MEMBERS

    def take(self, member: tarfile.TarInfo) -> None:
        """Count a member before it is written; raise ValueError where it is too much."""
        if max(len(member.name), len(member.linkname)) > _NAME:
            raise ValueError(f"a name of more than {_NAME:,} characters")
        self._files -= 1
        self._bytes -= member.size + max(0, member.offset_data - self._seen)
        self._seen = member.offset_data + member.size
        self._free -= member.size
        if self._files < 0 or self._bytes < 0:
            raise ValueError(
                f"it holds more than {_MEMBERS:,} files, or {_PACKED} times what it has itself"
            )
        if self._free < 0:
            raise ValueError("the disk is too small for what it holds")


class _CutError(Exception):
    """A transfer that broke off and may succeed when tried again; says why."""


def _download(remote: RemoteFile, part: Path, report: Progress, patience: Patience) -> None:
    """Append to ``part`` until it is complete."""
    failures = 0
    while True:
        before = _size(part)
        try:
            return _transfer(remote, part, report, patience.timeout)
        except _CutError as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= patience.attempts:
                raise DataError(
                    f"{remote.url}: {error}; tried {failures} times, the {_size(part):,} bytes so "
                    f"far are kept and the same command goes on from there"
                ) from None
            time.sleep(patience.wait * 2 ** (failures - 1))


def _transfer(remote: RemoteFile, part: Path, report: Progress, timeout: float) -> None:
    """Ask once for what is missing; raise _CutError where it did not all come."""
    have = _size(part)
    if remote.bytes is not None and have == remote.bytes:
        return
    request = urllib.request.Request(remote.url, headers=_headers(part, have))
    try:
        with _opener().open(request, timeout=timeout) as response:
            _receive(remote, part, response, have, report)
    except urllib.error.HTTPError as error:
        if error.code == _BEYOND and have:
            if _total(error.headers) == have:
                return
            _forget(part)
            raise _CutError("the file on the server is another one than before") from None
        if error.code in _TRY_AGAIN:
            raise _CutError(f"the server answers {error.code} {error.reason}") from None
        raise DataError(f"{remote.url}: the server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, gaierror | ssl.SSLCertVerificationError):
            host = urlsplit(remote.url).hostname
            raise DataError(f"{remote.url}: {host} cannot be reached: {reason}") from None
        raise _CutError(f"the connection failed: {reason or type(reason).__name__}") from None


def _receive(
    remote: RemoteFile, part: Path, response: HTTPResponse, have: int, report: Progress
) -> None:
    """Write what comes; start afresh where the server sends the whole file."""
    if response.status != _PARTIAL:
        _forget(part)
        have = 0
    elif _start(response.headers) != have:
        _forget(part)
        raise _CutError("the server sent another range than was asked for")
    length = response.headers.get("Content-Length")
    total = remote.bytes or (have + int(length) if length and length.isdecimal() else 0)
    if not have and response.headers.get("ETag"):
        write_text(_validator_of(part), response.headers["ETag"])
    report(have, total)
    limit = total or _UNKNOWN
    while block := response.read(_BLOCK):
        if have + len(block) > limit:
            _forget(part)
            raise DataError(
                f"{remote.url}: the server sends more than the {limit:,} bytes that it should; "
                f"what was downloaded is removed"
            )
        try:
            with part.open("ab") as file:
                file.write(block)
        except OSError as error:
            raise DataError(f"{part} cannot be written: {error.strerror}") from None
        have += len(block)
        report(have, total)
    if have < total:
        raise _CutError(f"the connection was cut after {have:,} of {total:,} bytes")


def _headers(part: Path, have: int) -> dict[str, str]:
    headers = {"User-Agent": "nasplatform", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        validator = _validator_of(part)
        if validator.exists():
            headers["If-Range"] = validator.read_text(encoding="utf-8")
    return headers


def _start(headers: Message) -> int | None:
    """Return where the range that the server sends begins (``bytes START-END/TOTAL``)."""
    begin = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(begin) if begin.isdecimal() else None


def _total(headers: Message) -> int | None:
    end = headers.get("Content-Range", "").rpartition("/")[2]
    return int(end) if end.isdecimal() else None


@cache
def _opener() -> urllib.request.OpenerDirector:
    """Return an opener of http and https alone: no file:, no ftp:, no data: by a redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _wrong_digest(remote: RemoteFile, path: Path) -> str | None:
    """Return what is wrong with a downloaded file, None where nothing is."""
    found = sha256(path)
    seen = _first_seen(path.with_name(remote.name))
    expected, source = remote.sha256, remote.sha256_from
    if expected is None and seen.exists():
        expected, source = seen.read_text(encoding="utf-8").split()[0], "the first download"
    if expected is not None and found != expected:
        return f"sha256 is {found[:16]}..., expected {expected[:16]}... (from {source})"
    if remote.md5 is not None:
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 != remote.md5:
            return f"md5 is {md5}, the authors state {remote.md5}"
    return None


def _first_seen(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _validator_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_of(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
