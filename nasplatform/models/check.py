"""One look at a network before anything is paid for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nasplatform.errors import NetworkError
from nasplatform.models.edits import Edit
from nasplatform.models.forward import run_located
from nasplatform.models.network import Network
from nasplatform.models.outputs import main_output
from nasplatform.training.flops import count_macs
from nasplatform.training.seeding import seeded
from nasplatform.training.task import Task

BATCHES = (1, 2, 3)
TOLERANCE = 1e-3
"""Of outputs in batches of different sizes, as a share of the largest output."""


def checked(network: Network, task: Task) -> Network:
    """Return the network, which now makes logits (B, K) and nothing else, if it suits the task.

    A network that returns more than its logits gets the edit ``main-output`` (see ``outputs``);
    the structure learns what the task's images are.
    Raises NetworkError, in one line, for parts that cannot be trained or saved (compiled by
    TorchScript, spread over devices, not initialised), parameters of another type or device than
    float32 on the CPU, none at all or only frozen ones; for images that it does not take, another
    number of classes, outputs that are no finite numbers or depend on what else is in the batch;
    and for arithmetic that cannot be counted.
    """
    check_parts(network.module)
    check_parameters(network.module)
    if _returns_more(network.module, task):
        edit = Edit("main-output", 1, {"classes": task.classes})
        network = network.edited(edit.apply(network.module), edit)
    check_outputs(network.module, task)
    count_macs(network.module, task.input_shape)
    return network.for_task(task)


def check_parts(module: nn.Module) -> None:
    """Raise NetworkError for a part that cannot be edited, trained or saved."""
    for name, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            raise NetworkError(f"{_part(name)} is compiled by TorchScript: give it uncompiled")
        if isinstance(child, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise NetworkError(f"{_part(name)} is a {type(child).__name__}: give its '.module'")
    for name, tensor in _tensors(module):
        if is_lazy(tensor):
            raise NetworkError(f"{name!r} is not initialised: run one batch through the network")


def check_parameters(module: nn.Module) -> None:
    """Raise NetworkError unless there are parameters to train, all float32 on the CPU."""
    for name, tensor in _tensors(module):
        if tensor.device.type != "cpu":
            raise NetworkError(f"{name!r} is on device {tensor.device}, expected the CPU")
        floating = tensor.is_floating_point() or tensor.is_complex()
        if floating and tensor.dtype != torch.float32:
            raise NetworkError(f"{name!r} is {_type(tensor)}, expected float32: call '.float()'")
    parameters = list(module.parameters())
    if not parameters:
        raise NetworkError("the network has no parameters, so there is nothing to train")
    if not any(parameter.requires_grad for parameter in parameters):
        raise NetworkError("every parameter is frozen: call '.requires_grad_(True)' on some")


def check_outputs(module: nn.Module, task: Task) -> None:
    """Raise NetworkError unless images become (B, K) finite logits, each of its own image."""
    images = _images(task)
    with torch.no_grad(), seeded(0):
        module.eval()
        whole = _logits(module, images, task)
        most = float(whole.abs().max().clamp_min(1)) * TOLERANCE
        if _apart(_logits(module, images, task), whole) > most:
            raise NetworkError("the network gives the same images other outputs the second time")
        for batch in BATCHES:
            if _apart(_logits(module, images[:batch], task), whole[:batch]) > most:
                raise NetworkError(
                    f"what the network makes of an image depends on the others of its batch: "
                    f"a batch of {batch} and one of {len(images)} give different outputs"
                )


def check_logits(module: nn.Module, task: Task) -> None:
    """Raise NetworkError unless images become finite logits (B, K) in evaluation mode."""
    with torch.no_grad(), seeded(0):
        _logits(module.eval(), _images(task), task)


def _returns_more(module: nn.Module, task: Task) -> bool:
    """Say whether something else than a tensor is returned, in evaluation or in training."""
    try:
        trained = copy.deepcopy(module).train()
    except Exception as error:  # whatever the network of a third party raises
        words = " ".join(str(error).split())[:200]
        raise NetworkError(f"the network cannot be copied: {words}") from None
    images = _images(task)
    with torch.no_grad(), seeded(0):
        made = (_run(module.eval(), images), _run(trained, images))
    return not all(isinstance(output, Tensor) for output in made)


def _logits(module: nn.Module, images: Tensor, task: Task) -> Tensor:
    logits = main_output(_run(module, images), task.classes)
    if logits.ndim != 2 or len(logits) != len(images):
        expected = (len(images), task.classes)
        raise NetworkError(
            f"the network makes a tensor of shape {tuple(logits.shape)} of {len(images)} images, "
            f"expected {expected}"
        )
    if logits.shape[1] != task.classes:
        raise NetworkError(
            f"the network has {logits.shape[1]} outputs, task {task.name!r} has "
            f"{task.classes} classes"
        )
    if logits.dtype != torch.float32:
        raise NetworkError(f"the network's outputs are {_type(logits)}, expected float32")
    if not bool(logits.isfinite().all()):
        raise NetworkError("the network's outputs are not all finite numbers")
    return logits


def _run(module: nn.Module, images: Tensor) -> Any:
    try:
        return run_located(module, images)
    except NetworkError as error:
        shape = " x ".join(str(size) for size in images.shape[1:])
        raise NetworkError(f"given {len(images)} images of {shape}, {error}") from None


def _images(task: Task) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(max(BATCHES), *task.input_shape, generator=rng)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _part(name: str) -> str:
    return f"part {name!r} of the network" if name else "the network"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
