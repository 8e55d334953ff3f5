"""Every reader of files: whatever stands there, it returns or raises an error of the platform.

``make fuzz`` draws many more examples, other ones each time.
"""

from __future__ import annotations

import bz2
import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import damaged, fuzzed, misstated
from PIL import Image

from nasplatform.atomic_io import sha256
from nasplatform.benchmarks.imports.natsbench import read_archive
from nasplatform.benchmarks.imports.safe_pickle import loads
from nasplatform.benchmarks.table import BenchmarkTable, read_table, save_table
from nasplatform.errors import NasplatformError
from nasplatform.models.network import Network
from nasplatform.predictors import get_predictor
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.frames import evaluations, stages
from nasplatform.runs.study_file import read_study
from nasplatform.search.storage import open_study
from nasplatform.service.labels import Labels, ReportedResults
from nasplatform.service.models import Models
from nasplatform.service.security import KeyFile, add_key
from nasplatform.service.settings import Settings
from nasplatform.service.store import PredictorStore
from nasplatform.spaces import get_space
from nasplatform.training.decoding import read_image
from nasplatform.training.npz import NpzOptions, npz
from nasplatform.yaml_source import read_yaml

SPACE = get_space("nasbench201")


class Target(NamedTuple):
    """A file, and what reads it; ``repair`` makes digests right after the damage."""

    file: Path
    read: Callable[[], Any]
    repair: Callable[[], None] = lambda: None


@contextmanager
def harmless() -> Iterator[None]:
    """Errors of the platform are what a reader may raise, in one line of bounded length."""
    words = ""
    try:
        yield
    except NasplatformError as error:
        words = str(error)
    assert "\n" not in words
    assert len(words) < 2000


def fuzz(data: st.DataObject, target: Target) -> None:
    """Damage the file, read it, and put it back."""
    whole = target.file.read_bytes()
    ways = [damaged(whole)]
    if target.file.suffix == ".json":
        ways.append(misstated(whole))
    try:
        target.file.write_bytes(data.draw(st.one_of(ways)))
        target.repair()
        with harmless():
            target.read()
    finally:
        target.file.write_bytes(whole)
        target.repair()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """One good file of every kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    found: dict[str, Target] = {}
    found |= _store(folder)
    found |= _table(folder)
    found |= _run(folder)
    found |= _networks(folder)
    found |= _data(folder)
    return found


def _store(folder: Path) -> dict[str, Target]:
    cells = SPACE.sample(20, np.random.default_rng(0))
    graphs = SPACE.graphs(cells)
    scores = graphs.total_params / graphs.total_params.max() + np.linspace(0, 0.1, 20)
    store = PredictorStore(folder / "store")
    labels = Labels([SPACE.format(cell) for cell in cells], scores)
    predictor = get_predictor("trees", trees=3).fit(graphs, scores)
    home = store.publish("demo", predictor, SPACE, labels).folder

    def repair() -> None:
        facts = home / "version.json"
        known = json.loads(facts.read_text())
        known["files"] = {name: sha256(home / name) for name in known["files"]}
        facts.write_text(json.dumps(known))

    def read() -> None:
        models = Models(store, Settings())
        models.reload()
        assert models.latest() or models.broken
        store.labels(store.find("demo"))

    names = ("card.json", "space.json", "state.safetensors", "labels.parquet")
    found = {name: Target(home / name, read, repair) for name in names}
    found["version.json"] = Target(home / "version.json", read)
    store.point("demo", "stable", 1)
    found["aliases.json"] = Target(home.parent / "aliases.json", lambda: store.aliases("demo"))
    reported = ReportedResults(home.parent)
    reported.append([("x", 0.5)] * 3, "me")
    found["reported.jsonl"] = Target(reported.path, reported.read)
    keys = folder / "keys.json"
    add_key(keys, "one", frozenset({"read"}))
    found["keys.json"] = Target(keys, lambda: KeyFile(keys))
    return found


def _table(folder: Path) -> dict[str, Target]:
    cells = SPACE.sample(12, np.random.default_rng(1))
    values = np.linspace(0.1, 0.9, 12, dtype=np.float32)[:, None, None]
    table = BenchmarkTable("toy", SPACE, cells, (1,), {"valid_accuracy": values})
    path = folder / "toy.parquet"
    save_table(table, path)
    card = path.with_suffix(".json")

    def repair() -> None:
        known = json.loads(card.read_text())
        card.write_text(json.dumps({**known, "sha256": sha256(path)}))

    def read() -> None:
        found = read_table(path)
        found.space.graphs(found.architectures)
        found.scores()

    return {"table": Target(path, read, repair), "table card": Target(card, read)}


def _run(folder: Path) -> dict[str, Target]:
    home = RunFolder(folder / "run")
    home.path.mkdir()
    written = {
        "name": "toy", "seed": 0, "space": {"name": "nasbench201"},
        "evaluator": {"name": "table", "table": "toy"},
        "search": {"sampler": {"name": "random"}, "budget": 3},
        "provenance": {"measured": "toy", "versions": {}},
    }  # fmt: skip
    home.resolved.write_text(json.dumps(written))  # JSON is YAML
    with open_study(home.study, "toy") as study:
        study.add_trials([])
    frame = pd.DataFrame({"number": [0], "hash": ["x"], "score": [0.5], "feasible": [True]})
    frame.to_parquet(home.path / "frame.parquet")
    staged = pd.DataFrame({"stage": ["train"], "after_accuracy": [0.5]})
    staged.to_parquet(home.stages)

    def read_frame() -> None:
        shutil.copyfile(home.path / "frame.parquet", home.evaluations)
        evaluations(home)

    def read_trials() -> None:
        with read_study(home.study, "toy") as study:
            study.get_trials()

    return {
        "resolved.yaml": Target(home.resolved, home.read),
        "search file": Target(home.resolved, lambda: read_yaml(home.resolved)),
        "study.db": Target(home.study, read_trials),
        "evaluations": Target(home.path / "frame.parquet", read_frame),
        "stages": Target(home.stages, lambda: stages(home)),
    }


def _networks(folder: Path) -> dict[str, Target]:
    home = folder / "network"
    Network.of(get_space("nasbench201", stem_channels=1, cells_per_stage=1), SPACE.parse("334131")
               ).save(home)  # fmt: skip
    read = lambda: Network.load(home)  # noqa: E731
    return {name: Target(home / name, read) for name in ("structure.json", "weights.safetensors")}


def _data(folder: Path) -> dict[str, Target]:
    x = np.random.default_rng(0).integers(256, size=(20, 8, 8), dtype=np.uint8)
    np.savez_compressed(folder / "own.npz", x=x, y=np.arange(20) % 2)
    options = NpzOptions(path=folder / "own.npz")
    Image.fromarray(x[0]).save(folder / "one.png")
    content = {"12": {"a": [1, 2.5, None], ("x", 1): np.arange(3)}, "s": {1, 2}}
    (folder / "one.pickle").write_bytes(pickle.dumps(content, protocol=4))
    archive = folder / "archive"
    archive.mkdir()
    record = archive / "000000.pickle.pbz2"
    record.write_bytes(bz2.compress(pickle.dumps({"12": {}, "200": {}}, protocol=4)))
    report = lambda done, total: None  # noqa: E731
    return {
        "npz": Target(folder / "own.npz", lambda: npz(options)),
        "image": Target(folder / "one.png", lambda: read_image(folder / "one.png", (4, 4), True)),
        "pickle": Target(
            folder / "one.pickle", lambda: loads((folder / "one.pickle").read_bytes(), "here")
        ),
        "archive": Target(record, lambda: read_archive(archive, (12, 200), report)),
    }


KINDS = (
    *("card.json", "space.json", "state.safetensors", "labels.parquet", "version.json"),
    *("aliases.json", "reported.jsonl", "keys.json", "table", "table card", "resolved.yaml"),
    *("search file", "study.db", "evaluations", "stages", "structure.json"),
    *("weights.safetensors", "npz", "image", "pickle", "archive"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_is_read_or_refused_in_one_line(kind, places):
    target = places[kind]
    with harmless():
        target.read()

    @fuzzed
    @given(st.data())  # the examples of a kind share its file
    def run(data):
        fuzz(data, target)

    run()


def test_every_kind_is_fuzzed(places):
    assert set(places) == set(KINDS)


@fuzzed
@given(st.lists(st.sampled_from(b".()]}tNKsuRbcqr2\x80\x04\x88\x94\x8c\x01a"), max_size=300))
def test_any_program_of_pickle_is_read_or_refused(program):
    with harmless():
        loads(b"\x80\x04" + bytes(program) + b".", "here")


def test_a_good_file_of_each_kind_is_not_refused(places):
    for kind in set(KINDS) - {"archive", "resolved.yaml"}:
        places[kind].read()
    assert io.BytesIO(places["npz"].file.read_bytes()).read(2) == b"PK"
