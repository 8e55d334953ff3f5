"""``nasplatform run``: one search file from beginning to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from nasplatform.cli.display import Display, emit, say, show, show_front, show_stages

if TYPE_CHECKING:
    from nasplatform.service.publish import Target

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. seed=1."),
]
OutOption = Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME by default.")]
ResumeFlag = Annotated[bool, typer.Option(help="Go on with a run that was broken off.")]
WarmOption = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Take over what an earlier run of the same task measured."),
]
ForceFlag = Annotated[bool, typer.Option(help="Remove the run that stands in the folder.")]


def run(
    file: Annotated[Path, typer.Argument(help="Search file, e.g. searches/quickstart.yaml.")],
    settings: SetOption = None,
    out: OutOption = None,
    resume: ResumeFlag = False,
    force: ForceFlag = False,
    warm_start: WarmOption = None,
    publish: Annotated[
        str | None,
        typer.Option(
            metavar="DIR[:NAME]", help="Put the run's predictor into the store of a service."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search, walk the stages, write the report."""
    settings = [*(settings or []), *_warm(warm_start)]
    overrides = _told(file, settings, resume, force)
    target = None if publish is None else _target(file, overrides, publish)
    import optuna

    from nasplatform.runs.driver import run as run_search

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    display = Display()
    try:
        with display:
            done = run_search(file, out, overrides, resume=resume, force=force, watch=display)
    except KeyboardInterrupt:
        _interrupted("run", file, settings, out, publish, begun=resume or display.begun)
    summary = done.summary()
    if target is not None:
        from nasplatform.service.publish import publish_run

        summary["published"] = publish_run(done.folder.path, target).label
        say(f"published {summary['published']} in {target.store}")
    if as_json:
        emit(summary)
        return
    best = summary["best"]
    show(f"best of {summary['evaluations']} evaluations: {best['architecture']}")
    show(f"  score {summary['score']:.4f}, {best['params']:,} parameters, {best['flops']:,} FLOPs")
    show_front(done)
    show_stages(done.stages)
    show(f"report: {summary['report']}")


def compress(
    file: Annotated[Path, typer.Argument(help="File with a network, e.g. searches/compress.yaml.")],
    settings: SetOption = None,
    out: OutOption = None,
    resume: ResumeFlag = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Take a network that no search found through the stages, and write the report."""
    overrides = _told(file, settings, resume, force)
    from nasplatform.runs.driver import compress as compress_network

    display = Display()
    try:
        with display:
            done = compress_network(file, out, overrides, resume=resume, force=force, watch=display)
    except KeyboardInterrupt:
        _interrupted("compress", file, settings, out, begun=resume or display.begun)
    summary = done.summary()
    if as_json:
        emit(summary)
        return
    show_stages(done.stages)
    show(f"report: {summary['report']}")


def worker(
    file: Annotated[Path, typer.Argument(help="Search file that all workers share.")],
    storage: Annotated[str, typer.Option(help="URL, postgresql+psycopg://... or journal:///FILE.")],
    settings: SetOption = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until the search was started.")
    ] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Join a search that runs with the same storage elsewhere, until its budget is spent."""
    overrides = _told(file, settings)
    import optuna

    from nasplatform.runs.driver import run_worker

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with Display() as display:
            made = run_worker(file, storage, overrides, wait=wait, watch=display)
    except KeyboardInterrupt:
        say("interrupted; what was measured is in the storage, the same command joins again")
        raise typer.Exit(130) from None
    if as_json:
        emit({"evaluations": made})
    else:
        show(f"evaluations made here: {made}")


def _warm(run: Path | None) -> list[str]:
    """Return the setting that ``--warm-start`` stands for."""
    return [] if run is None else [f"search.warm_start={json.dumps(str(run))}"]


def _told(
    file: Path, settings: list[str] | None, resume: bool = False, force: bool = False
) -> dict[str, Any]:
    """Return the overrides, and say that the file is read."""
    from nasplatform.yaml_source import parse_overrides

    overrides = parse_overrides(settings or [])
    if resume and force:
        raise typer.BadParameter("--resume and --force exclude each other")
    say(f"reading {file}")
    return overrides


def _target(file: Path, overrides: dict[str, Any], text: str) -> Target:
    """Read --publish; raise ConfigError before anything is paid for."""
    from nasplatform.config import load_config
    from nasplatform.errors import ConfigError
    from nasplatform.service.publish import Target

    config, _ = load_config(file, overrides)
    if config.predictor is None:
        raise ConfigError(f"--publish {text}: {file} names no predictor that could be published")
    return Target.parse(text, config.name)


def _interrupted(
    command: str,
    file: Path,
    settings: list[str] | None,
    out: Path | None,
    publish: str | None = None,
    *,
    begun: bool,
) -> NoReturn:
    """Say how to go on, and leave."""
    import shlex

    from nasplatform.passwords import without_password

    words = ["nasplatform", command, str(file)]
    for text in settings or []:
        words += ["--set", without_password(text)]
    if out is not None:
        words += ["--out", str(out)]
    if publish is not None:
        words += ["--publish", publish]
    if begun:
        words.append("--resume")
    say(f"interrupted; nothing is lost, go on with: {shlex.join(words)}")
    raise typer.Exit(130) from None
