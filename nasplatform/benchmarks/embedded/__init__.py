"""The platform's own tabular benchmarks: every network really trained, on one CPU core each.

``cells-digits`` and ``cells-fashion`` are NAS-Bench-101 cells in a small skeleton, on 8x8 digits
under fixed noise and on Fashion-MNIST averaged down to 7x7; ``chains-digits`` are chains of
inverted residual blocks on the same digits, ``vit-digits`` tiny visual transformers on digits
under half the noise. A build is resumable (parts are written as they are
finished) and uses all cores.
"""

from nasplatform.benchmarks.embedded.building import build
from nasplatform.benchmarks.embedded.setups import (
    SETUPS,
    CellGroup,
    SampleGroup,
    Setup,
    get_setup,
)
from nasplatform.benchmarks.embedded.trainers import CellKernel, TrainingLoop

__all__ = [
    "SETUPS",
    "CellGroup",
    "CellKernel",
    "SampleGroup",
    "Setup",
    "TrainingLoop",
    "build",
    "get_setup",
]
