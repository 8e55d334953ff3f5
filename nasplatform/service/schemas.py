"""The bodies of requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    WithJsonSchema,
    model_validator,
)

from nasplatform.predictors.base import LARGEST_SCORE

Column = Literal["std", "rank", "params", "flops", "hash"]
ALL_COLUMNS: tuple[Column, ...] = ("std", "rank", "params", "flops", "hash")
_DECISIONS = 1000  # of an architecture, at most; a large space has some hundreds

# Anything is taken here, so that one bad item becomes an error of its own.
Item = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Architecture",
            "description": "a text form of the space, or its JSON form as an object",
            "examples": ["[3M]101/10/1"],
        }
    ),
]


def _no_truth_or_text(value: object) -> object:
    """Refuse what pydantic would read as a number: true as 1, and '0.5' as 0.5."""
    if isinstance(value, bool | str):
        raise ValueError("expected a number")
    return value


_Number = BeforeValidator(_no_truth_or_text)


def _few(value: object) -> object:
    """Refuse more decisions than a space has before each of them is looked at."""
    if isinstance(value, dict) and len(value) > _DECISIONS:
        raise ValueError(
            f"{len(value):,} decisions given, an architecture has {_DECISIONS:,} at most"
        )
    return value


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PredictRequest(_Request):
    """Architectures to be predicted."""

    architectures: list[Item] = Field(fail_fast=True, examples=[["[3M]101/10/1", "[]1"]])
    include: tuple[Column, ...] = Field(
        ALL_COLUMNS,
        max_length=len(ALL_COLUMNS),
        fail_fast=True,
        description="what to tell beside the mean; a hash costs 0.1 ms of CPU",
    )
    layout: Literal["rows", "columns", "binary"] = Field(
        "rows",
        description="an object for each architecture, an array for each quantity, or the same "
        "arrays as little-endian float64 one after the other, NaN for an error",
    )

    @model_validator(mode="after")
    def _hashes_are_text(self) -> Self:
        if self.layout == "binary" and "hash" in self.include:
            raise ValueError("layout binary holds numbers only: leave 'hash' out of 'include'")
        return self


class ItemError(BaseModel):
    """What is wrong with one architecture of a request."""

    index: int
    detail: str | None = Field(
        None, description="absent where its row tells it, and beyond the first 100 errors"
    )


class Row(BaseModel):
    """What is said of one architecture; where it has an ``error`` there is nothing else."""

    index: int
    mean: float | None = Field(None, description="predicted score, higher is better")
    std: float | None = Field(None, description="standard deviation of a new measurement")
    rank: int | None = Field(None, description="1 is the best of the space; null while counted")
    params: int | None = None
    flops: int | None = Field(None, description="two per multiply-add")
    hash: str | None = Field(None, description="canonical hash, shared by isomorphic architectures")
    error: str | None = None


class Columns(BaseModel):
    """The same, an array for each quantity; null where the architecture has an error."""

    mean: list[float | None]
    std: list[float | None] | None = None
    rank: list[int | None] | None = None
    params: list[int | None] | None = None
    flops: list[int | None] | None = None
    hash: list[str | None] | None = None


class PredictResponse(BaseModel):
    """Predictions in the order of the request."""

    predictor: str
    version: int
    count: int
    ranked_of: int | None = Field(None, description="size of the space that ranks refer to")
    results: list[Row] | None = None
    columns: Columns | None = None
    errors: list[ItemError]
    note: str | None = Field(
        None, description="how texts were read that other tools mean otherwise"
    )


class SuggestRequest(_Request):
    """Which architectures are worth measuring next."""

    k: Annotated[int, _Number] = Field(10, ge=1, le=10_000)
    max_params: Annotated[int | None, _Number] = Field(None, ge=0)
    max_flops: Annotated[int | None, _Number] = Field(None, ge=0)
    kappa: Annotated[FiniteFloat, _Number] = Field(
        0.0, ge=-10, le=10, description="best by mean + kappa * std; above 0 explores"
    )
    exclude: list[Item] = Field(default_factory=list, description="architectures not to suggest")


class Suggestion(BaseModel):
    """One unseen architecture."""

    architecture: str
    hash: str
    mean: float
    std: float
    rank: int
    params: int
    flops: int


class SuggestResponse(BaseModel):
    """The best unseen architectures, best first."""

    predictor: str
    version: int
    considered: int = Field(description="architectures looked at")
    complete: bool = Field(description="whether these are the whole space")
    suggestions: list[Suggestion]
    errors: list[ItemError] = Field(description="of ``exclude``")


class MeasuredResult(_Request):
    """A result that was measured."""

    architecture: Item
    score: Annotated[float, _Number] = Field(
        ge=-LARGEST_SCORE, le=LARGEST_SCORE, description="in the unit of the predictor's labels"
    )


class EvaluationsRequest(_Request):
    """Measured results, kept for the next refit."""

    evaluations: list[MeasuredResult] = Field(min_length=1, fail_fast=True)
    refit: StrictBool = Field(False, description="fit a new version in the background")


class Refit(BaseModel):
    """How the last refit of a predictor stands."""

    state: Literal["none", "running", "done", "failed"]
    started: float | None = Field(None, description="seconds since 1970")
    ended: float | None = None
    version: int | None = Field(None, description="the version that was made")
    error: str | None = None


class EvaluationsResponse(BaseModel):
    """What became of the results."""

    accepted: int
    reported: int = Field(description="all results reported so far")
    errors: list[ItemError]
    refit: Refit


class ViewState(BaseModel):
    """How far the ranking of the whole space is."""

    ready: bool = Field(description="whether ranks are told, of a part of the space at first")
    complete: bool = Field(description="whether all of ``total`` are ranked")
    done: int
    total: int


class PredictorCard(BaseModel):
    """One version of a predictor."""

    name: str
    version: int
    versions: list[int]
    aliases: dict[str, int]
    method: str
    options: dict[str, Any]
    seed: int
    space: dict[str, Any]
    code_words: int = Field(description="words of 64 bits of an architecture's code")
    n_labels: int
    refittable: bool = Field(description="whether its labels are known")
    published: str | None
    origin: dict[str, Any]
    libraries: dict[str, str]
    higher_is_better: Literal[True] = True
    view: ViewState
    refit: Refit
    notice: str | None = Field(None, description="why a newer version does not answer")


class PredictorList(BaseModel):
    """All predictors, and those that cannot be read, with the reason."""

    predictors: list[PredictorCard]
    broken: dict[str, str]


class PointSet(BaseModel):
    """Points of the picture, an array for each quantity."""

    flops: list[int]
    params: list[int]
    mean: list[float]


class Picture(BaseModel):
    """The space as the predictor sees it: histogram, sample, Pareto front."""

    predictor: str
    version: int
    complete: bool
    size: int
    counts: list[int]
    edges: list[float]
    points: PointSet
    front: PointSet


class ExplainRequest(_Request):
    """An architecture as text, or the decisions that make one."""

    architecture: Item = None
    params: Annotated[dict[str, str | int | float | bool] | None, BeforeValidator(_few)] = None


class Node(BaseModel):
    """A node of the drawing."""

    name: str
    kind: str


class Explanation(BaseModel):
    """An architecture in all its forms."""

    architecture: str
    hash: str
    params: dict[str, str | int | float | bool]
    nodes: list[Node]
    edges: list[tuple[int, int]] = Field(description="from node, to node")
    drawing: str = Field(description="SVG, in the colours of the page that it stands on")


class Decision(BaseModel):
    """One choice that makes an architecture."""

    name: str
    choices: list[str | int | float | bool]


class Decisions(BaseModel):
    """All choices of a space."""

    space: str
    decisions: list[Decision]


class RunProgress(BaseModel):
    """A run: how far it came, and the best score after each evaluation.

    task: what is measured; scores of two runs compare only where it is the same.
    """

    run: str
    task: str
    metric: str
    state: str
    sampler: str
    budget: int
    evaluations: int
    best: list[float]
    architecture: str | None


class Runs(BaseModel):
    """The runs that the service was told of."""

    runs: list[RunProgress]
    broken: dict[str, str] = Field(
        default_factory=dict, description="runs that cannot be read, with the reason"
    )
