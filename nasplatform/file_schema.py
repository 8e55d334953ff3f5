"""The JSON schema of whole files: the models of ``config`` with the plug-ins that are installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from nasplatform.catalogue import Entry, of_kind
from nasplatform.config import CompressionConfig, SearchConfig
from nasplatform.options import Option, Schema, options_in, schema_of

KINDS_OF_KEYS = {
    "space": "spaces",
    "evaluator": "evaluators",
    "predictor": "predictors",
    "search.sampler": "samplers",
    "executor": "executors",
    "task": "datasets",
    "stages": "stages",
    "network": "networks",
    "runtime": "runtimes",
}
"""Key of a file -> kind of the plug-ins that it names."""
_FILES: dict[str, type[BaseModel]] = {
    "a search, for `nasplatform run`": SearchConfig,
    "a network, for `nasplatform compress`": CompressionConfig,
}
_OF_RUNS = "provenance"  # stands in the copies that run folders keep


def file_options() -> dict[str, list[Option]]:
    """Return kind of file -> its keys; those of a plug-in are told by its kind."""
    plugged = ("sampler.", "space.", "task.", "network.", "executor.")
    return {
        title: [
            option
            for option in options_in(schema_of(model))
            if not option.key.startswith((_OF_RUNS, *plugged))
            and not option.key.startswith(tuple(f"{key}." for key in KINDS_OF_KEYS))
        ]
        for title, model in _FILES.items()
    }


def file_schema() -> Schema:
    """Return one schema for both kinds of file, as editors read it."""
    defs: dict[str, Schema] = {}
    files = []
    for model in _FILES.values():
        made = schema_of(model)
        defs |= made.pop("$defs", {})
        made["properties"].pop(_OF_RUNS)
        files.append(made)
    for kind in {*KINDS_OF_KEYS.values()} - {"runtimes"}:
        for entry in of_kind(kind).values():
            defs |= _section(kind, entry)
    for file in files:
        _plug(file["properties"], "")
    _plug(defs["SearchOptions"]["properties"], "search.")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "nasplatform",
        "anyOf": files,
        "$defs": defs,
    }


def _plug(properties: dict[str, Schema], head: str) -> None:
    """Put the plug-ins into the keys that name them."""
    for key, given in properties.items():
        kind = KINDS_OF_KEYS.get(f"{head}{key}")
        if kind is None:
            continue
        names = list(of_kind(kind))
        choice: Schema = {"anyOf": [{"$ref": f"#/$defs/{kind}.{name}"} for name in names]}
        if kind == "runtimes":
            choice = {"enum": [*names, None]}
        elif kind == "networks":
            choice["anyOf"].append({"type": "object", "required": ["function"]})
        elif given.get("type") == "array":
            choice = {"type": "array", "items": choice}
        told = {"description": given["description"]} if "description" in given else {}
        properties[key] = {**choice, **told}


def _section(kind: str, entry: Entry) -> dict[str, Schema]:
    """Return the definitions of one plug-in: its section of the file, and what that refers to."""
    schema: dict[str, Any] = dict(entry.schema or {})
    inner: Mapping[str, Schema] = schema.pop("$defs", {})
    label = "dataset" if kind == "datasets" else "name"
    named = {
        "type": "object",
        "description": entry.summary,
        "properties": {label: {"const": entry.name}, **schema.get("properties", {})},
        "required": [label, *schema.get("required", [])],
        "additionalProperties": False,
    }
    return {**inner, f"{kind}.{entry.name}": named}
