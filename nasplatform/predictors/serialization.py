"""States of parts inside the state of a whole: arrays by name, a prefix for each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

_NETWORK = "network."


def prefixed(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a part under names of the whole."""
    return {prefix + name: array for name, array in arrays.items()}


def within(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a part under its own names."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def network_state(network: nn.Module) -> dict[str, NDArray[Any]]:
    """Return the weights of a network as arrays."""
    return prefixed(_NETWORK, {k: v.numpy() for k, v in network.state_dict().items()})


def load_network(network: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give a network the weights that ``network_state`` returned."""
    weights = within(arrays, _NETWORK)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
