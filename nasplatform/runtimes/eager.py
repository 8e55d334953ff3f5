"""Torch itself as a runtime: whatever can be trained can be run."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nasplatform.runtimes.base import Arrays, Runtime, Session
from nasplatform.training.flops import threads as computing_with


class TorchSession(Session):
    """A module in evaluation mode."""

    runtime = "torch"

    def __init__(self, module: nn.Module, threads: int) -> None:
        self.module = module.eval()
        self.threads = threads

    def run(self, images: Arrays) -> Arrays:
        """Compute the logits."""
        with computing_with(self.threads), torch.inference_mode():
            logits: Tensor = self.module(torch.from_numpy(images))
        array: Arrays = logits.numpy()
        return array


class Torch(Runtime):
    """Runs the module as it is."""

    name: ClassVar[str] = "torch"

    def compile(
        self, module: nn.Module, input_shape: tuple[int, int, int], threads: int = 1
    ) -> Session:
        """Take the module; it is not copied."""
        return TorchSession(module, threads)
