"""A space whose architectures take several words: text, codes, ranking, labels, remote."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from served import BINARY, PREDICT, problem, serving, until

from nasplatform.predictors import get_predictor
from nasplatform.predictors.fitting import fit_on_space
from nasplatform.service import PredictorStore
from nasplatform.service.client import PredictorClient
from nasplatform.service.labels import Labels
from nasplatform.service.refit import refit
from nasplatform.spaces import get_space

SPACE = get_space("macro-chain")


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    some = SPACE.sample(60, np.random.default_rng(0))
    scores = np.log(SPACE.graphs(some).total_params.astype(float))
    fitted = fit_on_space(get_predictor("trees", trees=20), SPACE, some, scores)
    store = PredictorStore(tmp_path_factory.mktemp("chains") / "store")
    store.publish("demo", fitted, SPACE, Labels([SPACE.format(c) for c in some], scores))
    with serving(store, cache=4096) as running:
        yield running, fitted


def test_population_of_several_words_is_answered_as_the_predictor_does(chains):
    running, fitted = chains
    asked = SPACE.sample(300, np.random.default_rng(1))
    assert asked.words > 1
    expected = fitted.predict(SPACE.graphs(asked))
    with PredictorClient(running.url, "demo", batch_size=128) as client:
        assert client.space().describe() == SPACE.describe()
        for _ in range(2):  # inferred, then from the cache
            found = client.predict(asked)
            np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
            np.testing.assert_allclose(found.std, expected.std, rtol=1e-5)
        rows = client.describe([SPACE.format(chain) for chain in asked[:5]])
    assert [row["hash"] for row in rows] == asked[:5].hashes
    assert running.http.get("/v1/predictors/demo").json()["code_words"] == asked.words


def test_codes_of_strangers_and_broken_bodies_are_told(chains):
    running, _ = chains
    codes = np.concatenate([SPACE.sample(2, np.random.default_rng(2)).codes] * 2)
    codes[1] = 2**63 - 1
    post = {"headers": {"content-type": BINARY}}
    answer = running.http.post(
        f"{PREDICT}?include=std&layout=binary", content=codes.astype("<u8").tobytes(), **post
    )
    mean = np.frombuffer(answer.content, "<f8").reshape(2, 4)[0]
    assert np.isnan(mean).tolist() == [False, True, False, False]
    short = running.http.post(PREDICT, content=codes.tobytes()[:-8], **post)
    assert f"a code has {8 * codes.shape[1]}" in problem(short, 422, "bad-body")


def test_space_is_ranked_and_suggested_from(chains):
    running, _ = chains
    card = "/v1/predictors/demo"
    until(lambda: running.http.get(card).json()["view"]["done"] == 2000)
    suggest = httpx.post(f"{running.url}{card}/suggest", json={"k": 3}).json()
    found = suggest["suggestions"]
    assert len(found) == 3
    body = {"architectures": [one["architecture"] for one in found]}
    again = running.http.post(PREDICT, json=body).json()["results"]
    assert [row["mean"] for row in again] == [one["mean"] for one in found]


def test_refit_and_remote(chains):
    running, fitted = chains
    some = SPACE.sample(30, np.random.default_rng(3))
    graphs = SPACE.graphs(some)
    asker = get_predictor("remote", url=running.url, model="demo", version=1)
    asker.fit(graphs, np.arange(30.0))
    np.testing.assert_allclose(asker.predict(graphs).mean, fitted.predict(graphs).mean, rtol=1e-6)
    assert refit(running.store, "demo").number == 2
