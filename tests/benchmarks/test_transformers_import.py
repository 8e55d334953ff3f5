"""Tables of trained transformers: AutoFormer's subnets and ViT-Bench-101."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nasplatform.benchmarks.imports.transformers import autoformer, vitbench101
from nasplatform.benchmarks.table import read_table
from nasplatform.cli import main
from nasplatform.errors import DataError
from nasplatform.predictors.evaluation import evaluate
from nasplatform.predictors.protocols import draw, get_protocol, protocols
from nasplatform.spaces import get_space

DATA = Path(os.environ.get("NASPLATFORM_DATA", "missing"))


def subnets(n: int) -> list[dict[str, Any]]:
    """Random subnets as the file has them, with made-up accuracies in percent."""
    rng = np.random.default_rng(0)
    space: Any = get_space("vit", subspace="autoformer-tiny")
    some = space.sample(n, rng)
    return [
        {
            "space": "tiny",
            "embed_dim": one.stages[0].width,
            "num_heads": [layer.attention.heads for layer in one.stages[0].layers],
            "mlp_ratio": [layer.feed_forward.ratio / 100 for layer in one.stages[0].layers],
            "imagenet_top1": float(rng.uniform(70, 76)),
            "params_m": params / 1e6,
        }
        for one, params in zip(some, space.costs(some).params, strict=True)
    ]


def pyramids(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "arch": {
                "base_dim": int(rng.choice([16, 24, 32, 40])),
                "mlp_ratio": int(rng.choice([2, 4, 6, 8])),
                "depth": [int(rng.integers(1, 4)), 6, 2 + 2 * (at % 3)],
                "num_heads": [2, 4, 8],
            },
            "c100_base_acc": None if at % 2 else 70.0 + at,
            "c100_kd_acc": 75.0 + at / 10,
        }
        for at in range(n)
    ]


def test_subnets_become_a_table_of_fractions(tmp_path: Path) -> None:
    rows = subnets(6)
    pd.DataFrame([*rows, rows[0] | {"imagenet_top1": 0.0}]).to_parquet(tmp_path / "file.parquet")
    table = read_table(autoformer("tiny", tmp_path / "file.parquet", tmp_path / "out"))
    assert (table.name, len(table), table.score) == ("autoformer-tiny", 6, "imagenet_accuracy")
    expected = np.array([row["imagenet_top1"] for row in rows]) / 100
    expected[0] /= 2  # it was measured twice, the second time as 0
    np.testing.assert_allclose(table.values("imagenet_accuracy"), expected, rtol=1e-6)
    with pytest.raises(DataError, match="no networks of sub-space 'autoformer-small'"):
        autoformer("small", tmp_path / "file.parquet", tmp_path / "out")


def test_parameters_that_disagree_are_refused(tmp_path: Path) -> None:
    rows = subnets(3)
    rows[1]["params_m"] += 1e-6
    pd.DataFrame(rows).to_parquet(tmp_path / "file.parquet")
    with pytest.raises(DataError, match="parameters of 1 subnets"):
        autoformer("tiny", tmp_path / "file.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_authors_file_is_read_as_plain_data(tmp_path: Path) -> None:
    torch.save(pyramids(8), tmp_path / "gt_pit.pth")
    table = read_table(vitbench101("pit", tmp_path / "gt_pit.pth", tmp_path))
    assert table.metrics == ("c100_distilled_accuracy", "c100_accuracy")
    np.testing.assert_allclose(
        table.values("c100_distilled_accuracy"), 0.75 + np.arange(len(table)) / 1000, rtol=1e-6
    )
    assert np.isnan(table.values("c100_accuracy")).sum() == 4
    frame = pd.DataFrame(pyramids(8)).assign(space="pit")
    frame.assign(arch=frame["arch"].map(json.dumps)).to_parquet(tmp_path / "all.parquet")
    again = read_table(vitbench101("pit", tmp_path / "all.parquet", tmp_path))
    assert (again.architectures.codes == table.architectures.codes).all()


def test_the_extension_beside_the_file_is_read_too(tmp_path: Path) -> None:
    rows = [
        {
            "arch": {
                "hidden_dim": row["embed_dim"],
                "num_heads": row["num_heads"],
                "mlp_ratio": row["mlp_ratio"],
            },
            "c100_kd_acc": 75.0,
            "imagenet_super_acc": 74.0,
        }
        for row in subnets(5)
    ]
    torch.save(rows[:3], tmp_path / "gt_autoformer.pth")
    alone = read_table(vitbench101("autoformer", tmp_path / "gt_autoformer.pth", tmp_path))
    torch.save(rows[3:], tmp_path / "gt_autoformer_2.pth")
    both = read_table(vitbench101("autoformer", tmp_path / "gt_autoformer.pth", tmp_path))
    assert (len(alone), len(both)) == (3, 5)
    inherited = both.values("imagenet_inherited_accuracy")
    assert (
        np.isfinite(inherited).tolist() == [True] * 3 + [False] * 2
    )  # those of the second are off


def test_bad_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("run",))

    torch.save([Evil()], tmp_path / "evil.pth")
    torch.save({"a": 1}, tmp_path / "mapping.pth")
    broken = [row | {"arch": row["arch"] | {"num_heads": [8, 4, 2]}} for row in pyramids(2)]
    torch.save(broken, tmp_path / "falling.pth")
    (tmp_path / "text.pth").write_text("no zip")
    for name, said in (
        ("evil.pth", "evil.pth"),
        ("mapping.pth", "expected a list of mappings"),
        ("falling.pth", "network 1 cannot be read: decision 'heads' is '8-4-2'"),
        ("text.pth", "no file of torch.save"),
        ("none.pth", "none.pth"),
    ):
        assert main(["data", "import", "vitbench101-pit", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert said in error


def test_labels_of_transformers_are_not_mixed() -> None:
    known = [one for one in protocols().values() if one.table[0].startswith(("auto", "vitbench"))]
    assert len(known) == 7
    assert all(one.train == one.test for one in known)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.usefixtures("home")
def test_a_protocol_without_its_table_says_how_to_get_it() -> None:
    with pytest.raises(DataError, match="data import"):
        draw(get_protocol("autoformer-tiny"), 50, 0)


@pytest.mark.usefixtures("home")
@pytest.mark.skipif(
    not (DATA / "vit_autoprox.parquet").exists(), reason="NASPLATFORM_DATA names no such folder"
)
def test_protocols_of_the_published_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Textbook models of the flat numbers stand beside the predictors."""
    for name, file in (
        ("autoformer-tiny", "vit_autoformer_imagenet.parquet"),
        ("autoformer-small", "vit_autoformer_imagenet.parquet"),
        ("vitbench101-autoformer", "vit_autoprox.parquet"),
        ("vitbench101-pit", "vit_autoprox.parquet"),
    ):
        assert main(["data", "import", name, str(DATA / file)]) == 0
    capsys.readouterr()
    results = evaluate({"trees": {}}, get_protocol("vitbench101-pit-cifar100"), [40], 2)
    tau = results.groupby("predictor")["kendall"].mean()
    assert {"width", "flat-gp", "flat-trees"} <= set(tau.index)
    assert tau["params"] == pytest.approx(0.81, abs=0.02)
    assert tau["flat-gp"] > tau["width"] + 0.05
    assert draw(get_protocol("vitbench101-flowers"), 80, 0).truth.shape == (120,)
    assert draw(get_protocol("autoformer-small"), 500, 0).truth.shape == (501,)
