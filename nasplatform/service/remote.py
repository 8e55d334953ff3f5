"""A predictor that somebody else serves: its predictions over HTTP, as they are."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nasplatform.errors import MissingExtraError, PredictorError
from nasplatform.predictors.base import Prediction, Predictor, Progress
from nasplatform.spaces.graph import GraphBatch

if TYPE_CHECKING:
    from nasplatform.service.client import PredictorClient

KEY = "NASPLATFORM_API_KEY"


class RemoteOptions(BaseModel):
    """Options of ``remote``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        pattern=r"^https?://[^\s/@]+(/\S*)?$",
        description="address of a service, http://HOST:PORT; a key never stands in it",
    )
    model: str = Field(min_length=1, description="name of the predictor that it serves")
    version: int | str | None = Field(
        None, description="number or alias; the latest at the time of a fit where not given"
    )
    key: str = Field(KEY, description="environment variable that holds the API key, where needed")
    timeout: float = Field(30.0, gt=0, description="seconds of one request")


class Remote(Predictor):
    """Asks a predictor of a service.

    The served model's predictions are used as they are: ``fit`` learns nothing from the labels,
    it only settles which version is asked from then on, so that everything predicted between two
    fits comes from the same immutable version. Neither labels nor the key leave this machine for
    a file: a saved predictor holds the address, the version and the name of the key's variable.
    """

    name: ClassVar[str] = "remote"
    Options: ClassVar[type[RemoteOptions]] = RemoteOptions
    options: RemoteOptions
    min_labels: ClassVar[int] = 2

    def _fit(
        self,
        graphs: GraphBatch,
        scores: NDArray[np.float64],
        unlabelled: GraphBatch | None,
        progress: Progress,
    ) -> None:
        before: PredictorClient | None = self.__dict__.pop("_client", None)
        if before is not None:
            before.close()
        with self._connect(self.options.version) as client:
            card = client.card()
        known = card["space"]["name"]
        if known != graphs.space:
            raise PredictorError(
                f"{self.options.url}: {self.options.model!r} knows architectures of space "
                f"{known!r}, these are of {graphs.space!r}"
            )
        self._version = int(card["version"])
        progress(1, 1)

    def _predict(self, graphs: GraphBatch) -> Prediction:
        return self._client.predict(self._client.space().from_graphs(graphs))

    @cached_property
    def _client(self) -> PredictorClient:
        client = self._connect(self._version)
        weakref.finalize(self, client.close)  # who predicts need not think of a connection
        return client

    def _connect(self, version: int | str | None) -> PredictorClient:
        try:
            from nasplatform.service.client import PredictorClient
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"predictor 'remote' needs {error.name}: pip install 'nasplatform[service]'"
            ) from None
        return PredictorClient(
            self.options.url,
            self.options.model,
            version=version,
            key=os.environ.get(self.options.key, ""),
            timeout=self.options.timeout,
        )

    def _state(self) -> Mapping[str, NDArray[Any]]:
        return {"version": np.array([self._version])}

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._version = int(state["version"][0])
