"""Clients of the service: the words of a local predictor, spoken over HTTP.

    with PredictorClient("http://127.0.0.1:8000", "demo") as predictor:
        prediction = predictor.predict(["[3M]101/10/1", ...])   # mean (B,), std (B,)

What is said in which words stands in ``client_core``; the two clients only carry it out.

    ServiceError (a NasplatformError)
    ├── ServiceUnavailableError   not reached, or overloaded to the last retry
    ├── ServiceRefusedError       a key is missing, unknown, or lacks the scope
    └── RequestRejectedError      the service will not do this; ``problem`` says why
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from nasplatform.predictors.base import Prediction
from nasplatform.service.client_core import (
    Call,
    ClientCore,
    RequestRejectedError,
    ServiceError,
    ServiceRefusedError,
    ServiceUnavailableError,
    Steps,
)
from nasplatform.spaces import Space

__all__ = [
    "AsyncPredictorClient",
    "PredictorClient",
    "RequestRejectedError",
    "ServiceError",
    "ServiceRefusedError",
    "ServiceUnavailableError",
]
T = TypeVar("T")
_sleep, _sleep_in_loop = time.sleep, asyncio.sleep


class PredictorClient(ClientCore):
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
        """Return mean (B,) and std (B,) of texts or architectures; fastest of a population.

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

    def space(self) -> Space[Any]:
        """Return the space whose architectures the predictor knows."""
        return self._run(self._known_space())

    def refit_state(self) -> dict[str, Any]:
        """Return how the last refit stands."""
        return self._run(self._get(self._path("/refit")))

    def _run(self, steps: Steps[T]) -> T:
        try:
            call = next(steps)
            while True:
                with self._understood():
                    call = steps.send(self._call(call))
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _call(self, call: Call) -> Any:
        attempt = 0
        while True:
            answer, error = None, None
            try:
                answer = self._http.request(call.method, call.path, **call.sent())
            except httpx.TransportError as raised:
                error = raised
            if attempt >= self.retries or not self._may_retry(call, answer):
                return self._read(call, answer, error)
            _sleep(self._wait(attempt, answer))
            attempt += 1


class AsyncPredictorClient(ClientCore):
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

    async def space(self) -> Space[Any]:
        """Return the space whose architectures the predictor knows."""
        return await self._run(self._known_space())

    async def refit_state(self) -> dict[str, Any]:
        """As ``PredictorClient.refit_state``."""
        return await self._run(self._get(self._path("/refit")))

    async def _run(self, steps: Steps[T]) -> T:
        try:
            call = next(steps)
            while True:
                with self._understood():
                    call = steps.send(await self._call(call))
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _call(self, call: Call) -> Any:
        attempt = 0
        while True:
            answer, error = None, None
            try:
                answer = await self._http.request(call.method, call.path, **call.sent())
            except httpx.TransportError as raised:
                error = raised
            if attempt >= self.retries or not self._may_retry(call, answer):
                return self._read(call, answer, error)
            await _sleep_in_loop(self._wait(attempt, answer))
            attempt += 1
