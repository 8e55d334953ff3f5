"""What a service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nasplatform.service.engine import BatchStats
from nasplatform.service.models import Model

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """The counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        prefix = "nasplatform_"
        self._requests = Counter(
            prefix + "requests", "Requests by endpoint and status", ["endpoint", "code"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            prefix + "request_duration_seconds", "Time to answer a request", ["endpoint"],
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._sizes = Histogram(
            prefix + "batch_size", "Architectures of an inference", registry=registry,
            buckets=_SIZES,
        )  # fmt: skip
        self._inference = Histogram(
            prefix + "inference_seconds", "Time of an inference", registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self._architectures = Counter(
            prefix + "architectures", "Architectures asked for", registry=registry
        )
        self._cached = Counter(
            prefix + "cache_hits", "Architectures answered from the cache", registry=registry
        )
        self._waiting = Gauge(prefix + "queue_depth", "Architectures that wait", registry=registry)
        self._models = Gauge(
            prefix + "model_info", "Versions that answer as latest", ["model", "version"],
            registry=registry,
        )  # fmt: skip
        self._refits = Counter(
            prefix + "refits", "Refits by outcome", ["outcome"], registry=registry
        )
        self.request_of = lru_cache(maxsize=1024)(self._request_of)

    def _request_of(self, endpoint: str, code: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(endpoint, str(code)), self._seconds.labels(endpoint)

    def request(self, endpoint: str, code: int, seconds: float) -> None:
        """Count a request."""
        counter, histogram = self.request_of(endpoint, code)
        counter.inc()
        histogram.observe(seconds)

    def batch(self, facts: BatchStats) -> None:
        """Count an inference."""
        self._sizes.observe(facts.size)
        self._inference.observe(facts.seconds)
        self._architectures.inc(facts.size)
        self._cached.inc(facts.cached)
        self._waiting.set(facts.waiting)

    def refit(self, outcome: str) -> None:
        """Count a refit that ended."""
        self._refits.labels(outcome).inc()

    def models(self, latest: Mapping[str, Model]) -> None:
        """Show which versions answer."""
        self._models.clear()
        for name, model in latest.items():
            self._models.labels(name, str(model.version.number)).set(1)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
