"""Train one network in several processes of this machine (PyTorch's DDP, gloo).

Each process sees the same batches and works on its rows of each; gradients, the loss and the
statistics of batch normalisation are those of the whole batch, so that the loss curve is that of
one process but for the last digits. What a network draws at random within itself (dropout) differs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from nasplatform.errors import TrainingError
from nasplatform.training.objective import Batch

_PATIENCE = timedelta(minutes=30)  # for a process that evaluates while the others wait
_group: Any = None  # of the statistics; None in a training of one process


def check_processes(processes: int, device: str, batch_size: int) -> None:
    """Raise TrainingError for what cannot be trained in several processes."""
    if processes > 1 and not device.startswith("cpu"):
        raise TrainingError(f"processes: {processes} train together on CPUs, not on {device}")
    if processes > batch_size // 2:
        raise TrainingError(
            f"processes: {processes} are too many for batches of {batch_size} images: at least two "
            f"each"
        )


@contextmanager
def helpers(processes: int, work: Callable[[], object]) -> Iterator[None]:
    """Let further processes do ``work`` while this one does the same within the block.

    This process is the first of the group; the others are forks of it, which keep quiet and end
    with the block. Raises ConnectionError where one of them is lost.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nothing beyond this machine
    with TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        children = [_fork(rank, processes, meeting, work) for rank in range(1, processes)]
        try:
            with _member(0, processes, meeting):
                yield
        except RuntimeError as error:
            if any(os.waitpid(child, os.WNOHANG)[0] for child in children):
                raise ConnectionError("a process of the training was lost") from error
            raise
        finally:
            for child in children:
                with suppress(ProcessLookupError, ChildProcessError):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)


def active() -> bool:
    """Return whether this process is one of several that train together."""
    return _group is not None


def is_first() -> bool:
    """Return whether this process speaks for the training."""
    return not active() or dist.get_rank() == 0


def agreed(ended: bool) -> bool:
    """Return what the first process says."""
    if not active():
        return ended
    said = torch.tensor([int(ended)])
    dist.broadcast(said, 0)
    return bool(said.item())


def shared(module: nn.Module) -> nn.Module:
    """Return the module as an objective is to call it: gradients are those of all processes."""
    if not active():
        return module
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.__class__ = _synchronised(type(layer))
    return DistributedDataParallel(module, find_unused_parameters=True)


@dataclass(frozen=True)
class Part:
    """The rows of a batch that this process works on.

    weight: of its loss, so that the mean over the processes is the mean over the whole batch.
    """

    batch: Batch
    weight: float

    @classmethod
    def of(cls, batch: Batch) -> Part:
        """Take every n-th row, where n processes train together."""
        if not active():
            return cls(batch, 1.0)
        mine = _rows(batch, dist.get_rank(), dist.get_world_size())
        return cls(mine, dist.get_world_size() * len(mine) / len(batch))

    def whole(self, value: Tensor) -> Tensor:
        """Return the mean over the whole batch of what is a mean over this part."""
        if not active():
            return value
        total = value.detach() * self.weight / dist.get_world_size()
        dist.all_reduce(total)
        return total


def _rows(batch: Batch, first: int, step: int) -> Batch:
    some = {
        name: None if tensor is None else tensor[first::step]
        for name, tensor in (("labels", batch.labels), ("answers", batch.answers))
    }
    beside = None if batch.beside is None else _rows(batch.beside, first, step)
    return replace(batch, inputs=batch.inputs[first::step], beside=beside, **some)


def _fork(rank: int, processes: int, meeting: Path, work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)  # threads do not survive a fork
        with _member(rank, processes, meeting):
            work()
    finally:
        os._exit(1)  # nothing of the parent's is ended or closed here


@contextmanager
def _member(rank: int, processes: int, meeting: Path) -> Iterator[None]:
    global _group
    dist.init_process_group(
        "gloo", f"file://{meeting}", timeout=_PATIENCE, rank=rank, world_size=processes
    )
    _group = dist.new_group(backend="gloo")
    try:
        yield
    finally:
        _group = None
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total, group=_group)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # torch's takes any number
        total = gradient.contiguous().clone()
        dist.all_reduce(total, group=_group)
        return total


class _Synchronised:
    """A batch normalisation whose statistics are those of all processes (Ioffe and Szegedy 2015).

    ``torch.nn.SyncBatchNorm`` does so on CUDA devices only.
    """

    def forward(self: Any, inputs: Tensor) -> Tensor:
        if not (self.training and active()):
            plain: Tensor = super().forward(inputs)  # type: ignore[misc]  # of the layer it is mixed into
            return plain
        axes = [axis for axis in range(inputs.dim()) if axis != 1]
        shape = [1, -1] + [1] * (inputs.dim() - 2)
        count = inputs.new_full((1,), inputs.numel() / inputs.shape[1])
        sums: Tensor = _Sum.apply(torch.cat([inputs.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = inputs - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / total
        self._remember(mean.detach(), variance.detach() * total / (total - 1))
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled

    def _remember(self: Any, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum or 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


_KINDS: dict[type, type] = {}


def _synchronised(kind: type) -> type:
    """Return a kind of batch normalisation, synchronised; its state and name stay the same."""
    if issubclass(kind, _Synchronised):
        return kind
    if kind not in _KINDS:
        _KINDS[kind] = type(kind.__name__, (_Synchronised, kind), {"__module__": kind.__module__})
    return _KINDS[kind]
