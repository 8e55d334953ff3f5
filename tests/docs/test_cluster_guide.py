"""The manifests of the guide: what they run is run, with the database of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import postgresql
import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs" / "cluster"
SEARCHES = DOCS.parents[1] / "searches"
RUN = "import sys; from nasplatform.cli import main; sys.exit(main())"


def started(command: list[str], url: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command of a manifest, with our database, files and a smaller budget."""
    assert command[0] == "nasplatform"
    words = [word.replace("postgresql+psycopg://nas@database/nas", url) for word in command[1:]]
    words = [w.replace("/searches", str(SEARCHES)).replace("/runs", str(folder)) for w in words]
    small = ["--set", "search.budget=6", "--set", "search.sampler={name: random}"]
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *words, *small, "--set", "stages=[]", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PGPASSWORD": "unused"},
    )


@pytest.mark.slow
@pytest.mark.postgres
def test_the_commands_of_the_compose_file_share_a_search(
    postgresql_server: postgresql.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nasplatform.cli import main

    services: dict[str, Any] = yaml.safe_load((DOCS / "compose.yaml").read_text())["services"]
    url = postgresql_server.new_database()
    with (
        started(services["search"]["command"], url, tmp_path) as search,
        started(services["worker"]["command"], url, tmp_path) as worker,
    ):
        found = json.loads(search.communicate(timeout=240)[0])
        made = json.loads(worker.communicate(timeout=240)[0])
    assert (search.returncode, worker.returncode) == (0, 0)
    assert found["evaluations"] == 6
    assert 0 <= made["evaluations"] <= 6
    assert main(["status", "--storage", url, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert [(one["admitted"], one["budget"]) for one in status["searches"]] == [(6, 6)]
    assert sum(one["measured"] for one in status["workers"]) == 6
    assert {one["state"] for one in status["workers"]} == {"left"}


def test_the_manifest_of_ray_is_a_job_that_runs_a_search() -> None:
    manifest = yaml.safe_load((DOCS / "ray-cluster.yaml").read_text())
    spec = manifest["spec"]
    assert (manifest["kind"], manifest["apiVersion"]) == ("RayJob", "ray.io/v1")
    words = spec["entrypoint"].split()
    assert words[:2] == ["nasplatform", "run"]
    assert "executor.name=ray" in words
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    mounts = [g["template"]["spec"]["containers"][0]["volumeMounts"] for g in groups]
    assert all(mount == mounts[0] for mount in mounts)  # stages and checkpoints need one folder
    pinned = (DOCS.parents[1] / "constraints.txt").read_text()
    assert f"ray=={spec['rayClusterSpec']['rayVersion']}\n" in pinned


def test_the_script_of_slurm_is_a_script(tmp_path: Path) -> None:
    """Run without SLURM, with a ``nasplatform`` that shows what it was given."""
    fake = tmp_path / "nasplatform"
    fake.write_text('#!/bin/sh\necho "$OMP_NUM_THREADS $*"\n')
    fake.chmod(0o755)
    shown = subprocess.run(
        [DOCS / "slurm.sh", "f.yaml", "URL"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "4"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "4 worker f.yaml --storage URL --wait 3600\n"
