"""What the stages of one run made of its network, step by step."""

from __future__ import annotations

import pandas as pd

_SIZES = (
    *("accuracy", "params", "macs", "binary_macs", "bytes_on_disk"),
    *("bytes_binary", "bytes_scales", "bytes_full_precision", "latency_ms", "latency_64_ms"),
)
_ENGINE = ("runtime", "latency_threads", "latency_repeats", "latency_64_repeats", "runtime_note")


def stage_walk(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for the network that the first stage was given and one after each stage.

    frame: of one run. Columns: network (``start`` or the stage), accuracy (test split), params,
    macs and binary_macs, bytes_on_disk, of which bytes_binary, bytes_scales, bytes_full_precision,
    latency_ms and latency_64_ms (of one image and of 64), seconds (of the stage); runtime,
    latency_threads, latency_repeats, latency_64_repeats: with what and how often was measured;
    runtime_note: why that runtime where another one was wanted.
    """
    columns = ["network", *_SIZES, "seconds", *_ENGINE]
    if frame.empty:
        return pd.DataFrame(columns=columns)
    measured = (*_SIZES, *_ENGINE)
    start = {"network": "start", **{name: frame[f"before_{name}"].iloc[0] for name in measured}}
    after = frame.rename(columns={"stage": "network"} | {f"after_{n}": n for n in measured})
    return pd.concat([pd.DataFrame([start]), after], ignore_index=True)[columns]


def without_bits(walk: pd.DataFrame) -> pd.DataFrame:
    """Leave out what only networks of bits have, where none of a walk is one."""
    of_bits = ("binary_macs", "bytes_binary", "bytes_scales", "bytes_full_precision")
    return walk if walk["bytes_binary"].any() else walk.drop(columns=list(of_bits))


def runtime_words(walk: pd.DataFrame) -> list[str]:
    """Return in words with what, how often and why so the networks of a walk were measured."""
    words: dict[str, list[str]] = {}
    for row in walk.to_dict("records"):
        threads = row["latency_threads"]
        if pd.isna(row["runtime"]) or pd.isna(threads):
            continue  # of a frame of others: nothing is known of it
        text = (
            f"{row['runtime']}, {threads} thread{'s' if threads > 1 else ''}, medians of "
            f"{row['latency_repeats']} batches of 1 image and {row['latency_64_repeats']} of 64"
        )
        note = row["runtime_note"]
        words.setdefault(f"{text}; {note}" if note else text, []).append(row["network"])
    return [f"{', '.join(networks)}: {text}" for text, networks in words.items()]
