"""What the page of a run says of its networks: trainings, stages, and the classes they tell."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nasplatform import plugins
from nasplatform.errors import InputError
from nasplatform.models.network import Network
from nasplatform.runs.confusion import Confusion, standard_error
from nasplatform.runs.epochs import epochs
from nasplatform.runs.folder import RunFolder
from nasplatform.training.evaluation import predict
from nasplatform.training.task import Task
from nasplatform.training.task import accuracy as accuracy_of
from nasplatform.visualization import svg

_MATRIX = 12  # classes up to which the whole matrix is shown
_MISTAKES = 8
_CLASSES = 40
_TRAININGS = 30  # of a search that are drawn


@dataclass(frozen=True)
class TextTable:
    """A table as text, ready to print."""

    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Deed:
    """What a stage did, in words: its name, what it is for, what came out."""

    name: str
    purpose: str
    outcome: str


@dataclass(frozen=True)
class Classes:
    """How the last network tells the classes apart.

    matrix: rows of (share of the row, count), None where there are too many classes.
    """

    table: TextTable
    names: tuple[str, ...]
    matrix: list[list[tuple[float, int]]] | None
    mistakes: list[tuple[str, str, int]]
    words: str


def network_sections(
    folder: RunFolder, task: Task | None, stages: pd.DataFrame, device: str
) -> dict[str, Any]:
    """Return the sections of a run that has walked its stages; empty ones where it has none."""
    known = epochs(folder)
    return {
        "trainings": _search_chart(known),
        "learning": _stage_charts(known),
        "deeds": _deeds(stages),
        "classes": None if task is None else _classes(folder, task, stages, device),
    }


def with_error(accuracy: float, task: Task | None) -> str:
    """Return what a network reached on the test split; an accuracy with its standard error."""
    if task is None or task.metric is not accuracy_of:
        return f"{accuracy:.4f}"
    return f"{accuracy:.4f} ± {standard_error(min(max(accuracy, 0), 1), len(task.test)):.4f}"


def _search_chart(known: pd.DataFrame) -> str | None:
    """Draw validation accuracy against epochs of the trainings of a search, the best in front."""
    rows = known[known["number"].notna()]
    if rows.empty:
        return None
    last = rows.groupby("number")["valid_accuracy"].last().sort_values()
    shown = last.index[-_TRAININGS:]
    lines = [_line(rows[rows["number"] == number], f"trial {number}") for number in shown]
    return svg.learning_chart(lines, "validation accuracy", emphasis=len(lines) - 1)


def _stage_charts(known: pd.DataFrame) -> list[tuple[str, str, list[str]]]:
    """Draw accuracy and loss of the stages against epochs: title, chart, names in order."""
    rows = known[known["stage"].notna()]
    parts = [(str(stage), part) for (_, stage), part in rows.groupby(["index", "stage"])]
    titles = {"valid_accuracy": "Validation accuracy", "train_loss": "Training loss"}
    if not parts:
        return []
    return [
        (
            title,
            svg.learning_chart([_line(part, name, column) for name, part in parts], title.lower()),
            [name for name, _ in parts],
        )
        for column, title in titles.items()
    ]


def _line(rows: pd.DataFrame, name: str, column: str = "valid_accuracy") -> svg.Line:
    return svg.Line(name, rows["epoch"].to_numpy(float), rows[column].to_numpy(float))


def _deeds(stages: pd.DataFrame) -> list[Deed]:
    found = []
    for row in stages.to_dict("records"):
        changes = [
            f"accuracy {row['before_accuracy']:.4f} to {row['after_accuracy']:.4f}",
            *(
                f"{words} {_change(row[f'before_{name}'], row[f'after_{name}'])}"
                for name, words in (
                    ("params", "parameters"),
                    ("macs", "multiply-adds"),
                    ("bytes_on_disk", "bytes on disk"),
                    ("latency_ms", "latency of one image"),
                )
            ),
        ]
        trained = row.get("metric_epochs")
        if trained is not None and not pd.isna(trained):
            changes.append(f"{trained:.0f} epochs")
        changes.append(f"{row['seconds']:,.1f} s")
        found.append(Deed(row["stage"], _purpose(row["stage"]), "; ".join(changes)))
    return found


def _purpose(stage: str) -> str:
    """Return the first sentence of a stage's documentation; nothing where it is gone."""
    try:
        kind = plugins.get("stages", stage)
    except InputError:
        return ""
    return (inspect.getdoc(kind) or "").split("\n")[0]


def _change(before: float, after: float) -> str:
    if before == after:
        return "unchanged"
    return f"{after / before - 1:+.0%}" if before else f"0 to {after:,.0f}"


def _classes(folder: RunFolder, task: Task, stages: pd.DataFrame, device: str) -> Classes | None:
    """Ask the last network for all images of the test split."""
    if stages.empty or not len(task.test):
        return None
    last = stages.iloc[-1]
    network = Network.load(folder.models / f"{last['index']}-{last['stage']}" / "network")
    said = predict(network.module, task.test.inputs, device).argmax(dim=1).numpy()
    names = task.class_names or tuple(map(str, range(task.classes)))
    return class_sections(Confusion.of(task.test.labels.numpy(), said, names))


def class_sections(confusion: Confusion) -> Classes:
    """Return what is shown of a confusion: all classes or the worst of many, and the mistakes."""
    accuracy, images = confusion.accuracy, confusion.images
    order: Sequence[int] = range(len(images))
    words = "Classes in the order of their labels."
    if len(images) > _CLASSES:
        order = sorted(order, key=lambda k: (not images[k], accuracy[k]))[:_CLASSES]
        words = f"The {_CLASSES} worst of {len(images)} classes."
    rows = [
        [
            confusion.names[k],
            f"{images[k]:,}",
            f"{accuracy[k]:.3f} ± {standard_error(accuracy[k], images[k]):.3f}"
            if images[k]
            else "no image",
        ]
        for k in order
    ]
    matrix = None
    if len(images) <= _MATRIX:
        shares = confusion.counts / confusion.counts.sum(axis=1, keepdims=True).clip(1)
        matrix = [
            [(float(share), int(count)) for share, count in zip(*both, strict=True)]
            for both in zip(shares, confusion.counts, strict=True)
        ]
    table = TextTable(["class", "test images", "accuracy"], rows)
    return Classes(table, confusion.names, matrix, confusion.mistakes(_MISTAKES), words)
