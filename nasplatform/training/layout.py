"""In which order the weights of convolutions lie in memory: it decides how fast they run."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def laid_out(module: M, layout: torch.memory_format = torch.channels_last) -> M:
    """Return the module with the weights of its convolutions in a memory format."""
    # the types of ``to`` know nothing of a memory format alone
    return module.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]
