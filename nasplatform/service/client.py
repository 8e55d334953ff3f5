"""Clients of the service: the words of a local predictor, spoken over HTTP.

    with PredictorClient("http://127.0.0.1:8000", "demo") as predictor:
        prediction = predictor.predict(["[3M]101/10/1", ...])   # mean (B,), std (B,)

Everything about requests (bodies, batches, retries, what an answer means) is written once, as
generators that yield calls and are sent answers; the two clients only carry them out.

    ServiceError (a NasplatformError)
    ├── ServiceUnavailableError   not reached, or overloaded to the last retry
    ├── ServiceRefusedError       a key is missing, unknown, or lacks the scope
    └── RequestRejectedError      the service will not do this; ``problem`` says why
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import numpy as np

from nasplatform.errors import ArchitectureError, NasplatformError
from nasplatform.predictors.base import Prediction
from nasplatform.spaces import Space, get_space

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


Steps = Generator[Call, Any, T]


class _Core:
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
        key:        the API key; $NASPLATFORM_API_KEY where not given.
        timeout:    seconds for one request.
        retries:    how often a request is repeated that found the service away or overloaded.
        batch_size: architectures of one request; more are sent as several.
        """
        self.name = name if version is None else f"{name}@{version}"
        self.retries, self.batch_size = retries, batch_size
        self._url, self._timeout = url.rstrip("/"), timeout
        key = key or os.environ.get("NASPLATFORM_API_KEY")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._space: Space[Any] | None = None

    def _path(self, what: str = "") -> str:
        return f"/v1/predictors/{self.name}{what}"

    def _predict(self, architectures: Sequence[Any]) -> Steps[Prediction]:
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
        body = {"k": k, "kappa": kappa, "max_params": max_params, "max_flops": max_flops}
        texts = yield from self._texts(exclude)
        answer = yield Call("POST", self._path("/suggest"), {**body, "exclude": texts})
        found: list[dict[str, Any]] = answer["suggestions"]
        return found

    def _report(
        self, architectures: Sequence[Any], scores: Sequence[float], refit: bool
    ) -> Steps[dict[str, Any]]:
        texts = yield from self._texts(architectures)
        pairs = zip(texts, np.asarray(scores, np.float64).tolist(), strict=True)
        results = [{"architecture": text, "score": score} for text, score in pairs]
        body = {"evaluations": results, "refit": refit}
        answer: dict[str, Any] = yield Call("POST", self._path("/evaluations"), body)
        return answer

    def _get(self, path: str) -> Steps[dict[str, Any]]:
        answer: dict[str, Any] = yield Call("GET", path)
        return answer

    def _texts(self, architectures: Sequence[Any]) -> Steps[list[str]]:
        """Turn architectures into texts; the service is asked for the space only if need be."""
        if all(isinstance(item, str) for item in architectures):
            return list(architectures)
        if self._space is None:
            card = yield Call("GET", self._path())
            self._space = get_space(**card["space"])
        space = self._space
        return [item if isinstance(item, str) else space.format(item) for item in architectures]

    def _wait(self, attempt: int, answer: httpx.Response | None) -> float:
        """Return seconds until the next attempt: what the service asks for, or ever longer."""
        asked = answer.headers.get("retry-after", "") if answer is not None else ""
        longer: float = min(10.0, 0.1 * 2**attempt) * (0.5 + random.random())
        return min(float(asked), 60.0) + 0.1 * random.random() if asked.isdigit() else longer

    def _may_retry(self, call: Call, answer: httpx.Response | None) -> bool:
        """A report that may have arrived is not repeated, unless the service says it did not."""
        if call.path.endswith("/evaluations"):
            return answer is not None and answer.status_code in (429, 503)
        return answer is None or answer.status_code in _RETRIED

    def _read(self, call: Call, answer: httpx.Response | None, error: Exception | None) -> Any:
        """Return the JSON of an answer; raise the ServiceError that it means."""
        where = f"{call.method} {self._url}{call.path}"
        if answer is None:
            raise ServiceUnavailableError(f"{where}: {type(error).__name__}: {error}") from error
        if answer.is_success:
            return answer.json()
        problem = _problem(answer)
        words = f"{where}: {answer.status_code} {problem.get('detail', answer.text[:200])}"
        if answer.status_code in (401, 403):
            raise ServiceRefusedError(words)
        if answer.status_code >= 500 or answer.status_code == 429:
            raise ServiceUnavailableError(words)
        raise RequestRejectedError(words, problem)


class PredictorClient(_Core):
    """Asks one predictor of a service. Use it as a context manager; threads may share it."""

    def __init__(
        self, url: str, name: str, *, transport: httpx.BaseTransport | None = None, **options: Any
    ) -> None:
        """Take what both clients take, and a transport (for tests)."""
        super().__init__(url, name, **options)
        self._http = httpx.Client(
            base_url=self._url, headers=self._headers, timeout=self._timeout, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(self, architectures: Sequence[Any]) -> Prediction:
        """Return mean (B,) and std (B,) of texts or architectures.

        Raises ArchitectureError for a text that the space cannot read, ServiceError else.
        """
        return self._run(self._predict(architectures))

    def describe(self, architectures: Sequence[Any]) -> list[dict[str, Any]]:
        """Return a dict each: mean, std, rank, params, flops and hash, or error."""
        return self._run(self._describe(architectures))

    def suggest(
        self,
        k: int = 10,
        *,
        max_params: int | None = None,
        max_flops: int | None = None,
        kappa: float = 0.0,
        exclude: Sequence[Any] = (),
    ) -> list[dict[str, Any]]:
        """Return the k best unmeasured architectures under limits, best first."""
        return self._run(self._suggest(k, max_params, max_flops, kappa, exclude))

    def report(
        self, architectures: Sequence[Any], scores: Sequence[float], *, refit: bool = False
    ) -> dict[str, Any]:
        """Report measured scores; with ``refit`` a new version is fitted in the background."""
        return self._run(self._report(architectures, scores, refit))

    def card(self) -> dict[str, Any]:
        """Return what the service knows of the predictor."""
        return self._run(self._get(self._path()))

    def refit_state(self) -> dict[str, Any]:
        """Return how the last refit stands."""
        return self._run(self._get(self._path("/refit")))

    def _run(self, steps: Steps[T]) -> T:
        try:
            call = next(steps)
            while True:
                call = steps.send(self._call(call))
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _call(self, call: Call) -> Any:
        attempt = 0
        while True:
            answer, error = None, None
            try:
                answer = self._http.request(call.method, call.path, json=call.body)
            except httpx.TransportError as raised:
                error = raised
            if attempt >= self.retries or not self._may_retry(call, answer):
                return self._read(call, answer, error)
            time.sleep(self._wait(attempt, answer))
            attempt += 1


class AsyncPredictorClient(_Core):
    """The same in an event loop: every method is awaited."""

    def __init__(
        self,
        url: str,
        name: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,
    ) -> None:
        """Take what both clients take, and a transport (for tests)."""
        super().__init__(url, name, **options)
        self._http = httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=self._timeout, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(self, architectures: Sequence[Any]) -> Prediction:
        """As ``PredictorClient.predict``."""
        return await self._run(self._predict(architectures))

    async def describe(self, architectures: Sequence[Any]) -> list[dict[str, Any]]:
        """As ``PredictorClient.describe``."""
        return await self._run(self._describe(architectures))

    async def suggest(
        self,
        k: int = 10,
        *,
        max_params: int | None = None,
        max_flops: int | None = None,
        kappa: float = 0.0,
        exclude: Sequence[Any] = (),
    ) -> list[dict[str, Any]]:
        """As ``PredictorClient.suggest``."""
        return await self._run(self._suggest(k, max_params, max_flops, kappa, exclude))

    async def report(
        self, architectures: Sequence[Any], scores: Sequence[float], *, refit: bool = False
    ) -> dict[str, Any]:
        """As ``PredictorClient.report``."""
        return await self._run(self._report(architectures, scores, refit))

    async def card(self) -> dict[str, Any]:
        """As ``PredictorClient.card``."""
        return await self._run(self._get(self._path()))

    async def refit_state(self) -> dict[str, Any]:
        """As ``PredictorClient.refit_state``."""
        return await self._run(self._get(self._path("/refit")))

    async def _run(self, steps: Steps[T]) -> T:
        try:
            call = next(steps)
            while True:
                call = steps.send(await self._call(call))
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _call(self, call: Call) -> Any:
        attempt = 0
        while True:
            answer, error = None, None
            try:
                answer = await self._http.request(call.method, call.path, json=call.body)
            except httpx.TransportError as raised:
                error = raised
            if attempt >= self.retries or not self._may_retry(call, answer):
                return self._read(call, answer, error)
            await asyncio.sleep(self._wait(attempt, answer))
            attempt += 1


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
