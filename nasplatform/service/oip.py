"""``/v2``: the Open Inference Protocol, for clients that speak it already.

A model has one input, ``architecture`` (BYTES, shape [-1]: text forms), and the outputs ``mean``,
``std`` (FP64) and ``params``, ``flops`` (INT64). The protocol knows no error of one item: a bad
text fails the request, with its index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.service.bodies import off_loop, read_json, require_few_items
from nasplatform.service.models import Model, PredictionOutput
from nasplatform.service.problems import Problem
from nasplatform.service.routes import ServiceDep, takes
from nasplatform.service.schemas import Item

_ROW = 16  # bytes of a body that take as long as a row of an answer
router = APIRouter(prefix="/v2", tags=["open inference protocol"])
_OUTPUTS: dict[str, tuple[str, Callable[[PredictionOutput], Any]]] = {
    "mean": ("FP64", lambda answers: answers.mean),
    "std": ("FP64", lambda answers: answers.std),
    "params": ("INT64", lambda answers: answers.params),
    "flops": ("INT64", lambda answers: answers.flops),
}


class ServerMetadata(BaseModel):
    """The service."""

    name: str
    version: str
    extensions: list[str]


class Health(BaseModel):
    """Whether the service lives, or is ready."""

    live: bool | None = None
    ready: bool | None = None


class TensorMetadata(BaseModel):
    """An input or output; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    """Whether a model answers."""

    name: str
    ready: bool


class InferInput(BaseModel):
    """The input tensor."""

    model_config = ConfigDict(extra="ignore")

    name: Literal["architecture"]
    datatype: Literal["BYTES"]
    shape: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=2)
    data: list[Item] = Field(fail_fast=True)


class InferOutput(BaseModel):
    """An output that is asked for."""

    model_config = ConfigDict(extra="ignore")

    name: Literal["mean", "std", "params", "flops"]


class InferRequest(BaseModel):
    """What is to be inferred."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = None
    inputs: list[InferInput] = Field(min_length=1, max_length=1, fail_fast=True)
    outputs: list[InferOutput] = Field(default_factory=list, max_length=16, fail_fast=True)


class OutputTensor(BaseModel):
    """A tensor of the answer."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float | int]


class InferResponse(BaseModel):
    """What was inferred."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


@router.get("", response_model=ServerMetadata)
def server() -> ServerMetadata:
    """Describe the service."""
    from importlib.metadata import version

    return ServerMetadata(name="nasplatform", version=version("nasplatform"), extensions=[])


@router.get("/health/live", response_model=Health, response_model_exclude_none=True)
async def live(service: ServiceDep) -> Health:
    """Tell whether the service lives."""
    if not service.engine.alive:
        raise Problem(503, "not-ready", "the inference thread has ended: restart the service")
    return Health(live=True)


@router.get("/health/ready", response_model=Health, response_model_exclude_none=True)
async def ready(service: ServiceDep) -> Health:
    """Tell whether the predictors are loaded."""
    reason = service.why_not_ready
    if reason is not None:
        raise Problem(503, "not-ready", reason, {"Retry-After": "2"})
    return Health(ready=True)


@router.get("/models/{name}", response_model=ModelMetadata)
async def metadata(name: str, service: ServiceDep) -> ModelMetadata:
    """Describe a model."""
    return _describe(await service.model(name), service.store.versions(name.partition("@")[0]))


@router.get("/models/{name}/versions/{version}", response_model=ModelMetadata)
async def version_metadata(name: str, version: str, service: ServiceDep) -> ModelMetadata:
    """Describe a version of a model."""
    return _describe(await service.model(f"{name}@{version}"), service.store.versions(name))


@router.get("/models/{name}/ready", response_model=ModelReady)
async def model_ready(name: str, service: ServiceDep) -> ModelReady:
    """Tell whether a model answers."""
    await service.model(name)
    return ModelReady(name=name, ready=True)


@router.get("/models/{name}/versions/{version}/ready", response_model=ModelReady)
async def version_ready(name: str, version: str, service: ServiceDep) -> ModelReady:
    """Tell whether a version of a model answers."""
    await service.model(f"{name}@{version}")
    return ModelReady(name=name, ready=True)


@router.post(
    "/models/{name}/infer", response_model=InferResponse, openapi_extra=takes(InferRequest)
)
async def infer(name: str, request: Request, service: ServiceDep) -> Response:
    """Infer with the latest version."""
    return await _infer(await service.model(name), request, service)


@router.post(
    "/models/{name}/versions/{version}/infer",
    response_model=InferResponse,
    openapi_extra=takes(InferRequest),
)
async def infer_version(name: str, version: str, request: Request, service: ServiceDep) -> Response:
    """Infer with a version."""
    return await _infer(await service.model(f"{name}@{version}"), request, service)


def _describe(model: Model, versions: list[int]) -> ModelMetadata:
    return ModelMetadata(
        name=model.version.name,
        versions=[str(number) for number in versions],
        platform=f"nasplatform-{model.predictor.name}",
        inputs=[TensorMetadata(name="architecture", datatype="BYTES", shape=[-1])],
        outputs=[
            TensorMetadata(name=name, datatype=kind, shape=[-1])
            for name, (kind, _) in _OUTPUTS.items()
        ],
    )


async def _infer(model: Model, request: Request, service: ServiceDep) -> Response:
    asked = await read_json(request, InferRequest, service.settings)
    tensor = asked.inputs[0]
    require_few_items(len(tensor.data), service.settings)
    size = int(np.prod([min(n, 1 << 31) for n in tensor.shape], dtype=object))
    if size != len(tensor.data):
        raise Problem(
            422, "bad-body", f"inputs.0: shape {tensor.shape} has {size} items, data has "
            f"{len(tensor.data)}"
        )  # fmt: skip
    bad = next((i for i, item in enumerate(tensor.data) if not isinstance(item, str)), None)
    if bad is not None:
        raise Problem(422, "bad-body", f"inputs.0.data.{bad}: expected a string")
    answers = await service.answer(model, tensor.data, hashes=False, ranks=False)
    if answers.errors:
        index = min(answers.errors)
        raise Problem(422, "bad-body", f"inputs.0.data.{index}: {answers.errors[index]}")
    size = _ROW * len(tensor.data)
    body = await off_loop(size, lambda: _body(model, asked, answers))
    return Response(body, media_type="application/json")


def _body(model: Model, asked: InferRequest, answers: PredictionOutput) -> bytes:
    tensor = asked.inputs[0]
    wanted: list[str] = [output.name for output in asked.outputs] or list(_OUTPUTS)
    outputs = [
        OutputTensor(
            name=name,
            datatype=_OUTPUTS[name][0],
            shape=tensor.shape,
            data=_OUTPUTS[name][1](answers).tolist(),
        )
        for name in wanted
    ]
    body = InferResponse(
        model_name=model.version.name,
        model_version=str(model.version.number),
        id=asked.id,
        outputs=outputs,
    )
    return body.model_dump_json(exclude_none=True).encode()
