"""What the command line says: results on stdout, progress and complaints on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from nasplatform.passwords import without_password

if TYPE_CHECKING:
    import pandas as pd

    from nasplatform.runs.events import Event
    from nasplatform.runs.run import Run

_WIDE = 160  # columns where the output is no terminal and would be cut at 80


def emit(value: Any) -> None:
    """Print one JSON document to stdout; NaN and infinity become null."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:
    """Turn numpy and pandas scalars, paths and dates into JSON values."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def show_table(rows: Sequence[Mapping[Any, Any]], columns: Iterable[str], title: str = "") -> None:
    """Print rows as a table to stdout."""
    table = Table(title=title or None, title_justify="left", title_style="bold")
    names = list(columns)
    for name in names:
        number = bool(rows) and isinstance(plain(rows[0].get(name)), (int, float))
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    _stdout().print(table)


def show_stages(stages: pd.DataFrame) -> None:
    """Print what each stage of a run came to; nothing where there was none."""
    from nasplatform.runs.walk import runtime_words, stage_walk, without_bits

    if len(stages):
        walk = stage_walk(stages)
        columns = [str(name) for name in without_bits(walk).loc[:, :"runtime"]]
        show_table(walk.to_dict("records"), columns, title="stages")
        for words in runtime_words(walk):
            show(words)


def show_front(run: Run) -> None:
    """Print the Pareto front of a search for several objectives; nothing for a single one."""
    from nasplatform.runs.frames import front

    found = front(run.evaluations)
    if len(found):
        searched = [str(name) for name in found if str(name).startswith(("attribute_", "metric_"))]
        columns = ["number", "architecture", "score", "params", "flops", *searched]
        words = f"Pareto front of {len(found)}"
        show_table(records(found), columns, title=words)


def records(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the rows of a frame, None for what is not known."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def show(text: str) -> None:
    """Print words to stdout."""
    _stdout().print(text, markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Tell people on stderr what is going on."""
    sys.stderr.write(f"{without_password(text)}\n")


def _stdout() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def _cell(value: Any) -> str:
    value = plain(value)
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


class Display:
    """Watches a run: a progress bar at a terminal, a plain line now and then elsewhere.

    A context manager; call it with each event.

    begun: whether a phase beyond the checks was seen, so that there is something to go on with.
    """

    def __init__(self) -> None:
        """Write to stderr."""
        self.begun = False
        console = Console(stderr=True)
        self._bar = _bar(console) if console.is_terminal else None
        self._tasks: dict[str, Any] = {}
        self._told: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self.begun |= event.phase != "setup"
        if self._bar is not None:
            self._draw(self._bar, event)
        else:
            self._tell(event)

    def _draw(self, bar: Progress, event: Event) -> None:
        if event.phase not in self._tasks:
            self._tasks[event.phase] = bar.add_task(event.phase, total=None, words="")
        bar.update(
            self._tasks[event.phase],
            completed=event.done,
            total=event.total or None,
            words=event.words,
        )

    def _tell(self, event: Event) -> None:
        """Write a line at the beginning of a phase and at each further tenth of it."""
        tenth = 10 * event.done // event.total if event.total else 0
        last_tenth, last_words = self._told.get(event.phase, (-1, ""))
        if tenth == last_tenth and (event.total or event.words == last_words):
            return
        self._told[event.phase] = tenth, event.words
        count = f" {event.done}/{event.total}" if event.total > 1 else ""
        say(f"{event.phase}{count}: {event.words}")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description:<9}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        console=console,
    )


@contextmanager
def watched(phase: str, words: str, interrupted: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of some work; when interrupted, say what is left and exit with 130."""
    from nasplatform.runs.events import Event

    try:
        with Display() as display:
            yield lambda done, total: display(Event(phase, done, total, words))
    except KeyboardInterrupt:
        say(f"interrupted; {interrupted}, the same command goes on from there")
        raise typer.Exit(130) from None


def done(name: str, kind: str, path: Path, as_json: bool) -> None:
    """Say where something stands that was made."""
    if as_json:
        emit({"name": name, "kind": kind, "path": path})
    else:
        show(f"{kind}: {path}")
