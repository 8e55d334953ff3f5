"""NAS-Bench-101 (Ying et al., ICML 2019): cells of up to 7 vertices and 9 edges, 3 operations."""

from nasplatform.spaces.nasbench101.cells import Cell, Cells
from nasplatform.spaces.nasbench101.costs import Skeleton
from nasplatform.spaces.nasbench101.space import NASBench101

__all__ = ["Cell", "Cells", "NASBench101", "Skeleton"]
