"""Distillation with unlabelled images of another source, and adversarial alignment."""

from nasplatform.stages.distill.stage import Distill, DistillOptions

__all__ = ["Distill", "DistillOptions"]
