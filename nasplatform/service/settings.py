"""What can be set about a service; every limit has its place here."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Limits, speed and secrets of one service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_keys: Path | None = Field(None, description="file of hashed keys; None asks for no key")
    runs: Path | None = Field(None, description="folder of runs that the page shows")
    max_body: int = Field(4 << 20, ge=1024, description="bytes of a request body")
    max_values: int = Field(400_000, ge=1, description="values of a JSON body; an object is 4")
    max_items: int = Field(50_000, ge=1, description="architectures of one request")
    max_batch: int = Field(1024, ge=1, description="architectures scored at once")
    max_wait: float = Field(
        0.01, ge=0, description="seconds that a batch waits at most for those who came before"
    )
    max_queue: int = Field(100_000, ge=1, description="architectures that may wait")
    max_requests: int = Field(512, ge=1, description="requests that may be in progress")
    connections: int = Field(512, ge=1, description="connections from one address")
    timeout: float = Field(20.0, gt=0, description="seconds that a request may wait for answers")
    read_timeout: float = Field(
        10.0, gt=0, description="seconds in which headers, and a body, must arrive"
    )
    rate: float = Field(100.0, gt=0, description="requests a second of a key without its own rate")
    cache: int = Field(1 << 18, ge=0, description="predictions remembered per version, 0 for none")
    torch_threads: int = Field(1, ge=1, description="threads of one inference")
    reload: float = Field(2.0, gt=0, description="seconds between two looks at the store")
    loaded: int = Field(8, ge=1, description="versions beside the latest ones kept in memory")
    reference: int = Field(500_000, ge=1, description="architectures of a space that are ranked")
    keep_rankings: bool = Field(True, description="keep finished rankings for the next start")
