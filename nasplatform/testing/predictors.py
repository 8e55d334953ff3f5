"""The contract of a predictor as tests; a plug-in author inherits them in a test module.

class TestMyPredictor(PredictorContract):
    predictor_name = "my-predictor"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from nasplatform import plugins
from nasplatform.errors import PredictorError
from nasplatform.predictors import Predictor, get_predictor, load_predictor
from nasplatform.spaces import GraphBatch, get_space
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells

_LABELS = 40
_SMALL: Mapping[str, Mapping[str, Any]] = {
    "nasbench101": {"stem_channels": 8, "stacks": 1, "modules_per_stack": 1},
    "vit": {"subspace": "digits"},
}


class PredictorContract:
    """What every predictor must do, on cells, and on chains and transformers with attributes.

    predictor_name: the name under which the predictor is registered.
    options:        its options; a network should train for a few epochs only.
    least_tau:      the rank correlation that it must reach from 40 labels of each space; that of
                    the number of parameters it must exceed by a tenth at any rate.
    spaces:         the spaces that it is shown; what it does not support is skipped.
    """

    predictor_name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    least_tau: ClassVar[float] = 0.5
    spaces: ClassVar[tuple[str, ...]] = ("nasbench101", "macro-chain", "vit")

    @classmethod
    def make(cls, seed: int = 0) -> Predictor:
        """Make the predictor with its options, not fitted."""
        return get_predictor(cls.predictor_name, seed=seed, **cls.options)

    @pytest.fixture(scope="class", params=range(3))
    @classmethod
    def given(cls, request: pytest.FixtureRequest) -> Samples:
        """Return measured and other architectures of each space in turn."""
        if request.param >= len(cls.spaces):
            pytest.skip(f"the predictor is shown {len(cls.spaces)} space(s) only")
        found = samples(cls.spaces[request.param])
        reason = cls.make().supports(found.known)
        if reason is not None:
            pytest.skip(f"space {found.known.space}: {reason}")
        return found

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, given: Samples) -> Predictor:
        """Return the predictor, fitted to 40 architectures; tests must not fit it again."""
        return cls.make().fit(given.known, given.scores, unlabelled=given.other)

    def test_predicts_mean_and_spread(self, given: Samples, fitted: Predictor) -> None:
        """A finite mean and a positive standard deviation for every architecture."""
        cells = given.other
        prediction = fitted.predict(cells)
        assert prediction.mean.shape == prediction.std.shape == (len(cells),)
        assert prediction.mean.dtype == prediction.std.dtype == np.float64
        assert np.isfinite(prediction.mean).all()
        assert np.isfinite(prediction.std).all()
        assert (prediction.std > 0).all()
        assert len(fitted.predict(cells[:0])) == 0

    def test_learns_an_order(self, given: Samples, fitted: Predictor) -> None:
        """Made-up scores depend on depth, operations and numbers, and have a little noise."""
        tau, _ = kendalltau(fitted.predict(given.other).mean, given.truth)
        by_size, _ = kendalltau(given.other.total_params, given.truth)
        assert tau > max(self.least_tau, by_size + 0.1)

    def test_the_unit_is_that_of_the_scores(self, given: Samples, fitted: Predictor) -> None:
        """Scores in another unit give the same predictions in that unit."""
        cells = given.other[:50]
        percent = self.make().fit(given.known, 100 * given.scores - 7, given.other)
        before, after = fitted.predict(cells), percent.predict(cells)
        unit = given.scores.std()
        np.testing.assert_allclose((after.mean + 7) / 100, before.mean, atol=0.05 * unit)
        np.testing.assert_allclose(after.std / 100, before.std, rtol=0.05)

    def test_same_seed_same_predictions(self, given: Samples, fitted: Predictor) -> None:
        """The seed decides everything, whatever else draws random numbers, and a fit is fresh."""
        torch.rand(3)
        np.random.default_rng().random(3)
        other = self.make().fit(given.known[:20], given.scores[:20])
        again = other.fit(given.known, given.scores, unlabelled=given.other)
        cells = given.other
        np.testing.assert_array_equal(again.predict(cells).mean, fitted.predict(cells).mean)
        np.testing.assert_array_equal(again.predict(cells).std, fitted.predict(cells).std)

    def test_leaves_the_global_generators_alone(self, given: Samples) -> None:
        """A predictor draws from generators of its own, so the caller's numbers do not change."""
        ours, theirs = torch.random.get_rng_state(), _numpy_state()
        self.make().fit(given.known[:12], given.scores[:12]).predict(given.other[:5])
        assert torch.equal(ours, torch.random.get_rng_state())
        assert theirs == _numpy_state()

    def test_a_batch_is_its_architectures(self, given: Samples, fitted: Predictor) -> None:
        """What is said of an architecture does not depend on what else is asked."""
        cells = given.other[:12]
        whole = fitted.predict(cells)
        alone = [fitted.predict(cells[i : i + 1]) for i in range(len(cells))]
        unit = given.scores.std()
        np.testing.assert_allclose([p.mean[0] for p in alone], whole.mean, atol=1e-3 * unit)
        np.testing.assert_allclose([p.std[0] for p in alone], whole.std, rtol=2e-3)

    def test_saves_and_loads(self, given: Samples, fitted: Predictor, tmp_path: Path) -> None:
        """A loaded predictor predicts the same, and saves the same again."""
        fitted.save(tmp_path / "one")
        loaded = load_predictor(tmp_path / "one")
        loaded.save(tmp_path / "two")
        cells = given.other
        for predictor in (loaded, load_predictor(tmp_path / "two")):
            prediction, expected = predictor.predict(cells), fitted.predict(cells)
            np.testing.assert_allclose(prediction.mean, expected.mean, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(prediction.std, expected.std, rtol=1e-5)
        names = sorted(path.name for path in (tmp_path / "one").iterdir())
        assert names == ["card.json", "state.safetensors"]

    def test_damaged_files_are_refused(
        self, given: Samples, fitted: Predictor, tmp_path: Path
    ) -> None:
        """A cut file, a missing array, a card of a newer version: one PredictorError each."""
        fitted.save(tmp_path / "cut")
        state = tmp_path / "cut" / "state.safetensors"
        state.write_bytes(state.read_bytes()[:-10])
        fitted.save(tmp_path / "newer")
        card = json.loads((tmp_path / "newer" / "card.json").read_text())
        (tmp_path / "newer" / "card.json").write_text(json.dumps(card | {"format": 999}))
        fitted.save(tmp_path / "bare")
        (tmp_path / "bare" / "state.safetensors").unlink()
        for name in ("cut", "newer", "bare", "absent"):
            with pytest.raises(PredictorError):
                load_predictor(tmp_path / name)

    def test_nothing_is_saved_by_halves(
        self, fitted: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where saving fails, what stood there before still stands."""
        fitted.save(tmp_path / "here")
        before = (tmp_path / "here" / "card.json").read_bytes()

        def broken() -> Mapping[str, NDArray[Any]]:
            raise OSError("disk full")

        monkeypatch.setattr(fitted, "_state", broken)
        with pytest.raises(OSError, match="disk full"):
            fitted.save(tmp_path / "here")
        assert [path.name for path in tmp_path.iterdir()] == ["here"]
        assert (tmp_path / "here" / "card.json").read_bytes() == before

    def test_bad_labels_are_refused(self, given: Samples) -> None:
        """Too few, not finite, constant, or not as many as graphs."""
        cells, scores = given.known, given.scores
        few = self.make().min_labels - 1
        broken = scores.copy()
        broken[3] = np.nan
        cases = [
            (cells[:few], scores[:few], "at least|nothing"),
            (cells, broken, r"scores\[3\]"),
            (cells, np.ones(len(cells)), "nothing can be learnt"),
            (cells, scores[:-1], "one per graph"),
        ]
        for graphs, labels, words in cases:
            with pytest.raises(PredictorError, match=words):
                self.make().fit(graphs, labels)

    def test_learns_from_its_fewest_labels(self, given: Samples) -> None:
        """As many labels as it asks for are enough to predict something finite."""
        predictor = self.make()
        n = predictor.min_labels
        scores = np.linspace(0.1, 0.9, n)
        prediction = predictor.fit(given.known[:n], scores).predict(given.other[:5])
        assert np.isfinite(prediction.mean).all()
        assert (prediction.std > 0).all()

    def test_graphs_of_another_space_are_refused(self, given: Samples, fitted: Predictor) -> None:
        """A predictor knows the vocabulary and the skeleton that it was fitted on."""
        other = get_space("nasbench101", stacks=2)
        graphs = other.graphs(enumerate_cells(3))
        with pytest.raises(PredictorError, match="was expected"):
            fitted.predict(graphs)
        with pytest.raises(PredictorError, match="was expected"):
            self.make().fit(given.known, given.scores, unlabelled=graphs)
        with pytest.raises(PredictorError, match="not fitted"):
            self.make().predict(given.known)

    def test_progress_is_told(self, given: Samples) -> None:
        """The last step told is the last step there is."""
        told: list[tuple[int, int]] = []
        self.make().fit(
            given.known[:12], given.scores[:12], progress=lambda *step: told.append(step)
        )
        assert told, "progress was never told"
        assert all(0 <= done <= total for done, total in told)
        assert told[-1][0] == told[-1][1]


def check_every_registered_predictor(classes: Mapping[str, Any]) -> None:
    """Fail where a registered predictor has no contract test among ``classes``."""
    tested = {
        kind.predictor_name
        for kind in classes.values()
        if isinstance(kind, type) and hasattr(kind, "predictor_name")
    }
    missing = set(plugins.names("predictors")) - tested
    assert not missing, f"no contract test for {sorted(missing)}"


@dataclass(frozen=True)
class Samples:
    """Architectures of one space with made-up scores.

    known, scores: 40 that are measured, with a little noise.
    other, truth:  200 further ones, without noise.
    """

    known: GraphBatch
    scores: NDArray[np.float64]
    other: GraphBatch
    truth: NDArray[np.float64]


@cache
def samples(space: str) -> Samples:
    """Return the samples of a space, the same objects each time."""
    made = get_space(space, **_SMALL.get(space, {}))
    rng = np.random.default_rng(0)
    every = enumerate_cells(5) if space == "nasbench101" else made.sample(400, rng).unique()
    graphs = made.graphs(every[rng.permutation(len(every))[: _LABELS + 200]])
    clean = _scores(graphs)
    noisy = clean + 0.01 * np.random.default_rng(1).standard_normal(len(clean))
    return Samples(graphs[:_LABELS], noisy[:_LABELS], graphs[_LABELS:], clean[_LABELS:])


def known_cells() -> GraphBatch:
    """Return 40 cells in a small skeleton."""
    return samples("nasbench101").known


def other_cells() -> GraphBatch:
    """Return 200 further cells."""
    return samples("nasbench101").other


def known_scores() -> NDArray[np.float64]:
    """Return (40,) made-up scores."""
    return samples("nasbench101").scores


def _scores(graphs: GraphBatch) -> NDArray[np.float64]:
    mixing = graphs.operation_mask(mixes_channels=True).sum(1)
    wide = graphs.operation_mask(kind="conv", kernel=3).sum(1)
    direct = graphs.adjacency[:, 0, -1]
    made: NDArray[np.float64] = (
        0.5 + 0.05 * mixing + 0.05 * wide + 0.04 * direct + 0.03 * graphs.adjacency.sum((1, 2))
    )
    if graphs.attributes is not None:
        low, high = np.array([(one.low, one.high) for one in graphs.attribute_schema]).T
        made = made + 0.02 * np.nansum((graphs.attributes - low) / (high - low), axis=(1, 2))
    return made / 1.5


def _numpy_state() -> str:
    return str(np.random.get_state())  # noqa: NPY002 -- it is the global one that is looked at
