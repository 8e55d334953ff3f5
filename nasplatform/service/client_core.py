"""What a client says and how it reads the answers, without a connection.

Bodies, batches, retries and the meaning of an answer are written once, as generators that yield
calls and are sent answers; the clients of ``client`` only carry them out.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import httpx
import numpy as np
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat

from nasplatform.errors import ArchitectureError, ConfigError, NasplatformError
from nasplatform.faults import short
from nasplatform.passwords import without_password
from nasplatform.plugins import make_options
from nasplatform.predictors.base import Prediction, finite_labels
from nasplatform.spaces import Population, Space, get_space
from nasplatform.spaces.base import in_order

_BINARY = "application/octet-stream"
_SENDABLE = re.compile(r"[!-~]*")
_RETRIED = frozenset({429, 502, 503, 504})
T = TypeVar("T")


class ServiceError(NasplatformError):
    """Root of what a client raises about the service."""


class ServiceUnavailableError(ServiceError):
    """The service cannot be reached, or is overloaded, also at the last retry."""


class ServiceRefusedError(ServiceError):
    """The key is missing, unknown, or lacks the scope."""


class RequestRejectedError(ServiceError):
    """The service will not do this; ``problem`` is its problem document."""

    def __init__(self, message: str, problem: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.problem = dict(problem)


@dataclass(frozen=True)
class Call:
    """One request to be made."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    codes: bytes | None = None

    def sent(self) -> dict[str, Any]:
        """Return what httpx is told to send."""
        if self.codes is None:
            return {"json": self.body}
        return {"content": self.codes, "headers": {"content-type": _BINARY}}


Steps = Generator[Call, Any, T]


def _is_address(url: str) -> str:
    """Let a text be an address of HTTP without a query only."""
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        found = httpx.URL("")
    if found.scheme not in ("http", "https") or not found.host or re.search(r"[?#\s]", url):
        raise ValueError("expected http://HOST:PORT or https://HOST")
    return url


def _like(pattern: str, wanted: str) -> AfterValidator:
    """Let a text be of a pattern only; ``wanted`` says in words which."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"expected {wanted}")
        return text

    return AfterValidator(check)


_WORD = "[A-Za-z0-9_-]+"


class _Settings(BaseModel):
    """What a client is made from, without its key, which no message shows."""

    url: Annotated[str, AfterValidator(_is_address)]
    name: Annotated[str, _like(f"{_WORD}(@{_WORD})?", "the name of a predictor")]
    version: Annotated[str, _like(_WORD, "a number or an alias")] | int | None
    timeout: FiniteFloat = Field(gt=0)
    retries: int = Field(ge=0)
    batch_size: int = Field(ge=1)


class ClientCore:
    """What both clients know: settings, bodies, the meaning of answers."""

    def __init__(
        self,
        url: str,
        name: str,
        *,
        version: str | int | None = None,
        key: str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        batch_size: int = 5_000,
    ) -> None:
        """Take the service's address and a predictor's name.

        version:    a number or an alias; the latest where not given.
        key:        the API key, '' for none; $NASPLATFORM_API_KEY where not given.
        timeout:    seconds for one request.
        retries:    how often a request is repeated that found the service away or overloaded.
        batch_size: architectures of one request; more are sent as several.
        Raises ConfigError for what is none of these.
        """
        key = os.environ.get("NASPLATFORM_API_KEY", "") if key is None else key
        given = {"url": url, "name": name, "version": version, "timeout": timeout}
        make_options(_Settings, {**given, "retries": retries, "batch_size": batch_size}, "client")
        if not isinstance(key, str) or _SENDABLE.fullmatch(key := key.strip()) is None:
            raise ConfigError(
                "client.key: holds other characters than letters, digits, '_' and '-': copy it anew"
            )
        self.name = name if version is None else f"{name}@{version}"
        self.retries, self.batch_size = retries, batch_size
        self._url, self._timeout = url.rstrip("/"), timeout
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._space: Space[Any] | None = None

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn what an answer of something else leads to into a ServiceError."""
        try:
            yield
        except (NasplatformError, StopIteration, httpx.HTTPError):
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            where = without_password(self._url)
            raise ServiceError(
                f"{where}: no answer of this service ({short(error)}); is it another one, or of "
                f"another version?"
            ) from error

    def _path(self, what: str = "") -> str:
        return f"/v1/predictors/{self.name}{what}"

    def _predict(self, architectures: Sequence[Any]) -> Steps[Prediction]:
        if isinstance(architectures, Population):
            return (yield from self._predict_codes(architectures))
        texts = yield from self._texts(architectures)
        means, stds = [np.empty(0)], [np.empty(0)]
        for start in range(0, len(texts), self.batch_size):
            part = texts[start : start + self.batch_size]
            body = {"architectures": part, "include": ["std"], "layout": "columns"}
            answer = yield Call("POST", self._path("/predict"), body)
            if answer["errors"]:
                first = answer["errors"][0]
                raise ArchitectureError(f"architecture {start + first['index']}: {first['detail']}")
            means.append(np.array(answer["columns"]["mean"], np.float64))
            stds.append(np.array(answer["columns"]["std"], np.float64))
        return Prediction(np.concatenate(means), np.concatenate(stds))

    def _predict_codes(self, architectures: Population[Any]) -> Steps[Prediction]:
        """Send the words of each architecture, and be sent 16 bytes."""
        space = yield from self._known_space()
        if type(space.from_codes(architectures.codes[:0])) is not type(architectures):
            raise ArchitectureError(
                f"predictor {self.name!r} knows architectures of space {space.name!r}, these are "
                f"of another one"
            )
        columns = [np.empty((2, 0))]
        for start in range(0, len(architectures), self.batch_size):
            codes = architectures.codes[start : start + self.batch_size]
            path = self._path("/predict?include=std&layout=binary")
            answer = yield Call("POST", path, codes=codes.astype("<u8").tobytes())
            columns.append(np.frombuffer(answer, "<f8").reshape(2, len(codes)))
        mean, std = np.concatenate(columns, axis=1, dtype=np.float64)
        bad = np.flatnonzero(np.isnan(mean))
        if len(bad):
            raise ArchitectureError(f"architecture {bad[0]}: is none of space {space.name!r}")
        return Prediction(mean, std)

    def _describe(self, architectures: Sequence[Any]) -> Steps[list[dict[str, Any]]]:
        texts = yield from self._texts(architectures)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(texts), self.batch_size):
            body = {"architectures": texts[start : start + self.batch_size]}
            answer = yield Call("POST", self._path("/predict"), body)
            rows += [{**row, "index": start + row["index"]} for row in answer["results"]]
        return rows

    def _suggest(
        self,
        k: int,
        max_params: int | None,
        max_flops: int | None,
        kappa: float,
        exclude: Sequence[Any],
    ) -> Steps[list[dict[str, Any]]]:
        if isinstance(kappa, float) and not np.isfinite(kappa):
            raise ConfigError(f"kappa: expected a finite number, got {kappa}")
        body = {"k": k, "kappa": kappa, "max_params": max_params, "max_flops": max_flops}
        texts = yield from self._texts(exclude)
        answer = yield Call("POST", self._path("/suggest"), {**body, "exclude": texts})
        found: list[dict[str, Any]] = answer["suggestions"]
        return found

    def _report(
        self, architectures: Sequence[Any], scores: Sequence[float], refit: bool
    ) -> Steps[dict[str, Any]]:
        texts = yield from self._texts(architectures)
        values = finite_labels(scores, len(texts)).tolist()
        pairs = zip(texts, values, strict=True)
        results = [{"architecture": text, "score": score} for text, score in pairs]
        body = {"evaluations": results, "refit": refit}
        answer: dict[str, Any] = yield Call("POST", self._path("/evaluations"), body)
        return answer

    def _get(self, path: str) -> Steps[dict[str, Any]]:
        answer: dict[str, Any] = yield Call("GET", path)
        return answer

    def _texts(self, architectures: Sequence[Any]) -> Steps[list[str]]:
        """Turn architectures into texts; the service is asked for the space only if need be."""
        found = in_order(architectures)
        if all(isinstance(item, str) for item in found):
            return found
        space = yield from self._known_space()
        return [item if isinstance(item, str) else space.format(item) for item in found]

    def _known_space(self) -> Steps[Space[Any]]:
        if self._space is None:
            card = yield Call("GET", self._path())
            self._space = get_space(**card["space"])
        return self._space

    def _wait(self, attempt: int, answer: httpx.Response | None) -> float:
        """Return seconds until the next attempt: what the service asks for, or ever longer."""
        asked = answer.headers.get("retry-after", "") if answer is not None else ""
        longer: float = min(10.0, 0.1 * 2**attempt) * (0.5 + random.random())
        return min(float(asked), 60.0) + 0.1 * random.random() if asked.isdecimal() else longer

    def _may_retry(self, call: Call, answer: httpx.Response | None) -> bool:
        """A report that may have arrived is not repeated, unless the service says it did not."""
        if call.path.endswith("/evaluations"):
            return answer is not None and answer.status_code in (429, 503)
        return answer is None or answer.status_code in _RETRIED

    def _read(self, call: Call, answer: httpx.Response | None, error: Exception | None) -> Any:
        """Return the JSON of an answer; raise the ServiceError that it means."""
        where = f"{call.method} {without_password(self._url)}{call.path}"
        if answer is None:
            raise ServiceUnavailableError(f"{where}: {type(error).__name__}: {error}") from error
        if answer.is_success:
            binary = answer.headers.get("content-type") == _BINARY
            return answer.content if binary else answer.json()
        problem = _problem(answer)
        words = f"{where}: {answer.status_code} {problem.get('detail', answer.text[:200])}"
        if answer.status_code in (401, 403):
            raise ServiceRefusedError(words)
        if answer.status_code >= 500 or answer.status_code == 429:
            raise ServiceUnavailableError(words)
        raise RequestRejectedError(words, problem)


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
