from typing import Any

import numpy as np
import pytest

from nasplatform.spaces import GraphBatch, get_space
from nasplatform.spaces.nasbench101.enumeration import enumerate_cells

SEVEN = (
    "[3M133]100110/10001/0101/001/00/1",
    "[1331M]110001/01000/1100/010/01/1",
    "[MMMMM]111111/00001/0001/001/00/0",
)


def _nasbench101() -> GraphBatch:
    space = get_space("nasbench101")
    small = enumerate_cells(5)[np.arange(0, 2532, 25)]
    large = space.population([space.parse(text) for text in SEVEN])
    both = space.from_codes(np.concatenate([small.codes, large.codes]))
    return space.graphs(both)


def _nasbench201() -> GraphBatch:
    space = get_space("nasbench201")
    return space.graphs(space.from_codes(np.arange(0, 15625, 157, dtype=np.uint64)))


@pytest.fixture(params=["nasbench101", "nasbench201"], scope="session")
def some_graphs(request: pytest.FixtureRequest) -> GraphBatch:
    makers: dict[str, Any] = {"nasbench101": _nasbench101, "nasbench201": _nasbench201}
    return makers[request.param]()
