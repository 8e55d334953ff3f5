"""What a finished network is for: pictures, files for other runtimes, and what it costs there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplatform.cli.display import emit, say, show, show_table
from nasplatform.cli.run import JsonFlag

if TYPE_CHECKING:
    from nasplatform.models.network import Network
    from nasplatform.runtimes.measure import Measurements
    from nasplatform.training.task import Task

NetworkArgument = Annotated[
    Path, typer.Argument(metavar="NETWORK", help="Folder of a network, or of a run.")
]
ClassifierArgument = Annotated[
    Path,
    typer.Argument(
        metavar="NETWORK",
        help="Folder of a network or a run, or an exported .onnx or .nasbin file.",
    ),
]
DeployedArgument = Annotated[
    Path,
    typer.Argument(metavar="NETWORK", help="Folder of a network or a run, or a .nasbin file."),
]

ModuleOption = Annotated[
    str | None,
    typer.Option(
        "--module",
        metavar="NAME",
        help="Module of your own that makes the network; it is imported, so trust it.",
    ),
]


def predict_images(
    network: ClassifierArgument,
    files: Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.")],
    module: ModuleOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a trained network sees in pictures.

    Files that are no pictures are told, the others are answered, and the exit code is 2.
    """
    from nasplatform.errors import DataError

    if network.exists() and not any(file.exists() for file in files):
        more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        raise DataError(f"{files[0]} is not there{more}")  # before torch is imported, for seconds
    from nasplatform.models.pictures import classify, classify_by
    from nasplatform.runtimes.deployed import is_for_images, open_for_images
    from nasplatform.training.image_folder import images_in

    pictures = [each for file in files for each in (images_in(file) if file.is_dir() else [file])]
    if not pictures:
        raise DataError(f"{files[0]} holds no image files")
    _tell_others(file for file in files if file.is_dir())
    if is_for_images(network):
        opened = open_for_images(network)
        found = classify_by(opened.session.run, opened.input, pictures)
    else:
        found = classify(_load(network, module), pictures)
    rows = found.to_dict("records")
    if as_json:
        emit(rows)
    else:
        show_table(rows, ["file", "class", "probability"])
    bad = found["error"].dropna()
    if len(bad):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(f"{bad.iloc[0]}{more}")


def _tell_others(folders: Iterable[Path]) -> None:
    """Say what in folders is not looked at."""
    from nasplatform.training.image_folder import IMAGE_SUFFIXES, others_in

    for folder in folders:
        if others := others_in(folder):
            say(
                f"{folder}: {len(others):,} of its files are left out, {others[0].name!r} first: "
                f"pictures end in {', '.join(sorted(IMAGE_SUFFIXES))}"
            )


def export(
    network: NetworkArgument,
    out: Annotated[
        Path, typer.Argument(help="File to write; its ending says what: .onnx, or .nasbin (bits).")
    ],
    module: ModuleOption = None,
    force: Annotated[bool, typer.Option(help="Replace the file that stands there.")] = False,
) -> None:
    """Write a network as one file, with its input size, normalisation and class names inside."""
    from nasplatform.errors import RunError
    from nasplatform.runtimes.deployed import check_ending, deploy

    if out.is_dir():
        raise RunError(f"{out} is a folder; give the name of a file, e.g. {out / 'network.onnx'}")
    if out.exists() and not force:
        raise RunError(f"{out} exists already; replace it by --force, or give another name")
    if not out.absolute().parent.is_dir():
        raise RunError(f"{out.parent} is no folder; make it, or give another name")
    check_ending(out)
    loaded = _load(network, module)
    say(f"exporting {network} and comparing it with torch")
    difference = deploy(loaded, out)
    show(f"{out}: {out.stat().st_size:,} bytes, logits differ from torch's by {difference:.1e}")


def measure(
    network: DeployedArgument,
    dataset: Annotated[
        str | None,
        typer.Option(help="Data whose test split says how good it is; of a run its own."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the data, e.g. seed=1."),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="What computes, e.g. torch; the best that is there.")
    ] = None,
    module: ModuleOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure what a network costs and is worth on this machine, in the runtime that is timed.

    Options of the data are given as --set KEY=VALUE. Without data there is no accuracy.
    """
    from dataclasses import asdict

    from nasplatform.errors import ConfigError
    from nasplatform.runtimes.deployed import is_deployed, measure_deployed

    if settings and dataset is None:
        raise ConfigError("--set names options of the data: give --dataset too")
    if network.suffix.lower() == ".onnx" and not network.is_dir():
        raise ConfigError(
            f"{network}: an ONNX file does not say what it costs, expected the folder of the "
            f"network or run that it was exported from, or a .nasbin file"
        )
    if is_deployed(network):
        if runtime is not None:
            raise ConfigError(f"--runtime {runtime}: {network} runs in the runtime that it is of")
        found = measure_deployed(network, _data(dataset, settings))
    else:
        data = _data(dataset, settings)
        found = _measured(network, _load(network, module), data, runtime)
    facts: dict[str, Any] = {"network": network, **asdict(found)}
    if as_json:
        emit(facts)
        return
    rows = [{"of": name, "value": value} for name, value in facts.items()]
    show_table([row for row in rows if row["value"] not in ("", None)], ["of", "value"])


def _measured(path: Path, network: Network, task: Task | None, runtime: str | None) -> Measurements:
    from nasplatform.runs.run import Run
    from nasplatform.runtimes.deployed import check_task
    from nasplatform.runtimes.measure import measure as measured

    alone = _is_network(path)
    if task is None and not alone:
        task = Run(path).task()
    if task is not None:
        known = network.structure.input
        check_task(task.input_shape if known is None else tuple(known["shape"]), known, task)
    return measured(network, task, path if alone else None, runtime)


def _data(dataset: str | None, settings: list[str] | None) -> Task | None:
    from nasplatform.training.datasets import load_task
    from nasplatform.yaml_source import parse_overrides

    if dataset is None:
        return None
    return load_task(dataset, parse_overrides(settings or []), f"data set {dataset!r}")


def _load(path: Path, module: str | None) -> Network:
    from nasplatform.errors import RunError
    from nasplatform.models.functions import import_trusted
    from nasplatform.models.network import Network
    from nasplatform.runs.run import Run

    if path.is_file():
        raise RunError(
            f"{path} is a file, expected the folder of a network or of a run; predict-images reads "
            f".onnx and .nasbin files, measure .nasbin files"
        )
    if module is not None:
        import_trusted(module)
    return Network.load(path) if _is_network(path) else Run(path).network()


def _is_network(path: Path) -> bool:
    from nasplatform.models.network import STRUCTURE

    return (path / STRUCTURE).is_file()
