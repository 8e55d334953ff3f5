"""SCOP: channels that do no better than their knockoffs are removed (arXiv 2010.10732)."""

from nasplatform.stages.scop.stage import Scop, ScopOptions

__all__ = ["Scop", "ScopOptions"]
