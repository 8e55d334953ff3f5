"""What stands on the card of a table, against independent computations."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau

from nasplatform.benchmarks.statistics import ceiling, describe_table
from nasplatform.benchmarks.table import BenchmarkTable
from nasplatform.spaces.nasbench101 import NASBench101, Skeleton
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells

SPACE = NASBench101(Skeleton())


def slow_ceiling(runs: np.ndarray) -> float:
    """Average tau over every unordered pair of disjoint halves, by enumeration."""
    n = runs.shape[1]
    taus = []
    for left in itertools.combinations(range(n), n // 2):
        right = [s for s in range(n) if s not in left]
        taus.append(kendalltau(runs[:, list(left)].mean(1), runs[:, right].mean(1))[0])
    return float(np.mean(taus))


@pytest.mark.parametrize("seeds", [2, 4])
def test_ceiling_is_the_mean_over_all_halves(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    runs = rng.random((60, 1)) + 0.2 * rng.random((60, seeds))
    assert ceiling(runs) == pytest.approx(slow_ceiling(runs), abs=5e-4)


def test_ceiling_of_noise_and_of_certainty() -> None:
    rng = np.random.default_rng(0)
    assert ceiling(np.repeat(rng.random((50, 1)), 4, axis=1)) == 1
    assert abs(ceiling(rng.random((400, 4)))) < 0.1


def test_description_of_a_table() -> None:
    cells = enumerate_cells(4)
    rng = np.random.default_rng(0)
    valid = rng.random((len(cells), 2, 4)).astype(np.float32)
    valid[50:, :, 2:] = np.nan  # fewer seeds for the rest
    table = BenchmarkTable(
        "t", SPACE, cells, (1, 2), {"valid_accuracy": valid, "test_accuracy": valid / 2}
    )
    found = describe_table(table)
    assert set(found["ceiling"]) == {"50 architectures, 4 seeds", "41 architectures, 2 seeds"}
    assert found["ceiling"]["41 architectures, 2 seeds"] == ceiling(valid[50:, 1, :2].astype(float))
    assert found["correlation"]["test_accuracy"] == 1
    scores = table.values("valid_accuracy")
    params = SPACE.graphs(cells).total_params
    assert found["correlation"]["params"] == round(kendalltau(scores, params)[0], 3)
    convolutions = [cell.ops.count("conv3x3-bn-relu") for cell in cells]
    assert found["correlation"]["conv3x3"] == round(kendalltau(scores, convolutions)[0], 3)
    assert found["quantiles"]["1.0"] == pytest.approx(scores.max(), abs=1e-4)
    best = [entry["valid_accuracy"] for entry in found["best"]]
    assert best == [round(float(v), 4) for v in np.sort(scores)[:-6:-1]]
    assert SPACE.parse(found["best"][0]["architecture"]) == cells[int(scores.argmax())]
