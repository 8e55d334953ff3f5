"""Problem details (RFC 9457): the one shape of everything that goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails, to_json
from starlette.exceptions import HTTPException

from nasplatform.complaints import expected, known_keys, meant, shortened
from nasplatform.errors import NotReadyError, PredictorError, did_you_mean
from nasplatform.service.facts import BrokenVersionError

MEDIA_TYPE = "application/problem+json"
_LONGEST = 600  # characters of a detail
_MANY = 1000  # findings, of which pydantic tells the first only by making words of all
_PREFIX = "urn:nasplatform:problem:"
_TITLES = {
    "bad-request": "The request cannot be understood",
    "bad-body": "The body is not what is expected here",
    "body-too-large": "The body is too large",
    "body-too-slow": "The body did not arrive in time",
    "conflict": "This cannot be done with this predictor",
    "forbidden": "The key does not allow this",
    "host-not-allowed": "The service is not known by this name",
    "internal": "The service failed",
    "method-not-allowed": "The method is not allowed here",
    "no-key": "A key is needed",
    "not-found": "There is nothing here",
    "not-ready": "This is not ready yet",
    "overloaded": "Too many requests wait",
    "rate-limit": "The key's rate limit is reached",
    "stopping": "The service is being stopped",
    "storage": "The disk of the service failed",
    "timeout": "The answer would have come too late",
    "too-many-items": "The request names too many architectures",
    "unknown-predictor": "There is no such predictor",
    "unsupported-media-type": "The content type is not understood here",
}


class ProblemDetails(BaseModel):
    """The body of every answer that is no success."""

    type: str = Field(description="what kind of problem, a URN")
    title: str = Field(description="the kind in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what was given, where, and what would be right")
    instance: str | None = Field(None, description="id of the request")
    error: str | None = Field(
        None, description="same as detail, as the Open Inference Protocol asks"
    )


class Problem(Exception):  # noqa: N818 - it is one
    """Something to tell the client."""

    def __init__(
        self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, f"{detail:.{_LONGEST}}"
        self.headers = dict(headers or {})

    def body(self, instance: str | None, inference: bool = False) -> bytes:
        """Return the JSON document; ``inference`` for the Open Inference Protocol."""
        known: dict[str, Any] = {
            "type": _PREFIX + self.kind,
            "title": _TITLES[self.kind],
            "status": self.status,
            "detail": self.detail,
        }
        if instance is not None:
            known["instance"] = f"urn:request:{instance}"
        if inference:
            known["error"] = self.detail
        return to_json(known)


def overloaded(seconds: int, detail: str) -> Problem:
    """Return the problem of a full queue."""
    return Problem(503, "overloaded", detail, {"Retry-After": str(seconds)})


def explain(error: ErrorDetails, model: type[BaseModel] | None = None) -> str:
    """Turn a finding of pydantic about a model into words that name the place."""
    place = ".".join(f"{part!s:.60}" for part in error["loc"][:8] if part != "body")
    given = error.get("input")
    plain = error["type"] != "missing" and isinstance(given, (str, int, float, bool))
    words = expected(error) + (f", got {shortened(given)}" if plain else "") + meant(error)
    if error["type"] == "extra_forbidden" and model is not None:
        *path, key = error["loc"]
        words = f"this key is not known{did_you_mean(str(key), known_keys(model, tuple(path)))}"
    return f"{place}: {words}" if place else words


def bad_body(
    error: ValidationError | RequestValidationError, model: type[BaseModel] | None = None
) -> Problem:
    """Return the problem of a body or parameter that does not fit its model."""
    if isinstance(error, ValidationError) and error.error_count() > _MANY:
        words = f"{error.error_count():,} places of the body do not fit"
        keys = f": its keys are {', '.join(model.model_fields)}" if model is not None else ""
        return Problem(422, "bad-body", words + keys)
    findings = error.errors()
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return Problem(422, "bad-body", explain(findings[0], model) + more)


def respond(request: Request, problem: Problem) -> Response:
    """Make the answer."""
    instance = request.scope.get("state", {}).get("request_id")
    return Response(
        problem.body(instance, request.url.path.startswith("/v2")),
        problem.status,
        problem.headers,
        MEDIA_TYPE,
    )


def problem_of(error: Exception) -> Problem | None:
    """Return what to tell of an error of an endpoint; None for one that is the service's own."""
    match error:
        case Problem():
            return error
        case RequestValidationError() | ValidationError():
            return bad_body(error)
        case NotReadyError():
            return Problem(503, "not-ready", str(error), {"Retry-After": "5"})
        case BrokenVersionError():
            return Problem(409, "conflict", str(error))
        case PredictorError():
            return Problem(404, "unknown-predictor", str(error))
    return None


def install(app: FastAPI) -> None:
    """Let everything that an endpoint raises leave as a problem."""

    async def on_error(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        assert problem is not None  # of the classes below
        return respond(request, problem)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path, kind = request.url.path, {404: "not-found", 405: "method-not-allowed"}
        words = {
            404: f"nothing is served at {path!r:.80}",
            405: f"not {request.method} {path!r:.80}",
        }
        return respond(
            request,
            Problem(
                error.status_code,
                kind.get(error.status_code, "bad-request"),
                words.get(error.status_code, str(error.detail)),
                error.headers,
            ),
        )

    known = (Problem, RequestValidationError, ValidationError, PredictorError, NotReadyError)
    for kind in (*known, BrokenVersionError):
        app.add_exception_handler(kind, on_error)
    app.add_exception_handler(HTTPException, on_http)
