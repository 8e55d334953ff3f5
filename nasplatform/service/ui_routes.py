"""``/v1`` for the page: the space as a picture, an architecture in all its forms, the runs."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import numpy as np
import pandas as pd
from fastapi import APIRouter, Request
from optuna.distributions import BaseDistribution, CategoricalDistribution

from nasplatform import faults
from nasplatform.errors import ArchitectureError, RunError
from nasplatform.service import schemas
from nasplatform.service.bodies import read_json
from nasplatform.service.models import Model
from nasplatform.service.problems import Problem
from nasplatform.service.routes import ServiceDep, require_ranking, takes
from nasplatform.service.texts import as_texts, parse_text
from nasplatform.spaces.base import Space
from nasplatform.visualization.drawing import cell_drawing

router = APIRouter(prefix="/v1", tags=["page"])


@router.get("/predictors/{name}/space", response_model=schemas.Picture)
async def picture(name: str, service: ServiceDep) -> schemas.Picture:
    """Show the space as the predictor sees it: histogram, sample of points, Pareto front."""
    model = await service.model(name)
    require_ranking(service, model)
    assert model.ranking is not None
    drawn = await asyncio.to_thread(lambda ranking: ranking.picture, model.ranking)
    return schemas.Picture(predictor=model.version.name, version=model.version.number, **drawn)


@router.get("/predictors/{name}/decisions", response_model=schemas.Decisions)
async def decisions(name: str, service: ServiceDep) -> schemas.Decisions:
    """List the choices that make an architecture of the predictor's space."""
    model = await service.model(name)
    found = model.space.distributions().items()
    return schemas.Decisions(
        space=model.space.name,
        decisions=[schemas.Decision(name=k, choices=choices_of(v)) for k, v in found],
    )


@router.post(
    "/predictors/{name}/explain",
    response_model=schemas.Explanation,
    openapi_extra=takes(schemas.ExplainRequest),
)
async def explain(name: str, request: Request, service: ServiceDep) -> schemas.Explanation:
    """Return an architecture, given as text or as choices, as text, choices and drawing.

    Choices that make no valid architecture are repaired.
    """
    model = await service.model(name)
    asked = await read_json(request, schemas.ExplainRequest, service.settings)
    if (asked.architecture is None) == (asked.params is None):
        raise Problem(422, "bad-body", "give either 'architecture' or 'params'")
    try:
        return await asyncio.to_thread(_explain, model, asked)
    except ArchitectureError as error:
        raise Problem(422, "bad-body", f"architecture: {error}") from None


@router.get("/runs", response_model=schemas.Runs)
def runs(service: ServiceDep) -> schemas.Runs:
    """Tell how far the runs of the folder given by --runs are."""
    folder = service.settings.runs
    if folder is None:
        return schemas.Runs(runs=[])
    from nasplatform.runs import frames

    try:
        folders = frames.find_runs(folder)
    except RunError:
        return schemas.Runs(runs=[])
    shown, broken = [], {}
    for found in folders:
        try:
            run = _progress(found)
        except Exception as error:  # half-written, damaged or foreign: it alone is not shown
            broken[_printable(found.path.name)] = _printable(faults.short(error))
            continue
        if run is not None:
            shown.append(run)
    return schemas.Runs(runs=shown, broken=broken)


def _progress(folder: Any) -> schemas.RunProgress | None:
    from nasplatform.runs import frames
    from nasplatform.runs.resolved import ResolvedSearch

    if not isinstance(folder.read(), ResolvedSearch):
        return None  # nothing was searched
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a database that is not contacted
        overview = frames.list_runs(folder.path).iloc[0]
        found = frames.evaluations(folder)
    allowed = found[found["feasible"]] if len(found) else found
    scores = allowed["score"].to_numpy(np.float64)
    scores = scores[np.isfinite(scores)]
    best = np.maximum.accumulate(scores) if len(scores) else scores
    architecture = overview["architecture"]
    return schemas.RunProgress(
        run=_printable(str(overview["run"])),
        task=_printable(str(overview["task"])),
        metric=_printable(str(overview["metric"])),
        state=str(overview["state"]),
        sampler=_printable(str(overview["sampler"])),
        budget=int(overview["budget"]),
        evaluations=int(overview["evaluations"]),
        best=best.round(6).tolist(),
        architecture=None if pd.isna(architecture) else _printable(architecture),
    )


def _printable(text: str) -> str:
    """Return a text of a file, or a file's name, as UTF-8 can carry it."""
    return text.encode("utf-8", "replace").decode()


def choices_of(distribution: BaseDistribution) -> list[Any]:
    """Return what a decision may be; a range of whole numbers is written out."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    low, high = getattr(distribution, "low", 0), getattr(distribution, "high", 0)
    step = getattr(distribution, "step", None) or (high - low) / 10 or 1
    return [low + i * step for i in range(round((high - low) / step) + 1)]


def _explain(model: Model, asked: schemas.ExplainRequest) -> schemas.Explanation:
    space = model.space
    if asked.params is not None:
        architecture = space.from_params(_complete(space, asked.params))
    else:
        architecture = parse_text(space, as_texts([asked.architecture])[0])
    graphs = space.graphs([architecture])
    real = np.flatnonzero(graphs.ops[0] >= 0)
    adjacency = graphs.adjacency[0][np.ix_(real, real)]
    operations = [graphs.vocabulary[op] for op in graphs.ops[0][real].tolist()]
    return schemas.Explanation(
        architecture=space.format(architecture),
        hash=architecture.hash,
        params=space.to_params(architecture),
        nodes=[schemas.Node(name=op.name, kind=op.kind) for op in operations],
        edges=[(int(a), int(b)) for a, b in np.argwhere(adjacency)],
        drawing=cell_drawing(graphs),
    )


def _complete(space: Space[Any], params: dict[str, Any]) -> dict[str, Any]:
    """Check that every decision is there and is one of its choices."""
    known = space.distributions()
    for name in params:
        if name not in known:
            raise ArchitectureError(f"params: unknown decision {name!r:.60}")
    for name, distribution in known.items():
        if name not in params:
            raise ArchitectureError(f"params: decision {name!r} is missing")
        choices = choices_of(distribution)
        if params[name] not in choices:
            raise ArchitectureError(
                f"params: {name} is {params[name]!r:.60}, expected one of {choices!r:.200}"
            )
    return params
