"""``/v1``: predict, suggest, report."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams

from nasplatform import faults
from nasplatform.errors import PredictorError
from nasplatform.service import schemas
from nasplatform.service.bodies import (
    BINARY,
    JSON,
    TEXT,
    off_loop,
    read_codes,
    read_json,
    read_lines,
    require_few_items,
    require_media_type,
)
from nasplatform.service.labels import ReportedResults
from nasplatform.service.models import Model, PredictionInput
from nasplatform.service.problems import Problem, bad_body
from nasplatform.service.responses import binary_body, predict_body, told
from nasplatform.service.service import Service
from nasplatform.service.texts import as_texts, parse_texts

router = APIRouter(prefix="/v1")
_TEXT, _ROW = 8, 16  # bytes of a body that take as long as a text or a row of an answer


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


@router.get("/predictors", response_model=schemas.PredictorList, tags=["predictors"])
def list_predictors(service: ServiceDep) -> schemas.PredictorList:
    """List the predictors in their latest versions."""
    cards, broken = [], dict(service.models.broken)
    for name, model in sorted(service.models.latest().items()):
        try:
            cards.append(_card(service, model))
        except (PredictorError, OSError) as error:  # removed a moment ago, or out of reach
            broken.setdefault(name, faults.short(error))
    return schemas.PredictorList(predictors=cards, broken=broken)


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
        asked = await read_json(request, schemas.PredictRequest, service.settings)
        require_few_items(len(asked.architectures), service.settings)
        size = _TEXT * len(asked.architectures)
        items: PredictionInput = await off_loop(size, lambda: as_texts(asked.architectures))
    else:
        asked = _options(request.query_params, kind)
        if kind == TEXT:
            items = await read_lines(request, service.settings)
        else:
            items = await read_codes(request, model.words, service.settings)
    wanted = asked.include
    answers = await service.answer(model, items, "hash" in wanted, "rank" in wanted)
    request.state.facts = {"model": model.version.label, "items": len(items)}
    if asked.layout == "binary":
        headers = {"x-columns": ",".join(["mean", *wanted]), "x-version": model.version.label}
        return Response(binary_body(answers, wanted), headers=headers, media_type=BINARY)
    size = _ROW * len(items)
    note = model.space.caution(items) if isinstance(items, list) else None
    body = await off_loop(size, lambda: predict_body(model, answers, wanted, asked.layout, note))
    return Response(body, media_type=JSON)


@router.post(
    "/predictors/{name}/suggest",
    response_model=schemas.SuggestResponse,
    openapi_extra=takes(schemas.SuggestRequest),
    tags=["predictors"],
)
async def suggest(name: str, request: Request, service: ServiceDep) -> Response:
    """Suggest the k best architectures that nobody has measured, under limits."""
    model = await service.model(name)
    asked = await read_json(request, schemas.SuggestRequest, service.settings)
    require_few_items(len(asked.exclude), service.settings)
    require_ranking(service, model)
    return await asyncio.to_thread(lambda: _answered(_suggest(service, model, asked)))


@router.post(
    "/predictors/{name}/evaluations",
    response_model=schemas.EvaluationsResponse,
    openapi_extra=takes(schemas.EvaluationsRequest),
    tags=["predictors"],
)
async def report(name: str, request: Request, service: ServiceDep) -> Response:
    """Report measured results; with ``refit`` a new version is fitted in the background."""
    model = await service.model(name)
    if "@" in name:
        raise Problem(409, "conflict", f"results are reported to {model.version.name!r} as a whole")
    asked = await read_json(request, schemas.EvaluationsRequest, service.settings)
    require_few_items(len(asked.evaluations), service.settings)
    caller = _caller(request)
    return await asyncio.to_thread(lambda: _answered(_report(service, model, asked, caller)))


@router.get("/predictors/{name}/refit", response_model=schemas.Refit, tags=["predictors"])
async def refit_state(name: str, service: ServiceDep) -> schemas.Refit:
    """Tell how the last refit stands."""
    model = await service.model(name)
    return service.refitter.state(model.version.name)


def _answered(body: BaseModel) -> Response:
    """Make the answer here, in a thread: a large one is written for as long as it is made."""
    return Response(body.model_dump_json(), media_type=JSON)


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
        published=version.facts.published,
        origin=dict(version.facts.origin),
        libraries=card["versions"],
        view=schemas.ViewState(
            ready=model.ranking is not None,
            complete=builder is not None and builder.done == builder.total,
            done=builder.done if builder else 0,
            total=builder.total if builder else 0,
        ),
        refit=service.refitter.state(version.name),
        notice=service.models.broken.get(version.name),
    )


def require_ranking(service: Service, model: Model) -> None:
    """Raise Problem while the space is not ranked; begin with that where nobody has."""
    if model.ranking is None and model.unranked is not None:
        detail = f"the space of {model.version.label} cannot be ranked: {model.unranked}"
        raise Problem(409, "conflict", detail)
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
    excluded, failed = parse_texts(model.space, as_texts(asked.exclude))
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
        errors=told(failed),
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
    good, failed = parse_texts(model.space, texts)
    errors = dict(failed)
    labels = service.store.labels(service.store.find(name))
    entries = []
    read_well = (i for i in range(len(texts)) if i not in failed)
    for row, index in enumerate(read_well):
        score = asked.evaluations[index].score
        strange = labels.far_from(score) if labels is not None and len(labels) else None
        if strange is not None:
            errors[index] = strange
        else:
            entries.append((model.space.format(good[row]), score))
    log = ReportedResults(service.store.home(name))
    if entries:
        log.append(entries, caller)
    refit = service.refitter.start(name) if asked.refit else service.refitter.state(name)
    return schemas.EvaluationsResponse(
        accepted=len(entries),
        reported=len(log.read()),
        errors=told(errors),
        refit=refit,
    )
