"""Pictures of frames, as matplotlib axes: one function a question, one colour a method.

Each takes a frame that ``read_runs`` or ``read_stages`` returns (of one run or of many) and an
``Axes`` to draw into, by default a new one, and returns the axes. Needs the extra ``plot``.
"""

from nasplatform.visualization.axes import colour_of, new_axes, save
from nasplatform.visualization.predictions import predictions, tau_against_labels
from nasplatform.visualization.searches import front, regret, search_curves, workers
from nasplatform.visualization.stages import stage_walk

__all__ = [
    "colour_of",
    "front",
    "new_axes",
    "predictions",
    "regret",
    "save",
    "search_curves",
    "stage_walk",
    "tau_against_labels",
    "workers",
]
