"""Every picture of the documents has a command; what a page draws is what its table says."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from nasplatform.visualization import tau_against_labels

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture
def analysis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what imports a script of ``analysis``."""
    monkeypatch.syspath_prepend(str(ROOT / "analysis"))

    def script(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield script
    for name in ("figures", "kept", "predictors", "search_curves", "search_fronts"):
        sys.modules.pop(name, None)


def test_a_baseline_that_knows_costs_prefers_what_they_promise(analysis: Any) -> None:
    """A gap between measured costs is worth most, a cost that was measured little, beyond none."""
    known = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 64.0])
    values = np.stack([np.log(known) / 10, -known], axis=1)
    gap, measured, beyond = analysis("search_fronts").gain_by_cost(
        values, known, np.array([32.0, 4.0, 200.0])
    )
    assert gap > 10 * measured > 0
    assert beyond == 0


def test_every_picture_has_a_command(analysis: Any) -> None:
    figures = analysis("figures")
    drawn = {figure.picture for figure in figures.FIGURES}
    assert drawn | figures.DRAWN_BY_HAND == {file.name for file in DOCS.glob("**/*.svg")}
    pages = [ROOT / "README.md", *DOCS.glob("**/*.md")]
    shown = {Path(p).name for f in pages for p in re.findall(r"!\[.*?\]\((.*?)\)", f.read_text())}
    assert shown == drawn | figures.DRAWN_BY_HAND


def test_every_command_is_there(analysis: Any) -> None:
    found = list(analysis("figures").commands_of_pages())
    assert len(found) > 20
    for page, command in found:
        assert (ROOT / command.split()[1]).is_file(), f"docs/{page}: {command}"


def test_what_takes_long_or_lacks_its_table_is_named(
    analysis: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = analysis("figures")
    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path))
    reasons = [figures.missing(figure) for figure in figures.FIGURES]
    assert reasons[:2] == [None, None]
    assert "nasbench201" in reasons[2]
    long = figures.Figure("a.svg", "analysis/a.py", 61)
    assert figures.missing(long) == "takes about 61 minutes"


def test_the_figure_of_predictors_shows_the_table_of_its_page(
    analysis: Any, tmp_path: Path
) -> None:
    predictors = analysis("predictors")
    page = DOCS / "benchmarks" / "predictors.md"
    found = predictors.summary_of_page(page.read_text(), "tnasp")
    row = re.search(
        r"^\| \*\*`default`\*\*[^|]* \| \*\*(\S+) ± (\S+)\*\*", page.read_text(), re.MULTILINE
    )
    assert row is not None
    first = found[(found["predictor"] == "default") & (found["labels"] == 100)].iloc[0]
    assert (first["kendall_mean"], first["kendall_std"]) == (float(row[1]), float(row[2]))
    assert {"flops", "params", "gp-trees", "renas"} <= set(found["predictor"])
    assert sorted(set(found["labels"])) == [100, 172, 424, 4236]
    assert len(tau_against_labels(found).containers) == found["predictor"].nunique()
    with pytest.raises(ValueError, match="no table of protocol nb301"):
        predictors.summary_of_page(page.read_text(), "nb301")
    assert predictors.main(["--page", str(page), str(tmp_path)]) == 0
    assert texts(tmp_path / "predictors-tnasp.svg") == texts(DOCS / "predictors-tnasp.svg")
    assert paths(tmp_path / "predictors-tnasp.svg") == paths(DOCS / "predictors-tnasp.svg")


def test_results_of_other_options_are_not_mixed_in(
    analysis: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = analysis("kept").keep_options
    path = tmp_path / "kept" / "found.parquet"
    keep(path, argparse.Namespace(epochs=7, images=Path("a.npz"), seeds=2), ["seeds"])
    keep(path, argparse.Namespace(epochs=8, images=Path("a.npz"), seeds=2), ["seeds"])
    path.touch()
    keep(path, argparse.Namespace(epochs=8, images=Path("a.npz"), seeds=5), ["seeds"])
    with pytest.raises(SystemExit) as left:
        keep(path, argparse.Namespace(epochs=9, images=Path("a.npz"), seeds=2), ["seeds"])
    assert left.value.code == 2
    assert "found.json is of epochs 8 (now 9): choose another" in capsys.readouterr().err
    path.with_suffix(".json").unlink()
    with pytest.raises(SystemExit):
        keep(path, argparse.Namespace(epochs=9, images=None, seeds=2), ["seeds"])


def test_searches_of_other_options_are_run_anew(analysis: Any, tmp_path: Path) -> None:
    """A folder of searches keeps those of one predictor with any options apart."""
    curves = analysis("search_curves")
    job = curves.Job("cells-digits", "valid_accuracy", "predictor", "gp", (), 0, 5, 2.0, "x")
    other = replace(job, options=(("steps", 9),))
    assert job.method == other.method
    assert job.key != other.key
    random, same = (replace(one, sampler="random") for one in (job, other))
    assert random.key == same.key
    more = replace(job, sampler="predictor:initial=5")
    assert more.key != replace(more, predictor="gp-trees").key
    file = tmp_path / "kept.parquet"
    frame = pd.DataFrame([dict(zip(curves.KEYS, one.key, strict=True)) for one in (job, other)])
    frame.to_parquet(file)
    assert curves.gather([other], file, 1)["predictor"].tolist() == ["gp {'steps': 9}"]


@pytest.mark.slow
def test_a_search_figure_is_made_anew(tmp_path: Path) -> None:
    quick = ["--samplers", "random", "--seeds", "2", "--budget", "12", "--workers", "1"]
    script = ["analysis/search_curves.py", "cells-digits", "valid_accuracy", *quick]
    subprocess.run([sys.executable, *script, "--out", str(tmp_path)], check=True, cwd=ROOT)
    assert "random search, expected" in texts(tmp_path / "searches-cells-digits-valid_accuracy.svg")


def texts(file: Path) -> list[str | None]:
    return [node.text for node in ElementTree.parse(file).iter() if node.tag.endswith("}text")]


def paths(file: Path) -> list[str]:
    """Return the lines of a picture, whatever names matplotlib gave to their parts."""
    found = ElementTree.parse(file).iter()
    return [node.get("d", "") for node in found if node.tag.endswith("}path")]


def test_every_figure_of_readme_stands_in_the_page_that_it_links_to() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (.+) \| `analysis/\w+\.py` \|$", readme, re.MULTILINE)
    assert len(rows) > 5
    for row in rows:
        what, told = row.split(" | ")
        link = re.search(r"\]\((docs/.+?\.md)\)", told)
        assert link is not None, row
        missing = figures_in(told) - figures_in((ROOT / link[1]).read_text())
        assert not missing, f"{what}: {missing} not in {link[1]}"


def test_a_figure_counts_with_its_error() -> None:
    assert figures_in("0.895 ± 0.016, 3,602; .5") == {".895±.016", "3602", ".5"}
    assert figures_in("**.895 ± .016**") == {".895±.016"}


def figures_in(text: str) -> set[str]:
    """Return numbers, each with the error that follows it, however they are written."""
    one = r"(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
    plain = re.sub(r"\]\([^)]*\)", "]", text)
    found = re.findall(rf"{one}(?: ± {one})?", plain)
    return {
        "±".join(part.replace(",", "").strip().lstrip("0") for part in each.split("±"))
        for each in found
    }
