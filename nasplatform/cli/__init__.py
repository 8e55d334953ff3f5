"""The command line: ``nasplatform COMMAND``.

Exit codes: 0 done, 1 something failed, 2 bad input, 130 interrupted. With ``--json`` a command
prints one JSON document to stdout and nothing else there; words for people go to stderr.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from nasplatform import faults
from nasplatform.cli import (
    data,
    networks,
    options,
    predict,
    predictors,
    results,
    run,
    serve,
    spaces,
    storage,
)
from nasplatform.cli import plugins as plugins_command
from nasplatform.cli.typed import plain_number, plain_path
from nasplatform.complaints import expected, shortened
from nasplatform.errors import InputError, NasplatformError
from nasplatform.passwords import without_password

_TYPED = (
    (re.compile(r"\b(resume|force)=True\b"), r"--\1"),
    (re.compile(r"\bskip_bad=True\b"), "--skip-bad"),
    (re.compile(r"\banother out\b"), "another --out"),
    (re.compile(r"\boverride (?=\S+)"), "--set "),
)
_NOTHING = re.compile(r"--[\w-]+=")
app = typer.Typer(
    name="nasplatform",
    help="Neural architecture search from few trained networks.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("compress")(run.compress)
app.command("worker")(run.worker)
app.command("status")(storage.status)
app.command("requeue")(storage.requeue)
app.command("predict-images")(networks.predict_images)
app.command("export")(networks.export)
app.command("measure")(networks.measure)
app.command("predict")(predict.predict)
app.command("serve")(serve.serve)
app.add_typer(predictors.app, name="predictors")
app.add_typer(spaces.app, name="spaces")
app.add_typer(results.app, name="results")
app.add_typer(data.app, name="data")
app.command("options")(options.options)
app.add_typer(storage.app, name="db")
app.command("plugins")(plugins_command.plugins)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context, version: bool = typer.Option(False, "--version")) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"nasplatform {installed('nasplatform')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _require_texts(given)
        with _terminated_as_interrupted(), warnings.catch_warnings():
            warnings.showwarning = _say_warning
            code = _commands()(args=given, prog_name="nasplatform", standalone_mode=False)
    except InputError as error:
        return _complain(error, 2)
    except NasplatformError as error:
        return _complain(error, 1)
    except typer.TyperException as error:
        return _complain(_of_typer(error), error.exit_code)
    except typer.Abort:
        return 130
    except Exception as error:  # of the machine, or of a library below us; a bug of ours is raised
        words = faults.in_words(error)
        if words is None:
            raise
        return _complain(words, 2 if isinstance(error, OSError) else 1)
    return code if isinstance(code, int) else 0


_CHECKS = {int: plain_number, float: partial(plain_number, kind=float), Path: plain_path}


def _commands() -> Any:
    """Return the commands as typer makes them, but for the help of flags, numbers and paths."""
    made: Any = typer.main.get_command(app)
    left = [made]
    for command in left:
        for param in command.get_params(typer.Context(command)):
            if getattr(param, "is_flag", False):
                param.metavar = ""
            if check := _CHECKS.get(param.type_descriptor.annotation):
                param.process_value = partial(_checked, param, check, param.process_value)
        left += getattr(command, "commands", {}).values()
    return made


def _checked(param: Any, check: Any, read: Any, context: typer.Context, value: Any) -> Any:
    """Read the value of an option whose text is looked at first."""
    try:
        return read(context, check(value) if isinstance(value, str) else value)
    except ValueError as error:
        raise typer.BadParameter(str(error), ctx=context, param=param) from None


def _require_texts(given: Sequence[str]) -> None:
    """Raise InputError for an empty text, which would else be the folder that one stands in."""
    for before, text in pairwise(["", *given]):
        if not text or _NOTHING.fullmatch(text):
            after = f" after {before}" if before and not text else ""
            raise InputError(
                f"{text or 'an empty text'}{after}: expected a value; a variable of the shell may "
                f"be unset"
            )


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_warning(message: object, *_: object, **__: object) -> None:
    sys.stderr.write(f"warning: {_as_typed(message)}\n")


def _complain(error: object, code: int) -> int:
    if words := _as_typed(error):
        sys.stderr.write(f"error: {words}\n")
    return code


def _of_typer(error: typer.TyperException) -> str:
    """Return what is wrong with the words that were typed; nothing where help was shown instead."""
    found, words = error.__cause__, error.format_message()
    if not isinstance(found, ValidationError):
        return words
    finding = found.errors()[0]
    if finding["type"] == "value_error":  # a choice: typer's words name them all
        return words.replace("Value error, ", "")
    head, _, _ = words.partition(": ")
    return f"{head}: {expected(finding)}, got {shortened(finding['input'])}"


def _as_typed(message: object) -> str:
    """Return what the library says on one line, with its arguments as the command line has them."""
    words = without_password(" ".join(str(message).split()))
    for pattern, flag in _TYPED:
        words = pattern.sub(flag, words)
    return words
