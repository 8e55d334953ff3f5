"""Who may ask what, and how often: hashed keys with scopes, and a token bucket for each.

A key reads ``nasp_ID_SECRET``. The secret has 256 random bits, so that a plain SHA-256 of it can
stand in a file: there is nothing to guess, and a check costs microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nasplatform.atomic_io import replace_file
from nasplatform.complaints import expected, telling
from nasplatform.errors import ConfigError
from nasplatform.foreign import read_bytes

Scope = Literal["read", "write"]
_ID = r"[A-Za-z0-9-]{1,32}"
_KEY = re.compile(rf"nasp_({_ID})_([A-Za-z0-9-]{{43}})")
_NOBODY = "0" * 64
_GRACE = 5.0  # seconds that a file may be half written
_BUCKETS = 4096


class KeyEntry(BaseModel):
    """One key as it stands in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=f"^{_ID}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the secret, hexadecimal")
    scopes: frozenset[Scope] = Field(min_length=1)
    rate: float | None = Field(None, gt=0, description="requests a second; None for the default")


@dataclass(frozen=True)
class Caller:
    """Who asks: the id of the key and what it may do."""

    id: str
    scopes: frozenset[Scope]
    rate: float | None = None


ANONYMOUS = Caller("anonymous", frozenset({"read", "write"}))
_ENTRIES = TypeAdapter(list[KeyEntry])


class KeyFile:
    """The keys of a file, read again when the file changes; a file that is gone holds none."""

    def __init__(self, path: Path) -> None:
        """Read the file; raise ConfigError where it holds no keys."""
        self.path = path
        self._lock = threading.Lock()
        self._looked = 0.0
        # first the stamp: what is written meanwhile is read again
        self._stamp = _stamp(path) if path.exists() else None
        self._entries = _read(path)
        if not self._entries:
            raise ConfigError(f"{path}: holds no key; add one with --add-key")
        self._torn: float | None = None  # since when the file cannot be understood

    def check(self, key: str) -> Caller | None:
        """Return who holds the key, or None. Takes the same time for any wrong secret."""
        self._refresh()
        match = _KEY.fullmatch(key)
        identity, secret = match.groups() if match else ("", "")
        entry = self._entries.get(identity)
        known = entry.sha256 if entry else _NOBODY
        equal = hmac.compare_digest(_digest(secret), known)
        return Caller(entry.id, entry.scopes, entry.rate) if entry and equal else None

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked < 1:
            return
        with self._lock:
            self._looked = now
            try:
                stamp = _stamp(self.path)
                if stamp != self._stamp or self._torn is not None:
                    self._entries, self._stamp, self._torn = _read(self.path), stamp, None
            except FileNotFoundError:
                self._entries, self._stamp = {}, None  # no file, no keys
            except (OSError, ConfigError):
                # half an edit: the keys of before count until it is over, but not for ever
                self._torn = now if self._torn is None else self._torn
                if now - self._torn > _GRACE:
                    self._entries = {}


def add_key(path: Path, identity: str, scopes: frozenset[Scope], rate: float | None = None) -> str:
    """Add a key to a file, which is made if need be; return the key, which is stored nowhere."""
    known = _read(path) if path.exists() else {}
    if identity in known:
        raise ConfigError(f"{path}: has a key {identity!r} already; remove it there first")
    # '_' sets the parts of a key apart, so that it is not used inside one.
    secret = secrets.token_urlsafe(32).replace("_", "-")
    try:
        entry = KeyEntry(id=identity, sha256=_digest(secret), scopes=scopes, rate=rate)
    except ValidationError:
        raise ConfigError(
            f"key {identity!r:.60}: an id has 1 to 32 letters, digits and '-', the scopes are "
            f"read and write"
        ) from None
    with replace_file(path) as temporary:
        temporary.write_bytes(_ENTRIES.dump_json([*known.values(), entry], indent=2) + b"\n")
    path.chmod(0o600)
    return f"nasp_{identity}_{secret}"


class RateLimiter:
    """A token bucket for each caller: ``rate`` a second, bursts of two seconds' worth."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, caller: Caller) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        rate = caller.rate or self._rate
        burst, now = max(1.0, 2 * rate), time.monotonic()
        if len(self._buckets) > _BUCKETS:
            self._forget()
        tokens, then = self._buckets.pop(caller.id, (burst, now))
        tokens = min(burst, tokens + (now - then) * rate)
        enough = tokens >= 1
        self._buckets[caller.id] = (tokens - enough, now)
        return 0.0 if enough else (1 - tokens) / rate

    def _forget(self) -> None:
        """Drop the half of the buckets that was not asked for longest."""
        for name in list(self._buckets)[: _BUCKETS // 2]:
            del self._buckets[name]


@lru_cache(maxsize=32)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address (without port) is this machine's own."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def network_of(address: str) -> str:
    """Return what stands for a client: its address, of IPv6 the 64 bits that one site is given.

    Whoever has one address of IPv6 has 2^64 of them: each would be a stranger of its own.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[str, KeyEntry]:
    try:
        entries = _ENTRIES.validate_json(read_bytes(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; make it with --add-key") from None
    except (OSError, ValueError) as error:
        told = expected(telling(error)) if isinstance(error, ValidationError) else str(error)
        raise ConfigError(
            f"{path}: expected a JSON list of {{id, sha256, scopes}}: {told}"
        ) from None
    return {entry.id: entry for entry in entries}
