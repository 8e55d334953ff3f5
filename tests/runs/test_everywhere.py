"""One search file, four places: only its lines ``executor`` and ``storage`` differ."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import postgresql
import pytest
import yaml

from nasplatform.runs.driver import run
from nasplatform.runs.frames import read_runs

SEARCH: dict[str, Any] = {
    "name": "everywhere",
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits", "seconds": 0.05},
    "search": {"budget": 16, "sampler": {"name": "random"}},
}


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_same_file_runs_inline_in_processes_with_workers_and_on_ray(
    toy: Path, postgresql_server: postgresql.Server, tmp_path: Path
) -> None:
    url = postgresql_server.new_database()
    ways: dict[str, dict[str, Any]] = {
        "inline": {},
        "process": {"executor": {"name": "process", "workers": 4}},
        "ray": {"executor": {"name": "ray", "max_in_flight": 4}},
        "postgresql": {"storage": url},
    }
    found: dict[str, pd.DataFrame] = {}
    for way, changes in ways.items():
        file = tmp_path / f"{way}.yaml"
        file.write_text(yaml.safe_dump(SEARCH | changes))
        helper = _worker(file, url) if way == "postgresql" else None
        run(file, tmp_path / way)
        found[way] = read_runs(tmp_path / way)
        if helper is not None:
            assert helper.wait(60) == 0
    inline = found["inline"]
    for way, frame in found.items():
        assert list(frame.dtypes.items()) == list(inline.dtypes.items()), way
        assert frame["hash"].nunique() == 16, way
        assert (tmp_path / way / "report.html").is_file()
        if way != "postgresql":  # two who propose at once may propose otherwise
            columns = ["number", "architecture", "score", "source", "metric_ones"]
            ours, theirs = (f.sort_values("number")[columns].values for f in (frame, inline))
            assert (ours == theirs).all(), way
    known = dict(zip(inline["hash"], inline["score"], strict=True))
    alike = found["postgresql"].set_index("hash")["score"]
    for name in alike.index.intersection(list(known)):
        assert alike[name] == known[name]


def _worker(file: Path, url: str) -> subprocess.Popen[bytes]:
    code = "import sys; from nasplatform.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "worker", str(file), "--storage", url, "--wait", "120"]
    return subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
