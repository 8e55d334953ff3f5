from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from served import Fitted, Running, serving

from nasplatform.predictors import get_predictor
from nasplatform.service import PredictorStore
from nasplatform.service.labels import Labels
from nasplatform.spaces import get_space


@pytest.fixture(scope="session")
def fitted() -> Fitted:
    """A predictor of NAS-Bench-101 that has learnt that more parameters are better."""
    space = get_space("nasbench101")
    cells = space.sample(60, np.random.default_rng(0))
    graphs = space.graphs(cells)
    scores = 0.9 + 0.05 * np.tanh(graphs.total_params / 2e7 - 0.5)
    predictor = get_predictor("renas", epochs=5).fit(graphs, scores)
    return Fitted(predictor, space, Labels([space.format(cell) for cell in cells], scores))


@pytest.fixture(scope="session")
def published(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one version of one predictor; not to be written to."""
    folder = tmp_path_factory.mktemp("published") / "store"
    PredictorStore(folder).publish("demo", *fitted)
    return folder


@pytest.fixture
def store(published: Path, tmp_path: Path) -> PredictorStore:
    """A store of the test's own."""
    shutil.copytree(published, tmp_path / "store")
    return PredictorStore(tmp_path / "store")


@pytest.fixture(scope="session")
def service(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for every test that leaves no trace."""
    folder = tmp_path_factory.mktemp("served") / "store"
    shutil.copytree(published, folder)
    with serving(PredictorStore(folder)) as running:
        yield running
