"""One service in memory: models, engine, refits, and what ties them together."""

from __future__ import annotations

import asyncio
import contextlib
import time

import numpy as np
from numpy.typing import NDArray

from nasplatform import faults
from nasplatform.service.bodies import require_few_items
from nasplatform.service.engine import Engine, QueueFullError
from nasplatform.service.labels import ReportedResults
from nasplatform.service.metrics import Metrics
from nasplatform.service.models import Model, Models, PredictionInput, PredictionOutput, log
from nasplatform.service.problems import Problem, overloaded
from nasplatform.service.refit import Refitter
from nasplatform.service.settings import Settings
from nasplatform.service.space_ranking import RankingBuilder, SpaceRanking
from nasplatform.service.store import LATEST, PredictorStore

_BLIND = 60.0  # seconds without a look at the store after which the service is not ready


class Service:
    """Life cycle: ``start`` inside an event loop, answer, ``stop``."""

    def __init__(self, store: PredictorStore, settings: Settings) -> None:
        self.store, self.settings = store, settings
        self.metrics = Metrics()
        self.models = Models(store, settings)
        self.engine = Engine(settings, self.metrics.batch)
        self.refitter = Refitter(store.folder, self._refitted)
        self._started = False
        self._seen = time.monotonic()  # when the store was last looked at with success
        self._follower: asyncio.Task[None] | None = None
        self._ranking_tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load the latest versions, then follow the store."""
        self.engine.start()
        await self._look()
        self._started = True
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop following, end refits, answer what waits."""
        self._started = False
        for task in [*self._ranking_tasks, *([self._follower] if self._follower else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(self.refitter.stop)
        await asyncio.to_thread(self.engine.stop)

    @property
    def why_not_ready(self) -> str | None:
        """Return why the service should be asked nothing now; None where it can be."""
        if not self._started:
            return "the predictors are being loaded"
        if not self.engine.alive:
            return "the inference thread has ended: restart the service"
        if self._follower is None or self._follower.done():
            return "the store is not followed any more: restart the service"
        if self.models.broken and not self.models.latest():
            name, reason = next(iter(self.models.broken.items()))
            return f"no predictor can be loaded, e.g. {name!r}: {reason}"
        unseen = time.monotonic() - self._seen
        if unseen > max(_BLIND, 5 * self.settings.reload):
            return f"the store could not be read for {unseen:.0f} s"
        return None

    async def model(self, wanted: str) -> Model:
        """Return the model of ``NAME`` or ``NAME@VERSION``; PredictorError for an unknown one."""
        name, _, version = wanted.partition("@")
        found = self.models.cached(name, version or LATEST)
        if found is not None:
            return found
        return await asyncio.to_thread(self.models.get, name, version or LATEST)

    async def answer(
        self, model: Model, texts: PredictionInput, hashes: bool = True, ranks: bool = True
    ) -> PredictionOutput:
        """Score texts or codes; raise Problem where too many are given or wait already."""
        require_few_items(len(texts), self.settings)
        try:
            return await self.engine.submit(model, texts, hashes, ranks)
        except QueueFullError as full:
            words = f"{self.engine.waiting:,} architectures wait: try again later"
            raise overloaded(full.retry_after, words) from None
        except TimeoutError:
            words = f"no answer within {self.settings.timeout:g} s: try again later"
            raise Problem(503, "timeout", words, {"Retry-After": "2"}) from None

    def seen(self, model: Model) -> NDArray[np.uint64]:
        """Return the isomorphism keys of all labels and reported results. Reads from disk."""
        labels = self.store.labels(model.version)
        reported = ReportedResults(self.store.home(model.version.name)).read()
        texts = [*(labels.texts if labels else []), *reported.texts]
        keys: NDArray[np.uint64] = model.space.parse_many(texts)[0].keys
        return keys

    def want_ranking(self, model: Model) -> None:
        """Begin to rank the space of a model, unless that is done or under way."""
        if not model.ranking_wanted:
            model.ranking_wanted = True
            task = asyncio.get_running_loop().create_task(self._rank(model))
            self._ranking_tasks.add(task)
            task.add_done_callback(self._ranking_tasks.discard)

    async def _rank(self, model: Model) -> None:
        try:
            builder = await asyncio.to_thread(self.models.prepare_ranking, model)
        except Exception as error:  # a space that fails to enumerate still predicts
            log.exception("no view", extra={"facts": {"model": model.version.label}})
            model.unranked = faults.short(error)
            return
        model.builder, model.ranking = builder, builder.ranking
        if builder.done == builder.total:
            log.info("ranking recalled", extra={"facts": {"model": model.version.label}})
            return
        if not await self._ranked(model, builder):
            return
        log.info("ranked", extra={"facts": {"model": model.version.label}})
        await asyncio.to_thread(self.models.keep_ranking, model)

    async def _ranked(self, model: Model, builder: RankingBuilder) -> bool:
        """Let the engine score the space while nobody waits; return whether it could."""
        loop = asyncio.get_running_loop()
        seen: asyncio.Queue[SpaceRanking | str] = asyncio.Queue()
        latest: SpaceRanking | None = None

        def step() -> bool:
            nonlocal latest
            try:
                more = builder.step()
            except Exception as error:  # of some architectures; others may still be asked for
                loop.call_soon_threadsafe(seen.put_nowait, faults.short(error))
                raise
            if builder.ranking is not None and builder.ranking is not latest:
                latest = builder.ranking
                loop.call_soon_threadsafe(seen.put_nowait, latest)
            return more

        self.engine.when_idle(step)
        while model.ranking is None or len(model.ranking.mean) < builder.total:
            ranking = await seen.get()
            if isinstance(ranking, str):
                model.unranked = ranking
                return False
            await asyncio.to_thread(ranking.prepare)
            model.ranking = ranking
        return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.settings.reload)
            await self._look()

    async def _look(self) -> None:
        try:
            for model in await asyncio.to_thread(self.models.reload):
                log.info("loaded", extra={"facts": {"model": model.version.label}})
            for model in self.models.latest().values():
                self.want_ranking(model)
            self.metrics.models(self.models.latest())
        except Exception as error:  # a folder may be away for a while; following never ends
            log.error("store unreadable", extra={"facts": {"error": faults.short(error)}})
            return
        self._seen = time.monotonic()

    def _refitted(self, name: str, outcome: str) -> None:
        self.metrics.refit(outcome)
        log.info("refitted", extra={"facts": {"predictor": name, "outcome": outcome}})
        try:
            self.models.reload()
        except Exception as error:  # the follower will look again
            log.error("store unreadable", extra={"facts": {"error": faults.short(error)}})
