"""What a finished network is for: pictures, and files for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasplatform.cli.display import emit, say, show, show_table
from nasplatform.cli.run import ForceFlag, JsonFlag

if TYPE_CHECKING:
    from nasplatform.models.network import Network

NetworkArgument = Annotated[
    Path, typer.Argument(metavar="NETWORK", help="Folder of a network, or of a run.")
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
    network: NetworkArgument,
    files: Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.")],
    module: ModuleOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a trained network sees in pictures.

    Files that are no pictures are told, the others are answered, and the exit code is 2.
    """
    from nasplatform.errors import DataError
    from nasplatform.models.pictures import classify
    from nasplatform.training.image_folder import images_in

    pictures = [each for file in files for each in (images_in(file) if file.is_dir() else [file])]
    if not pictures:
        raise DataError(f"{files[0]} holds no image files")
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


def export(
    network: NetworkArgument,
    out: Annotated[Path, typer.Argument(help="File to write, e.g. network.onnx.")],
    module: ModuleOption = None,
    force: ForceFlag = False,
) -> None:
    """Write a network as ONNX, with its input size, normalisation and class names inside."""
    from nasplatform.errors import RunError
    from nasplatform.runtimes.onnx_export import export_onnx

    if out.is_dir():
        raise RunError(f"{out} is a folder; give the name of a file, e.g. {out / 'network.onnx'}")
    if out.exists() and not force:
        raise RunError(f"{out} exists already; replace it by --force, or give another name")
    if not out.absolute().parent.is_dir():
        raise RunError(f"{out.parent} is no folder; make it, or give another name")
    loaded = _load(network, module)
    say(f"exporting {network} and comparing it with torch")
    difference = export_onnx(loaded, out)
    show(f"{out}: {out.stat().st_size:,} bytes, logits differ from torch's by {difference:.1e}")


def _load(path: Path, module: str | None) -> Network:
    from nasplatform.models.functions import import_trusted
    from nasplatform.models.network import STRUCTURE, Network
    from nasplatform.runs.run import Run

    if module is not None:
        import_trusted(module)
    return Network.load(path) if (path / STRUCTURE).is_file() else Run(path).network()
