"""Networks that no search found: the platform's own and, by entry point, the user's.

A network plug-in is a function ``(options) -> nn.Module`` whose only parameter is annotated with
a pydantic model; registered as an entry point of the group ``nasplatform.networks``. Stages take
it exactly as they take the winner of a search::

    network = Network.named("resnet", depth=20, input_shape=(1, 28, 28))
    run_pipeline(network, task, [("train", {}), ("scop", {"budget": {"keep": 0.45}})], folder)
"""

from nasplatform.models.networks.base import build_network, describe_network

__all__ = ["build_network", "describe_network"]
