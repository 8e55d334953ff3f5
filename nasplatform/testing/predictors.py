"""The contract of a predictor as tests; a plug-in author inherits them in a test module.

class TestMyPredictor(PredictorContract):
    predictor_name = "my-predictor"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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


class PredictorContract:
    """What every predictor must do, on cells of at most five vertices and made-up scores.

    predictor_name: the name under which the predictor is registered.
    options:        its options; a network should train for a few epochs only.
    least_tau:      the rank correlation that it must reach from 40 labels.
    """

    predictor_name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    least_tau: ClassVar[float] = 0.3

    @classmethod
    def make(cls, seed: int = 0) -> Predictor:
        """Make the predictor with its options, not fitted."""
        return get_predictor(cls.predictor_name, seed=seed, **cls.options)

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls) -> Predictor:
        """Return the predictor, fitted to 40 cells; tests must not fit it again."""
        return cls.make().fit(known_cells(), known_scores(), unlabelled=other_cells())

    def test_predicts_mean_and_spread(self, fitted: Predictor) -> None:
        """A finite mean and a positive standard deviation for every architecture."""
        cells = other_cells()
        prediction = fitted.predict(cells)
        assert prediction.mean.shape == prediction.std.shape == (len(cells),)
        assert prediction.mean.dtype == prediction.std.dtype == np.float64
        assert np.isfinite(prediction.mean).all()
        assert np.isfinite(prediction.std).all()
        assert (prediction.std > 0).all()
        assert len(fitted.predict(cells[:0])) == 0

    def test_learns_an_order(self, fitted: Predictor) -> None:
        """Made-up scores depend on depth, operations and cost, and have a little noise."""
        mean = fitted.predict(other_cells()).mean
        tau, _ = kendalltau(mean, _scores(other_cells(), noise=0.0))
        assert tau > self.least_tau

    def test_the_unit_is_that_of_the_scores(self, fitted: Predictor) -> None:
        """Scores in another unit give the same predictions in that unit."""
        cells = other_cells()[:50]
        percent = self.make().fit(known_cells(), 100 * known_scores() - 7, other_cells())
        before, after = fitted.predict(cells), percent.predict(cells)
        unit = known_scores().std()
        np.testing.assert_allclose((after.mean + 7) / 100, before.mean, atol=0.05 * unit)
        np.testing.assert_allclose(after.std / 100, before.std, rtol=0.05)

    def test_same_seed_same_predictions(self, fitted: Predictor) -> None:
        """The seed decides everything, whatever else draws random numbers, and a fit is fresh."""
        torch.rand(3)
        np.random.default_rng().random(3)
        other = self.make().fit(known_cells()[:20], known_scores()[:20])
        again = other.fit(known_cells(), known_scores(), unlabelled=other_cells())
        cells = other_cells()
        np.testing.assert_array_equal(again.predict(cells).mean, fitted.predict(cells).mean)
        np.testing.assert_array_equal(again.predict(cells).std, fitted.predict(cells).std)

    def test_leaves_the_global_generators_alone(self) -> None:
        """A predictor draws from generators of its own, so the caller's numbers do not change."""
        ours, theirs = torch.random.get_rng_state(), _numpy_state()
        self.make().fit(known_cells()[:12], known_scores()[:12]).predict(other_cells()[:5])
        assert torch.equal(ours, torch.random.get_rng_state())
        assert theirs == _numpy_state()

    def test_a_batch_is_its_architectures(self, fitted: Predictor) -> None:
        """What is said of an architecture does not depend on what else is asked."""
        cells = other_cells()[:12]
        whole = fitted.predict(cells)
        alone = [fitted.predict(cells[i : i + 1]) for i in range(len(cells))]
        unit = known_scores().std()
        np.testing.assert_allclose([p.mean[0] for p in alone], whole.mean, atol=1e-3 * unit)
        np.testing.assert_allclose([p.std[0] for p in alone], whole.std, rtol=2e-3)

    def test_saves_and_loads(self, fitted: Predictor, tmp_path: Path) -> None:
        """A loaded predictor predicts the same, and saves the same again."""
        fitted.save(tmp_path / "one")
        loaded = load_predictor(tmp_path / "one")
        loaded.save(tmp_path / "two")
        cells = other_cells()
        for predictor in (loaded, load_predictor(tmp_path / "two")):
            prediction, expected = predictor.predict(cells), fitted.predict(cells)
            np.testing.assert_allclose(prediction.mean, expected.mean, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(prediction.std, expected.std, rtol=1e-5)
        names = sorted(path.name for path in (tmp_path / "one").iterdir())
        assert names == ["card.json", "state.safetensors"]

    def test_damaged_files_are_refused(self, fitted: Predictor, tmp_path: Path) -> None:
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

    def test_bad_labels_are_refused(self) -> None:
        """Too few, not finite, constant, or not as many as graphs."""
        cells, scores = known_cells(), known_scores()
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

    def test_learns_from_its_fewest_labels(self) -> None:
        """As many labels as it asks for are enough to predict something finite."""
        predictor = self.make()
        n = predictor.min_labels
        scores = np.linspace(0.1, 0.9, n)
        prediction = predictor.fit(known_cells()[:n], scores).predict(other_cells()[:5])
        assert np.isfinite(prediction.mean).all()
        assert (prediction.std > 0).all()

    def test_graphs_of_another_space_are_refused(self, fitted: Predictor) -> None:
        """A predictor knows the vocabulary and the skeleton that it was fitted on."""
        other = get_space("nasbench101", stacks=2)
        graphs = other.graphs(enumerate_cells(3))
        with pytest.raises(PredictorError, match="was expected"):
            fitted.predict(graphs)
        with pytest.raises(PredictorError, match="was expected"):
            self.make().fit(known_cells(), known_scores(), unlabelled=graphs)
        with pytest.raises(PredictorError, match="not fitted"):
            self.make().predict(known_cells())

    def test_progress_is_told(self) -> None:
        """The last step told is the last step there is."""
        told: list[tuple[int, int]] = []
        self.make().fit(
            known_cells()[:12], known_scores()[:12], progress=lambda *step: told.append(step)
        )
        assert all(0 <= done <= total for done, total in told)
        assert not told or told[-1][0] == told[-1][1]


def check_every_registered_predictor(classes: Mapping[str, Any]) -> None:
    """Fail where a registered predictor has no contract test among ``classes``."""
    tested = {
        kind.predictor_name
        for kind in classes.values()
        if isinstance(kind, type) and hasattr(kind, "predictor_name")
    }
    missing = set(plugins.names("predictors")) - tested
    assert not missing, f"no contract test for {sorted(missing)}"


def known_cells() -> GraphBatch:
    """Return 40 cells in a small skeleton."""
    return _cells()[0]


def other_cells() -> GraphBatch:
    """Return 200 further cells."""
    return _cells()[1]


def known_scores() -> NDArray[np.float64]:
    """Return (40,) made-up scores."""
    return _scores(known_cells(), noise=0.01)


_MADE: list[GraphBatch] = []


def _cells() -> list[GraphBatch]:
    if not _MADE:
        space = get_space("nasbench101", stem_channels=8, stacks=1, modules_per_stack=1)
        cells = enumerate_cells(5)
        chosen = np.random.default_rng(0).permutation(len(cells))[: _LABELS + 200]
        graphs = space.graphs(cells[chosen])
        _MADE.extend([graphs[:_LABELS], graphs[_LABELS:]])
    return _MADE


def _scores(graphs: GraphBatch, noise: float) -> NDArray[np.float64]:
    mixing = graphs.operation_mask(mixes_channels=True).sum(1)
    wide = graphs.operation_mask(kind="conv", kernel=3).sum(1)
    direct = graphs.adjacency[:, 0, -1]
    clean = 0.5 + 0.05 * mixing + 0.05 * wide + 0.04 * direct + 0.03 * graphs.adjacency.sum((1, 2))
    wobble = np.random.default_rng(1).standard_normal(len(graphs))
    made: NDArray[np.float64] = clean / 1.5 + noise * wobble
    return made


def _numpy_state() -> str:
    return str(np.random.get_state())  # noqa: NPY002 -- it is the global one that is looked at
