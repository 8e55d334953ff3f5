"""A network as an ONNX graph, made ready to run fast."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasplatform.errors import BuildError, MissingExtraError
from nasplatform.training.flops import unfused_transformers

INPUT, OUTPUT = "images", "logits"


def onnx_model(module: nn.Module, image: Tensor) -> Any:
    """Return a module as an ``onnx.ModelProto`` with a free batch size.

    image: (1, c, h, w). The input is ``images``, the output ``logits``. Raises MissingExtraError
    without the extra ``deploy``, BuildError where ONNX cannot express the network.
    """
    onnx = extra("onnx")
    written = io.BytesIO()
    with _silent(module), torch.no_grad(), unfused_transformers():
        try:
            torch.onnx.export(
                module,
                (image,),
                written,  # type: ignore[arg-type]  # a file will do, the types say otherwise
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            )
        except Exception as error:  # the exporter raises whatever it stumbles over
            said = " ".join(str(error).split()).split(", scope:")[0]  # the rest is torch's graph
            words = said[:200]
            raise BuildError(f"the network has a part that ONNX cannot express: {words}") from None
    model = onnx.load_from_string(written.getvalue())
    _drop_zero_terms(model.graph)
    return model


@contextmanager
def _silent(module: nn.Module) -> Iterator[None]:
    """Keep torch from warning of tracing, and from printing a graph that it cannot export.

    Tracing is deprecated, but ``torch.export`` cannot take every searched network.
    """

    def hush(*_: object) -> None:  # the exporter switches its log on before it runs the module
        torch._C._jit_set_onnx_log_enabled(False)

    handle = module.register_forward_pre_hook(hush)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            handle.remove()


def _drop_zero_terms(graph: Any) -> None:
    """Take out every ``x + zeros_like(x)``, with which the sums of NAS-Bench-101 cells begin.

    onnxruntime keeps them, for they depend on the size of the batch, and computes all that
    follows outside of its blocked layout.
    """
    made = {name: node for node in graph.node for name in node.output}
    instead: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Add":
            a, b = node.input
            term = b if _is_zeros_like(b, a, made) else a if _is_zeros_like(a, b, made) else None
            if term is not None and node.output[0] not in {out.name for out in graph.output}:
                instead[node.output[0]] = a if term == b else b
    for node in graph.node:
        for index, name in enumerate(node.input):
            while name in instead:
                name = instead[name]
            node.input[index] = name
    _drop_unused(graph)


def _is_zeros_like(name: str, other: str, made: Mapping[str, Any]) -> bool:
    """Say whether a value is ``ConstantOfShape(Shape(other))`` filled with 0."""
    zeros = made.get(name)
    while zeros is not None and zeros.op_type == "Cast":
        zeros = made.get(zeros.input[0])
    if zeros is None or zeros.op_type != "ConstantOfShape":
        return False
    shape = made.get(zeros.input[0])
    fill = extra("onnx").numpy_helper.to_array(zeros.attribute[0].t) if zeros.attribute else 0
    return (
        shape is not None
        and shape.op_type == "Shape"
        and shape.input[0] == other
        and not np.any(fill)
    )


def _drop_unused(graph: Any) -> None:
    wanted = {out.name for out in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def extra(name: str) -> Any:
    """Import a package of the extra ``deploy``; raise MissingExtraError where it is missing."""
    try:
        return import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"export to ONNX needs {name}: pip install 'nasplatform[deploy]'"
        ) from None
