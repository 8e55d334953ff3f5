"""The application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nasplatform.service import metrics, oip, problems, routes, schemas, ui_routes
from nasplatform.service.middleware import FrontDoor
from nasplatform.service.routes import ServiceDep
from nasplatform.service.service import Service
from nasplatform.service.settings import Settings
from nasplatform.service.store import PredictorStore
from nasplatform.visualization.drawing import page_colours

_PAGE = Path(__file__).parent / "page"
_READ_BY_HAND: tuple[type[BaseModel], ...] = (
    schemas.PredictRequest,
    schemas.SuggestRequest,
    schemas.EvaluationsRequest,
    schemas.ExplainRequest,
    oip.InferRequest,
)
_ABOUT = """Performance predictors of neural architectures: how good would this one be, how sure are
we, what does it cost? Everything that is no success is a problem document (RFC 9457)."""


_PREDICT = Route("/v1/predictors/{name}/predict", routes.predict_now, methods=["POST"])


class _Application(FastAPI):
    """Leads ``predict`` past the layers of the framework, which cost more than the rest of it."""

    predict: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            match = _PREDICT.path_regex.match(scope["path"])
            if match is not None:
                own = {"app": self, "route": _PREDICT, "path_params": match.groupdict()}
                await self.predict({**scope, **own}, receive, send)
                return
        await super().__call__(scope, receive, send)


async def _predict(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        response = await routes.predict_now(Request(scope, receive))
    except Exception as error:
        problem = problems.problem_of(error)
        if problem is None:
            raise
        raise problem from None
    await response(scope, receive, send)


def create_app(store: PredictorStore, settings: Settings | None = None) -> FastAPI:
    """Make the application over a store; it loads the predictors when it starts."""
    settings = settings or Settings()
    service = Service(store, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = _Application(
        title="nasplatform",
        version=version("nasplatform"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page comes from a network that may not be there
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.service = service
    door = FrontDoor(settings, service.metrics)
    app.add_middleware(door.before)
    app.predict = door.before(_predict)
    problems.install(app)
    app.include_router(routes.router)
    app.include_router(ui_routes.router)
    app.include_router(oip.router)
    _add_plain_pages(app)
    # FastAPI's documented way to extend the document
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]  # not foreseen by its types
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the bodies that are read by hand and the problems."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version="1", description=app.description, routes=app.routes
        )
        known = document["components"]["schemas"]
        by_hand: list[type[BaseModel]] = [*_READ_BY_HAND, problems.ProblemDetails]
        for model in by_hand:
            found = model.model_json_schema(ref_template="#/components/schemas/{model}")
            known.update(found.pop("$defs", {}))
            known[model.__name__] = found
        for name in ("HTTPValidationError", "ValidationError"):
            known.pop(name, None)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _add_problems(path, method, operation)
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"key": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _add_problems(path: str, method: str, operation: dict[str, Any]) -> None:
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    statuses = {"401", "403", "429", "503"}
    if "{" in path:
        statuses |= {"404", "409", "422"}
    if method == "post":
        statuses |= {"408", "409", "413", "415", "422"}
    for status in sorted(statuses):
        operation["responses"][status] = {"description": "Problem", "content": content}


def _add_plain_pages(app: FastAPI) -> None:
    page, docs = (_PAGE / "index.html").read_bytes(), (_PAGE / "docs.html").read_bytes()

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> Response:
        return Response(docs, media_type="text/html")

    @app.get("/metrics", include_in_schema=False)
    async def counters(request: Request, service: ServiceDep) -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    @app.get("/static/colours.css", include_in_schema=False)
    async def colours() -> Response:
        return Response(page_colours(), media_type="text/css")

    app.mount("/static", StaticFiles(directory=_PAGE), name="static")


def main() -> None:
    """Print the OpenAPI document."""
    import json
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        document = openapi(create_app(PredictorStore(folder)))
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
