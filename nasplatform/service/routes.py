"""``/v1``: predict, suggest, report."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams

from nasplatform.service import schemas
from nasplatform.service.labels import ReportedResults
from nasplatform.service.middleware import require_media_type
from nasplatform.service.models import Model, PredictionInput
from nasplatform.service.problems import Problem, bad_body
from nasplatform.service.responses import binary_body, predict_body
from nasplatform.service.service import Service, as_texts

router = APIRouter(prefix="/v1")
JSON, TEXT, BINARY = "application/json", "text/plain", "application/octet-stream"
B = TypeVar("B", bound=BaseModel)


def get_service(request: Request) -> Service:
    """Return the service that the application holds."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(get_service)]


def takes(model: type[BaseModel], compact: bool = False) -> dict[str, Any]:
    """Describe a body that the endpoint reads by itself, straight from the bytes."""
    content: dict[str, Any] = {JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    if compact:
        codes = "codes as the space packs them, code_words words of 8 bytes, little-endian"
        content[TEXT] = {"schema": {"type": "string", "description": "one architecture a line"}}
        content[BINARY] = {"schema": {"type": "string", "format": "binary", "description": codes}}
    return {"requestBody": {"required": True, "content": content}}


async def read(request: Request, model: type[B]) -> B:
    """Read a JSON body; raise Problem where it does not fit."""
    require_media_type(request, JSON)
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise bad_body(error) from None


@router.get("/predictors", response_model=schemas.PredictorList, tags=["predictors"])
def list_predictors(service: ServiceDep) -> schemas.PredictorList:
    """List the predictors in their latest versions."""
    cards = [_card(service, model) for _, model in sorted(service.models.latest().items())]
    return schemas.PredictorList(predictors=cards, broken=service.models.broken)


@router.get("/predictors/{name}", response_model=schemas.PredictorCard, tags=["predictors"])
async def show_predictor(name: str, service: ServiceDep) -> schemas.PredictorCard:
    """Show one predictor; NAME@VERSION or NAME@ALIAS for another version than the latest."""
    model = await service.model(name)
    return await asyncio.to_thread(_card, service, model)


@router.post(
    "/predictors/{name}/predict",
    response_model=schemas.PredictResponse,
    responses={200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
    openapi_extra=takes(schemas.PredictRequest, compact=True),
    tags=["predictors"],
)
async def predict(
    name: str,
    request: Request,
    include: Annotated[
        str | None, Query(description="for compact bodies: columns, by comma")
    ] = None,
    layout: Annotated[
        Literal["rows", "columns", "binary"] | None,
        Query(description="for compact bodies; texts are answered in columns, codes in binary"),
    ] = None,
) -> Response:
    """Predict mean, deviation, rank, cost and hash of architectures.

    An architecture that cannot be read has an error of its own and stops no other.
    """
    return await predict_now(request)


async def predict_now(request: Request) -> Response:
    """Answer ``predict``; the application leads here past the framework, for speed."""
    service = get_service(request)
    model = await service.model(request.path_params["name"])
    kind = require_media_type(request, JSON, TEXT, BINARY)
    if kind == JSON:
        asked = await read(request, schemas.PredictRequest)
        items: PredictionInput = as_texts(asked.architectures)
    else:
        asked = _options(request.query_params, kind)
        body = await request.body()
        items = _lines(body) if kind == TEXT else _codes(body, model.words)
    wanted = asked.include
    answers = await service.answer(model, items, "hash" in wanted, "rank" in wanted)
    request.state.facts = {"model": model.version.label, "items": len(items)}
    if asked.layout == "binary":
        headers = {"x-columns": ",".join(["mean", *wanted]), "x-version": model.version.label}
        return Response(binary_body(answers, wanted), headers=headers, media_type=BINARY)
    note = model.space.caution(items) if isinstance(items, list) else None
    body = predict_body(model, answers, wanted, asked.layout, note)
    return Response(body, media_type=JSON)


@router.post(
    "/predictors/{name}/suggest",
    response_model=schemas.SuggestResponse,
    openapi_extra=takes(schemas.SuggestRequest),
    tags=["predictors"],
)
async def suggest(name: str, request: Request, service: ServiceDep) -> schemas.SuggestResponse:
    """Suggest the k best architectures that nobody has measured, under limits."""
    model = await service.model(name)
    asked = await read(request, schemas.SuggestRequest)
    if len(asked.exclude) > service.settings.max_items:
        raise Problem(413, "too-many-items", f"exclude has {len(asked.exclude):,} items")
    require_ranking(service, model)
    return await asyncio.to_thread(_suggest, service, model, asked)


@router.post(
    "/predictors/{name}/evaluations",
    response_model=schemas.EvaluationsResponse,
    openapi_extra=takes(schemas.EvaluationsRequest),
    tags=["predictors"],
)
async def report(name: str, request: Request, service: ServiceDep) -> schemas.EvaluationsResponse:
    """Report measured results; with ``refit`` a new version is fitted in the background."""
    model = await service.model(name)
    if "@" in name:
        raise Problem(409, "conflict", f"results are reported to {model.version.name!r} as a whole")
    asked = await read(request, schemas.EvaluationsRequest)
    if len(asked.evaluations) > service.settings.max_items:
        raise Problem(413, "too-many-items", f"{len(asked.evaluations):,} results given")
    return await asyncio.to_thread(_report, service, model, asked, _caller(request))


@router.get("/predictors/{name}/refit", response_model=schemas.Refit, tags=["predictors"])
async def refit_state(name: str, service: ServiceDep) -> schemas.Refit:
    """Tell how the last refit stands."""
    model = await service.model(name)
    return service.refitter.state(model.version.name)


def _caller(request: Request) -> str:
    caller: str = request.scope["state"].get("caller", "anonymous")
    return caller


def _options(query: QueryParams, kind: str) -> schemas.PredictRequest:
    """Read the options of a compact body: texts or codes."""
    layout = query.get("layout") or ("columns" if kind == TEXT else "binary")
    default = [c for c in schemas.ALL_COLUMNS if c != "hash" or layout != "binary"]
    given = query.get("include")
    columns = default if given is None else [c for c in given.split(",") if c]
    values = {"architectures": [], "include": columns, "layout": layout}
    try:
        return schemas.PredictRequest.model_validate(values)
    except ValidationError as error:
        raise bad_body(error) from None


def _lines(body: bytes) -> list[str]:
    try:
        return body.decode().splitlines()
    except UnicodeDecodeError as error:
        raise Problem(422, "bad-body", f"the text is no UTF-8: byte {error.start}") from None


def _codes(body: bytes, words: int) -> NDArray[np.uint64]:
    size = 8 * words
    if len(body) % size:
        detail = f"the body has {len(body)} bytes: a code has {size}, little-endian"
        raise Problem(422, "bad-body", detail)
    return np.frombuffer(body, "<u8").astype(np.uint64).reshape(-1, words)


def _card(service: Service, model: Model) -> schemas.PredictorCard:
    version, store = model.version, service.store
    card = model.predictor.card()
    builder = model.builder
    return schemas.PredictorCard(
        name=version.name,
        version=version.number,
        versions=store.versions(version.name),
        aliases=store.aliases(version.name),
        method=card["predictor"],
        options=card["options"],
        seed=card["seed"],
        space=model.space.describe(),
        code_words=model.words,
        n_labels=card["n_labels"],
        refittable=store.has_labels(version),
        published=version.facts.get("published"),
        origin=version.facts.get("origin", {}),
        libraries=card["versions"],
        view=schemas.ViewState(
            ready=model.ranking is not None,
            complete=builder is not None and builder.done == builder.total,
            done=builder.done if builder else 0,
            total=builder.total if builder else 0,
        ),
        refit=service.refitter.state(version.name),
    )


def require_ranking(service: Service, model: Model) -> None:
    """Raise Problem while the space is not ranked; begin with that where nobody has."""
    if model.ranking is None:
        service.want_ranking(model)
        builder = model.builder
        far = f"{builder.done:,} of {builder.total:,}" if builder else "being enumerated"
        words = f"the space of {model.version.label} is being ranked ({far}): try again"
        raise Problem(503, "not-ready", words, {"Retry-After": "2"})


def _suggest(
    service: Service, model: Model, asked: schemas.SuggestRequest
) -> schemas.SuggestResponse:
    ranking = model.ranking
    assert ranking is not None
    excluded, failed = model.space.parse_many(as_texts(asked.exclude))
    seen = np.concatenate([service.seen(model), excluded.keys])
    limits = {"params": asked.max_params, "flops": asked.max_flops}
    best = ranking.suggest(asked.k, seen, limits, asked.kappa)
    chosen = ranking.reference.population[best]
    ranks = ranking.ranks(ranking.mean[best])
    hashes = model.space.from_codes(chosen.codes).hashes
    return schemas.SuggestResponse(
        predictor=model.version.name,
        version=model.version.number,
        considered=len(ranking.mean),
        complete=ranking.complete,
        suggestions=[
            schemas.Suggestion(
                architecture=model.space.format(chosen[row]),
                hash=hashes[row],
                mean=ranking.mean[at],
                std=ranking.std[at],
                rank=ranks[row],
                params=ranking.params[at],
                flops=ranking.flops[at],
            )
            for row, at in enumerate(best.tolist())
        ],
        errors=_item_errors({i: str(e) for i, e in failed.items()}),
    )


def _report(
    service: Service, model: Model, asked: schemas.EvaluationsRequest, caller: str
) -> schemas.EvaluationsResponse:
    name = model.version.name
    if asked.refit and not service.store.has_labels(service.store.find(name)):
        raise Problem(
            409,
            "conflict",
            f"{name!r} was published without its labels and cannot be refitted: send "
            f"'refit': false, or publish it with labels",
        )
    texts = as_texts([result.architecture for result in asked.evaluations])
    good, failed = model.space.parse_many(texts)
    scores = [r.score for i, r in enumerate(asked.evaluations) if i not in failed]
    log = ReportedResults(service.store.home(name))
    if scores:
        written = [model.space.format(good[i]) for i in range(len(scores))]
        log.append(zip(written, scores, strict=True), caller)
    refit = service.refitter.start(name) if asked.refit else service.refitter.state(name)
    return schemas.EvaluationsResponse(
        accepted=len(scores),
        reported=len(log.read()),
        errors=_item_errors({i: str(e) for i, e in failed.items()}),
        refit=refit,
    )


def _item_errors(errors: dict[int, str]) -> list[schemas.ItemError]:
    return [schemas.ItemError(index=i, detail=e) for i, e in sorted(errors.items())]
