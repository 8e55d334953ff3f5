"""Tables of trained transformers: AutoFormer's subnets on ImageNet, and ViT-Bench-101.

``vit_autoformer_imagenet.parquet`` (from OoD-ViT-NAS) holds 1,001 subnets of AutoFormer's supernets
tiny and small (Chen et al., ICCV 2021) with their accuracy on ImageNet with inherited weights.
ViT-Bench-101 (Auto-Prox, AAAI 2024) trained networks from scratch, with and without distillation:
the authors' ``gt_autoformer.pth`` (with ``gt_autoformer_2.pth``, where it lies beside it) and
``gt_pit.pth``, or both in ``vit_autoprox.parquet``. A ``.pth`` is read as plain data, nothing in it
is ever run. Labels with and without distillation are different quantities: each is a metric.
The accuracies with inherited weights of ``gt_autoformer_2`` are left out: they have the values of
``gt_autoformer`` (70.8 to 75.5, in two heaps), but there the embedding decides the heap, here
nothing does, so that they are not those of their architectures.

Accuracies are fractions. Networks that stand in a file twice are measured twice.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplatform.atomic_io import sha256
from nasplatform.benchmarks.imports.measured import grouped
from nasplatform.benchmarks.imports.own_table import repeated
from nasplatform.benchmarks.imports.parquet import read_parquet
from nasplatform.benchmarks.imports.safe_pickle import loads
from nasplatform.benchmarks.statistics import describe_table
from nasplatform.benchmarks.table import BenchmarkTable, save_table
from nasplatform.errors import ArchitectureError, DataError
from nasplatform.foreign import require_regular, zip_members
from nasplatform.spaces import Space, get_space
from nasplatform.spaces.vit.architecture import (
    Attention,
    FeedForward,
    Layer,
    Stage,
    VisionTransformer,
)

Progress = Callable[[int, int], None]
_Rows = Sequence[Mapping[str, Any]]
_HEAD = 64  # channels of an attention head of AutoFormer
_INHERITED = 500  # epochs of AutoFormer's supernets
_SCRATCH = 300  # epochs of ViT-Bench-101
_AUTOFORMER = {"imagenet_top1": "imagenet_accuracy", "gauss_noise_s1_top1": "noisy_accuracy"}
_VITBENCH = {
    "c100_kd_acc": "c100_distilled_accuracy",
    "c100_base_acc": "c100_accuracy",
    "flower_kd_acc": "flowers_distilled_accuracy",
    "flower_base_acc": "flowers_accuracy",
    "chaoyang_kd_acc": "chaoyang_distilled_accuracy",
    "chaoyang_base_acc": "chaoyang_accuracy",
    "imagenet_super_acc": "imagenet_inherited_accuracy",
}
_LARGEST = 64 << 20  # bytes of records; those of the benchmark have a few MiB
_EXTENSION = {"gt_autoformer.pth": "gt_autoformer_2.pth"}
_MISPLACED = ("gt_autoformer_2", "imagenet_super_acc")  # a file, and labels that are not its own


def autoformer(size: str, file: Path, out_folder: Path, progress: Progress | None = None) -> Path:
    """Turn the subnets of one supernet (tiny, small) into a table; return its path.

    Raises DataError, without having written anything, for what is missing or something else, and
    where the parameters in the file are not those of the space.
    """
    rows = [row for row in _parquet(file) if row.get("space") == size]
    space = get_space("vit", subspace=f"autoformer-{size}")
    keys = ("embed_dim", "num_heads", "mlp_ratio")
    nets = _networks(rows, lambda row: subnet(*(row[key] for key in keys)), space, file)
    stated = np.array([round(1e6 * float(row["params_m"])) for row in rows])
    wrong = np.flatnonzero(stated != space.graphs(nets).total_params)
    if len(wrong):
        raise DataError(f"{file}: parameters of {len(wrong)} subnets are not those of the space")
    source = "AutoFormer, Chen et al. 2021, subnets as measured by OoD-ViT-NAS"
    card = {"source": source, "licence": "none stated"}
    values = _values(rows, _AUTOFORMER)
    name = f"autoformer-{size}"
    return _save(name, space, nets, values, _INHERITED, card, file, out_folder, progress)


def vitbench101(kind: str, file: Path, out_folder: Path, progress: Progress | None = None) -> Path:
    """Turn the networks of one kind (autoformer, pit) into a table; return its path.

    Raises DataError, without having written anything, for what is missing or something else.
    """
    subspace, make = {
        "autoformer": ("autoformer-tiny", _autoformer_of),
        "pit": ("pit-tiny", pooling_pyramid),
    }[kind]
    space = get_space("vit", subspace=subspace, classes=100)
    rows = _records(file, kind)
    nets = _networks(rows, lambda row: make(row["arch"]), space, file)
    card = {"source": "ViT-Bench-101, Wei et al. 2024, lliai/Auto-Prox-AAAI24"}
    card |= {"licence": "Apache-2.0"}
    values = _values(rows, _VITBENCH)
    name = f"vitbench101-{kind}"
    return _save(name, space, nets, values, _SCRATCH, card, file, out_folder, progress)


import_autoformer_tiny = partial(autoformer, "tiny")
import_autoformer_small = partial(autoformer, "small")
import_vitbench101_autoformer = partial(vitbench101, "autoformer")
import_vitbench101_pit = partial(vitbench101, "pit")


def subnet(width: int, heads: Sequence[int], ratios: Sequence[float]) -> VisionTransformer:
    """Return a subnet of AutoFormer: embedding, heads and ratio of each layer."""
    layers = tuple(
        Layer(Attention(int(number), _HEAD * int(number)), FeedForward(round(100 * ratio)))
        for number, ratio in zip(heads, ratios, strict=True)
    )
    stage = Stage(int(width), layers, positions="learned", relative="keys-values")
    return VisionTransformer((stage,), tokens=1)


def pooling_pyramid(known: Mapping[str, Any]) -> VisionTransformer:
    """Return a network of the PiT space: base_dim, num_heads, mlp_ratio and depth of the stages."""
    params = {
        "heads": "-".join(str(int(heads)) for heads in known["num_heads"]),
        "head_width": int(known["base_dim"]),
        "ratio": float(known["mlp_ratio"]),
        **{f"stage{at}_depth": int(depth) for at, depth in enumerate(known["depth"], 1)},
    }
    made: VisionTransformer = get_space("vit", subspace="pit-tiny").from_params(params)
    return made


def _autoformer_of(known: Mapping[str, Any]) -> VisionTransformer:
    return subnet(known["hidden_dim"], known["num_heads"], known["mlp_ratio"])


def _networks(
    rows: _Rows,
    make: Callable[[Mapping[str, Any]], VisionTransformer],
    space: Space[Any],
    file: Path,
) -> Any:
    """Return the population of the rows; raise DataError for one that is no such network."""
    if not rows:
        raise DataError(f"{file}: has no networks of sub-space {space.describe()['subspace']!r}")
    made = []
    for place, row in enumerate(rows, 1):
        try:
            made.append(make(row))
            space.population(made[-1:])
        except (ArchitectureError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: network {place} cannot be read: {error!s}") from None
    return space.population(made)


def _values(rows: _Rows, names: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
    """Return metric -> (B,) fractions, NaN where there is none; metrics that nobody has are out."""
    columns = {
        metric: np.array([np.nan if row.get(c) is None else row[c] for row in rows], np.float64)
        for c, metric in names.items()
    }
    return {name: values / 100 for name, values in columns.items() if np.isfinite(values).any()}


def _save(
    name: str,
    space: Space[Any],
    nets: Any,
    values: Mapping[str, NDArray[np.float64]],
    epochs: int,
    card: Mapping[str, Any],
    file: Path,
    out_folder: Path,
    progress: Progress | None,
) -> Path:
    if not values:
        raise DataError(f"{file}: holds no accuracies of {name}")
    first, group = grouped(nets)
    graphs = space.graphs(nets[first])
    table = BenchmarkTable(
        name=name,
        space=space,
        architectures=nets[first],
        fidelities=(epochs,),
        measurements={metric: repeated(column, group) for metric, column in values.items()},
        attributes={"params": graphs.total_params, "flops": graphs.total_flops},
        card={
            **card,
            "command": f"nasplatform data import {name} {file.name}",
            "file": file.name,
            "file_sha256": sha256(file),
            "score": next(iter(values)),
        },
    )
    table = replace(table, card=dict(table.card) | describe_table(table))
    path = out_folder / f"{name}.parquet"
    save_table(table, path)
    if progress is not None:
        progress(1, 1)
    return path


def _parquet(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise DataError(f"{file} is not a file")
    found: list[dict[str, Any]] = read_parquet(file).to_pylist()
    return found


def _records(file: Path, kind: str) -> list[dict[str, Any]]:
    """Return the networks of a ``.pth`` and its extension, or those of a kind in a parquet file."""
    if file.suffix != ".pth":
        rows = [row for row in _parquet(file) if row.get("space") == kind]
        rows = [{**row, "arch": json.loads(row["arch"])} for row in rows]
    else:
        files = dict.fromkeys([file, file.with_name(_EXTENSION.get(file.name, file.name))])
        known = [one for one in files if one == file or one.exists()]
        rows = [{**row, "file": one.stem} for one in known for row in _plain(one)]
    wrong, label = _MISPLACED
    return [{**row, label: None} if row.get("file") == wrong else row for row in rows]


def _plain(file: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings of a list that was saved by torch."""
    try:
        require_regular(file)
        (inside,) = (one for one in zip_members(file) if one.filename.endswith("/data.pkl"))
        with zipfile.ZipFile(file) as archive:
            if inside.file_size > _LARGEST:
                raise ValueError(f"{inside.file_size:,} bytes of records, at most {_LARGEST:,}")
            found = loads(archive.read(inside), str(file))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is no file of torch.save: {error}") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{file}: expected a list of mappings, as ViT-Bench-101 has it")
    yield from found
