"""What a network says, and how good it is by the metric of its task."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nasplatform.training.image_store import Images
from nasplatform.training.task import Split, Task

EVALUATION_BATCH = 512
"""Images at once."""
Part = Literal["train", "valid", "test"]


def predict(module: nn.Module, inputs: Tensor | Images, device: str = "cpu") -> Tensor:
    """Return the logits of all inputs on the CPU: (n, c, h, w) -> (n, K).

    The module is left in evaluation mode on ``device``.
    """
    module.to(device).eval()
    starts = range(0, len(inputs), EVALUATION_BATCH)
    with torch.inference_mode():
        parts = (inputs[start : start + EVALUATION_BATCH] for start in starts)
        return torch.cat([module(part.to(device)).float().cpu() for part in parts])


def evaluate(module: nn.Module, task: Task, part: Part, device: str = "cpu") -> float:
    """Return the task's metric on a split; the module is left in evaluation mode on ``device``."""
    split: Split = getattr(task, part)
    return task.metric(predict(module, split.inputs, device), split.labels)
