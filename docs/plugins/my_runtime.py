"""A runtime in one file: the graph that torch traces, without Python between the layers."""

from __future__ import annotations

import copy
import warnings
from typing import ClassVar

import torch
from torch import Tensor, nn

from nasplatform.runtimes.base import Arrays, Runtime, Session
from nasplatform.training.flops import threads as computing_with


class TracedSession(Session):
    """A traced graph; it answers for any batch."""

    runtime = "traced"

    def __init__(self, graph: nn.Module, threads: int) -> None:
        self.graph, self.threads = graph, threads

    def run(self, images: Arrays) -> Arrays:
        with computing_with(self.threads), torch.inference_mode():
            logits: Tensor = self.graph(torch.from_numpy(images))
        return logits.numpy().copy()


class Traced(Runtime):
    """Traces a copy of the module on one image."""

    name: ClassVar[str] = "traced"

    def available(self) -> str | None:
        return None if hasattr(torch.jit, "trace") else "needs a torch that can trace"

    def compile(
        self, module: nn.Module, input_shape: tuple[int, int, int], threads: int = 1
    ) -> Session:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            graph = torch.jit.trace(copy.deepcopy(module.eval()), torch.zeros(1, *input_shape))
        return TracedSession(graph, threads)
