import json
import os

import numpy as np
import pytest
from PIL import Image

from nasplatform.cli import main
from nasplatform.errors import DataError
from nasplatform.training import decoding
from nasplatform.training.datasets import load_task
from nasplatform.training.image_store import DiskImages

RNG = np.random.default_rng(0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NASPLATFORM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_folder(folder, count=150, side=12):
    for number in range(count):
        path = folder / "train" / f"class{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return folder


def options(folder):
    return {"path": str(folder), "size": 12}


def test_cached_images_train_as_those_in_memory(tmp_path, home, monkeypatch):
    folder = write_folder(tmp_path / "images")
    memory = load_task("folder", options(folder), "task")
    assert not home.exists()
    monkeypatch.setattr(decoding, "MEMORY_LIMIT", 1000)
    disk = load_task("folder", options(folder), "task")
    assert isinstance(disk.train.inputs.raw, DiskImages)
    assert (disk.mean, disk.std) == (memory.mean, memory.std)
    for part in ("train", "valid", "test"):
        one, other = getattr(disk, part), getattr(memory, part)
        assert (one.inputs[:] == other.inputs[:]).all()
        assert (one.labels == other.labels).all()
    assert [p.name for p in home.glob("cache/images/*/*")].count(decoding.PIXELS) == 1


def test_cache_is_read_again_and_written_anew_where_a_file_changed(tmp_path, home, monkeypatch):
    monkeypatch.setattr(decoding, "MEMORY_LIMIT", 1000)
    folder = write_folder(tmp_path / "images")
    first = load_task("folder", options(folder), "task")
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_image", None)  # nothing is decoded twice
        assert load_task("folder", options(folder), "task").digest == first.digest
    changed = folder / "train" / "class0" / "000.png"
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(changed)
    os.utime(changed, ns=(1, 1))
    assert load_task("folder", options(folder), "task").digest != first.digest
    assert len(list((home / "cache" / "images").iterdir())) == 2


def test_caches_are_listed_and_deleted(tmp_path, home, monkeypatch, capsys):
    assert main(["data", "cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    monkeypatch.setattr(decoding, "MEMORY_LIMIT", 1000)
    folder = write_folder(tmp_path / "images")
    load_task("folder", options(folder), "task")
    (made,) = decoding.cache_folder().iterdir()
    os.utime(made, (0, 0))
    task = load_task("folder", options(folder), "task")
    assert main(["data", "cache", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["mebibytes"]) == (made.name, 1)
    assert row["last_used"] > "2020"
    assert main(["data", "cache", "--clear"]) == 0
    assert made.name in capsys.readouterr().out
    assert not list(decoding.cache_folder().iterdir())
    assert load_task("folder", options(folder), "task").digest == task.digest


def test_cache_that_was_cut_off_never_counts(tmp_path, home, monkeypatch):
    monkeypatch.setattr(decoding, "MEMORY_LIMIT", 1000)
    folder = write_folder(tmp_path / "images")
    (folder / "train" / "class1" / "100.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"100\.png cannot be read as an image"):
        load_task("folder", options(folder), "task")
    assert list((home / "cache" / "images").iterdir()) == []


def test_damaged_cache_says_what_to_delete(tmp_path, home, monkeypatch):
    monkeypatch.setattr(decoding, "MEMORY_LIMIT", 1000)
    folder = write_folder(tmp_path / "images")
    load_task("folder", options(folder), "task")
    pixels = next(home.rglob(decoding.PIXELS))
    pixels.write_bytes(pixels.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged, delete it"):
        load_task("folder", options(folder), "task")
    (pixels.parent / decoding.FACTS).write_bytes(b"x")
    with pytest.raises(DataError, match="is damaged, delete it"):
        load_task("folder", options(folder), "task")


def test_disk_that_is_too_small_is_told_before_decoding(tmp_path, home, monkeypatch):
    monkeypatch.setattr(decoding, "MEMORY_LIMIT", 1000)
    usage = decoding.shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(decoding.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"150 images of 3 x 12 x 12 take 64,800 bytes, .*50,000"):
        load_task("folder", options(write_folder(tmp_path / "images")), "task")
