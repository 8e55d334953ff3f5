"""How a named network is made, and written down so that it can be made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from torch import nn

from nasplatform import plugins
from nasplatform.errors import PluginError
from nasplatform.plugin_contracts import options_model

Builder = Callable[[BaseModel], nn.Module]
TAKEN = ("name", "function", "options", "weights")
"""Keys of a file's section ``network``, beside which the options of a named network stand."""


def describe_network(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name and all options of a registered network as values that JSON can hold.

    Raises PluginError for an unknown name, ConfigError for bad options.
    """
    return {"name": name, **_options(name, options).model_dump(mode="json")}


def suited(
    name: str, options: Mapping[str, Any], input_shape: tuple[int, int, int], classes: int
) -> dict[str, Any]:
    """Return options with the images and classes, where they do not say them.

    Raises PluginError for an unknown name.
    """
    plugins.get("networks", name)
    return {"input_shape": input_shape, "classes": classes} | dict(options)


def build_network(described: Mapping[str, Any]) -> nn.Module:
    """Make what ``describe_network`` described, with weights from torch's generator."""
    options = {key: value for key, value in described.items() if key != "name"}
    builder: Builder = plugins.get("networks", described["name"])
    return builder(_options(described["name"], options))


def _options(name: str, options: Mapping[str, Any]) -> BaseModel:
    model = options_model(plugins.get("networks", name))
    for key in TAKEN:
        if key in model.model_fields:
            raise PluginError(f"network {name!r} calls an option {key!r}, which a file uses itself")
    return plugins.make_options(model, dict(options), f"network {name!r}")
