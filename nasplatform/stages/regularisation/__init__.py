"""Trainings that put noise on feature maps: Disout, and its neighbours on the same places."""

from nasplatform.stages.regularisation.disout import Disout
from nasplatform.stages.regularisation.neighbours import DropBlock, Dropout, Dropout2d

__all__ = ["Disout", "DropBlock", "Dropout", "Dropout2d"]
