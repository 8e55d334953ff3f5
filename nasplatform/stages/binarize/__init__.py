"""Binary networks: signs in training, bits in the end (FDA-BNN, arXiv 2103.00841)."""

from nasplatform.stages.binarize.stage import Binarize

__all__ = ["Binarize"]
