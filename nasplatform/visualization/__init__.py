"""Pictures of frames, as matplotlib axes: one function a question, one colour a method.

Each takes a frame that a reader of the package returns (of one run or of many), or a table, and an
``Axes`` to draw into, by default a new one, and returns the axes; they need the extra ``plot``.
``architecture_drawing`` returns SVG text and needs nothing.
"""

from nasplatform.visualization.axes import colour_of, new_axes, save
from nasplatform.visualization.benchmarks import benchmark_card
from nasplatform.visualization.drawing import architecture_drawing
from nasplatform.visualization.predictions import calibration, predictions, tau_against_labels
from nasplatform.visualization.searches import front, regret, search_curves, workers
from nasplatform.visualization.stages import stage_walk
from nasplatform.visualization.trainings import learning_curves

__all__ = [
    "architecture_drawing",
    "benchmark_card",
    "calibration",
    "colour_of",
    "front",
    "learning_curves",
    "new_axes",
    "predictions",
    "regret",
    "save",
    "search_curves",
    "stage_walk",
    "tau_against_labels",
    "workers",
]
