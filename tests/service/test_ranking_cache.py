from __future__ import annotations

import os
import time

import numpy as np
import pytest
from served import serving, until

from nasplatform.service import ranking_cache
from nasplatform.service.space_ranking import RankingBuilder, Reference

SIZE = 400
CARD = "/v1/predictors/demo"


@pytest.fixture
def built(store, fitted):
    """What ``save`` and ``load`` take, with a complete ranking."""
    builder = RankingBuilder(fitted.predictor, fitted.space, Reference.of(fitted.space, SIZE))
    while builder.step():
        pass
    return store.home("demo"), store.find("demo"), fitted.space, builder.ranking


def test_a_ranking_comes_back_as_it_was(built):
    home, version, space, ranking = built
    assert ranking_cache.load(home, version, space, ranking.reference) is None
    ranking_cache.save(*built)
    again = ranking_cache.load(home, version, space, Reference.of(space, SIZE))
    for name in ("mean", "std", "params", "flops"):
        np.testing.assert_array_equal(getattr(again, name), getattr(ranking, name))
    assert again.ranks(ranking.mean).tolist() == ranking.ranks(ranking.mean).tolist()


def test_another_predictor_space_or_order_has_no_ranking_here(built, store, fitted, monkeypatch):
    home, version, space, ranking = built
    ranking_cache.save(*built)
    assert ranking_cache.load(home, version, space, Reference.of(space, SIZE + 1)) is None
    turned = Reference(ranking.reference.population[::-1], False)
    assert ranking_cache.load(home, version, space, turned) is None
    smaller = type(space)(space.options.model_copy(update={"stacks": 2}))
    assert ranking_cache.load(home, version, smaller, ranking.reference) is None
    second = store.publish("demo", fitted.predictor, space)
    assert ranking_cache.load(home, second, space, ranking.reference) is None
    monkeypatch.setattr(ranking_cache.metadata, "version", lambda name: "9.9")
    assert ranking_cache.load(home, version, space, ranking.reference) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_ranking_is_as_none(built, damage):
    home, version, space, ranking = built
    ranking_cache.save(*built)
    (path,) = (home / ".views").iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-50], "flipped": data, "empty": b""}.get(damage, b"x" * 99))
    assert ranking_cache.load(home, version, space, ranking.reference) is None


def test_rankings_of_older_versions_and_dead_writers_go(built, store, fitted):
    home, _, space, ranking = built
    ranking_cache.save(*built)
    (home / ".views" / ".1-x.npz.dead").write_bytes(b"")
    os.utime(home / ".views" / ".1-x.npz.dead", (0, time.time() - 5000))
    (home / ".views" / ".1-x.npz.alive").write_bytes(b"")
    for _ in range(2):
        ranking_cache.save(home, store.publish("demo", fitted.predictor, space), space, ranking)
    names = {path.name.partition("-")[0] for path in (home / ".views").iterdir()}
    assert names == {"2", "3", ".1"}


def test_a_service_that_starts_again_knows_its_ranks_at_once(store):
    with serving(store, reference=1500) as running:
        until(lambda: list((store.home("demo") / ".views").glob("*.npz")))
        suggested = running.http.post(f"{CARD}/suggest", json={"k": 50}).json()
    (path,) = (store.home("demo") / ".views").glob("*.npz")
    before = path.stat().st_mtime_ns
    with serving(store, reference=1500) as running:
        until(lambda: running.http.get(CARD).json()["view"]["ready"])
        assert running.http.get(CARD).json()["view"]["done"] == 1500
        again = running.http.post(f"{CARD}/suggest", json={"k": 50}).json()
        texts = [one["architecture"] for one in suggested["suggestions"]]
        rows = running.http.post(f"{CARD}/predict", json={"architectures": texts}).json()
    assert again == suggested
    assert [row["mean"] for row in rows["results"]] == [
        one["mean"] for one in suggested["suggestions"]
    ]
    assert path.stat().st_mtime_ns == before


def test_a_store_that_takes_no_ranking_is_served_all_the_same(store, caplog):
    (store.home("demo") / ".views").write_text("in the way")
    with serving(store, reference=500) as running:
        until(lambda: "ranking not kept" in caplog.messages)
        assert running.http.get(CARD).json()["view"]["ready"]
