"""Whose fault a failed measurement is: it decides whether anybody tries again."""

import errno

import pytest
import torch

from nasplatform.errors import ArchitectureError, ConfigError, TrainingError
from nasplatform.executors.measure import classify


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ArchitectureError("no such cell"), "architecture"),
        (TrainingError("the loss is not finite"), "architecture"),
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory"),
        (RuntimeError("shapes do not fit"), "fatal"),
        (ConnectionError("reset"), "transient"),
        (OSError(errno.ENOSPC, "no space left"), "transient"),
        (OSError(errno.ENOENT, "no such file"), "fatal"),
        (ConfigError("no such data set"), "fatal"),
    ],
)
def test_classes_of_errors(error: Exception, expected: str) -> None:
    assert classify(error) == expected
