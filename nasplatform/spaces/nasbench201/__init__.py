"""NAS-Bench-201 / NATS-Bench topology (Dong & Yang, ICLR 2020): 4 nodes, 5 operations per edge."""

from nasplatform.spaces.nasbench201.cells import Cell, Cells
from nasplatform.spaces.nasbench201.costs import Skeleton
from nasplatform.spaces.nasbench201.space import NASBench201

__all__ = ["Cell", "Cells", "NASBench201", "Skeleton"]
