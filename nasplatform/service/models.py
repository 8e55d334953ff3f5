"""Predictors in memory: what answers, and how the store on disk is followed."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nasplatform import faults
from nasplatform.errors import NasplatformError
from nasplatform.predictors.base import Predictor
from nasplatform.service import ranking_cache
from nasplatform.service.cache import PredictionCache
from nasplatform.service.facts import BrokenVersionError
from nasplatform.service.settings import Settings
from nasplatform.service.space_ranking import RankingBuilder, Reference, SpaceRanking
from nasplatform.service.store import LATEST, PredictorStore, Version
from nasplatform.service.texts import parse_texts
from nasplatform.spaces.base import Population, Space

log = logging.getLogger("nasplatform.service")
_HASHES = 200_000  # hashes remembered per version
PredictionInput = list[str] | NDArray[np.uint64]  # text forms, or codes (N, W) as packed


class PredictionOutput(NamedTuple):
    """What is said of N texts or codes; entries of those in ``errors`` mean nothing."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    params: NDArray[np.int64]
    flops: NDArray[np.int64]
    rank: NDArray[np.int64] | None
    hash: NDArray[np.object_] | None
    errors: dict[int, str]


class Model:
    """One loaded version. Used by the inference thread alone, except for what is immutable."""

    def __init__(
        self, version: Version, predictor: Predictor, space: Space[Any], settings: Settings
    ) -> None:
        self.version, self.predictor, self.space = version, predictor, space
        self.ranking: SpaceRanking | None = None
        self.builder: RankingBuilder | None = None
        self.ranking_wanted = False  # somebody builds it, or did
        self.unranked: str | None = None  # why its space cannot be ranked
        self.words = space.population([]).words
        self._cache = PredictionCache(settings.cache, 4, self.words)
        self._hashes: dict[bytes, str] = {}

    def answer(
        self, texts: PredictionInput, hashes: bool, ranks: bool
    ) -> tuple[PredictionOutput, int]:
        """Read and score texts or codes (N); return answers and how many came from the cache."""
        population, errors = self._read(texts)
        values, known = self._values(population)
        good = np.ones(len(texts), bool)
        good[list(errors)] = False
        rows = np.zeros((len(texts), 4))
        rows[good] = values
        mean = rows[:, 0]
        rank = self.ranking.ranks(mean) if ranks and self.ranking is not None else None
        names = None
        if hashes:
            names = np.full(len(texts), None, object)
            names[good] = self._named(population)
        counts = rows[:, 2:].astype(np.int64)
        answers = PredictionOutput(
            mean, rows[:, 1], counts[:, 0], counts[:, 1], rank, names, errors
        )
        return answers, known

    def _read(self, asked: PredictionInput) -> tuple[Population[Any], dict[int, str]]:
        if isinstance(asked, list):
            return parse_texts(self.space, asked)
        held = self.space.contains_codes(asked)
        name = self.space.name
        errors = {
            index: f"code {' '.join(map(str, asked[index]))} is no architecture of {name}"
            for index in np.flatnonzero(~held).tolist()
        }
        return self.space.from_codes(asked[held]), errors

    def _values(self, population: Population[Any]) -> tuple[NDArray[np.float64], int]:
        """Return (B, 4) mean, std, params and flops (float64 is exact up to 2^53).

        Looked up in the ranking of the space, then in the cache, and inferred only after that, each
        architecture once and in the order asked: the last digits of an inference depend on the
        place in the batch.
        """
        rows = np.empty((len(population), 4))
        unknown = np.arange(len(population))
        for look in (self.ranking.find if self.ranking else None, self._cached):
            if look is not None and len(unknown):
                known, found = look(population[unknown])
                rows[unknown[known]] = found[known]
                unknown = unknown[~known]
        if len(unknown):
            new, place = _distinct(population[unknown])
            graphs = self.space.graphs(new)
            said = self.predictor.predict(graphs)
            found = np.stack(
                [said.mean, said.std, graphs.total_params, graphs.total_flops], axis=1
            ).astype(np.float64)
            rows[unknown] = found[place]
            self._cache.put(new.codes, found)
        return rows, len(population) - len(unknown)

    def _cached(self, population: Population[Any]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        return self._cache.get(population.codes)

    def _named(self, population: Population[Any]) -> list[str]:
        codes = [code.tobytes() for code in population.codes]
        new = {code: row for row, code in enumerate(codes) if code not in self._hashes}
        if new:
            if len(self._hashes) + len(new) > _HASHES:
                self._hashes.clear()
                new = {code: row for row, code in enumerate(codes)}
            chosen = population[np.array(list(new.values()))]
            self._hashes.update(zip(new, chosen.hashes, strict=True))
        return [self._hashes[code] for code in codes]


def _distinct(population: Population[Any]) -> tuple[Population[Any], NDArray[np.intp]]:
    """Return each labelling once, in the order asked, and the place (B,) of each among them."""
    _, first, group = np.unique(population.labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return population[first[order]], place[group]


class Models:
    """Every version that is asked for, loaded; the latest ones ahead of the first request."""

    def __init__(self, store: PredictorStore, settings: Settings) -> None:
        self.store, self.settings = store, settings
        self.broken: dict[str, str] = {}
        self._latest: dict[str, Model] = {}
        self._older: OrderedDict[str, Model] = OrderedDict()
        self._references: dict[str, Reference] = {}
        self._failed: dict[tuple[str, int], tuple[tuple[object, ...], str]] = {}
        self._lock, self._looking = threading.Lock(), threading.Lock()

    def latest(self) -> dict[str, Model]:
        """Return name -> model of the latest versions."""
        return dict(self._latest)

    def cached(self, name: str, version: str) -> Model | None:
        """Return a latest model that is in memory: the path of nearly every request."""
        return self._latest.get(name) if version == LATEST else None

    def get(self, name: str, version: str = LATEST) -> Model:
        """Return a model, loaded now if need be; raise PredictorError for an unknown one."""
        found = self.cached(name, version)
        if found is not None:
            return found
        if version == LATEST:  # published since the last look, or broken
            self.store.versions(name)
            self.reload()
            found = self.cached(name, version)
            if found is None:
                raise BrokenVersionError(self.broken.get(name, f"{name} cannot be loaded"))
            return found
        wanted = self.store.find(name, version)
        try:
            return self._load(wanted)
        except Exception as error:  # whatever a damaged version raises concerns it alone
            raise BrokenVersionError(faults.short(error)) from error

    def reload(self) -> list[Model]:
        """Look at the store; return the latest models that are new.

        Each name is read on its own. Where a version cannot be loaded, the newest one before it
        that can answers, and ``broken`` says so.
        """
        with self._looking:
            fresh, there = [], self.store.names()
            for name in there:
                model = self._newest(name)
                if model is not None and model is not self._latest.get(name):
                    self._latest[name] = model
                    fresh.append(model)
            for name in (set(self._latest) | set(self.broken)) - set(there):
                self._latest.pop(name, None)
                self.broken.pop(name, None)
            return fresh

    def _newest(self, name: str) -> Model | None:
        """Return the newest version that loads; what stays in memory where none does."""
        held, reasons = self._latest.get(name), list[str]()
        model: Model | None = None
        try:
            for number in self.store.newest_first(name):
                if held is not None and held.version.number == number:
                    model = held
                    break
                reason, model = self._tried(name, number)
                if model is not None:
                    break
                reasons.append(f"{name}@{number}: {reason}")
        except Exception as error:  # a folder that went away, or whatever it holds
            reasons.append(faults.short(error))
            model = held
        self._tell(name, reasons, model)
        return model

    def _tried(self, name: str, number: int) -> tuple[str, Model | None]:
        """Load a version; one that failed is not tried again before one of its files changes."""
        try:
            stamp = self.store.stamp(name, number)
        except OSError as error:  # e.g. a link to nothing: it may come back
            return faults.short(error), None
        known = self._failed.get((name, number))
        if known is not None and known[0] == stamp:
            return known[1], None
        try:
            model = self._load(self.store.find(name, number))
        except Exception as error:  # whatever a damaged version raises concerns it alone
            reason = faults.short(error)
            self._failed[name, number] = stamp, reason
            return reason, None
        self._failed.pop((name, number), None)
        return "", model

    def _tell(self, name: str, reasons: list[str], model: Model | None) -> None:
        """Keep, and log once, why the newest version of a name does not answer."""
        if not reasons:
            self.broken.pop(name, None)
            return
        instead = "nothing answers" if model is None else f"{model.version.label} answers"
        words = f"{reasons[0]}; {instead} in its place"
        if self.broken.get(name) != words:
            log.error("skipped", extra={"facts": {"predictor": name, "error": words}})
        self.broken[name] = words

    def prepare_ranking(self, model: Model) -> RankingBuilder:
        """Return the builder of a model's ranking; the first one of a space takes seconds."""
        described = repr(sorted(model.space.describe().items()))
        if described not in self._references:
            reference = Reference.of(model.space, self.settings.reference)
            _ = reference.keys  # here, where nobody waits for it
            self._references[described] = reference
        reference = self._references[described]
        if self.settings.keep_rankings:
            home = self.store.home(model.version.name)
            ranking = ranking_cache.load(home, model.version, model.space, reference)
            if ranking is not None:
                ranking.prepare()
                return RankingBuilder.finished(model.predictor, model.space, ranking)
        return RankingBuilder(model.predictor, model.space, reference)

    def keep_ranking(self, model: Model) -> None:
        """Write the complete ranking of a model beside its version, for the next start."""
        if model.ranking is None or not self.settings.keep_rankings:
            return
        try:
            home = self.store.home(model.version.name)
            ranking_cache.save(home, model.version, model.space, model.ranking)
        except (OSError, NasplatformError) as error:  # read-only, full, or gone: not needed
            facts = {"model": model.version.label, "error": str(error)}
            log.warning("ranking not kept", extra={"facts": facts})

    def _load(self, version: Version) -> Model:
        with self._lock:
            held = [self._older.get(version.label), self._latest.get(version.name)]
            for model in held:
                if model is not None and model.version.number == version.number:
                    return model
            predictor, space = self.store.load(version)
            model = Model(version, predictor, space, self.settings)
            self._older[version.label] = model
            while len(self._older) > self.settings.loaded:
                self._older.popitem(last=False)
            return model
