"""What a full disk leaves: one clear line, and the file that stood there before."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from nasplatform import cli
from nasplatform.atomic_io import replace_file, replace_folder
from nasplatform.errors import DataError, RunError
from nasplatform.testing.tiny import tiny_network

FULL = """
import resource, signal, sys
from pathlib import Path
from nasplatform import cli
from nasplatform.testing.tiny import tiny_network, tiny_task
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe

def epochs(epoch):  # after the first epoch no file may grow beyond 100 bytes
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    return False

def run(**arguments):
    recipe, path = Recipe(epochs=3, batch_size=16), Path(sys.argv[1])
    train(tiny_network().module, tiny_task(), recipe, 5, checkpoint=path, on_epoch=epochs)

cli._commands = lambda: run
sys.exit(cli.main())
"""


def test_a_full_disk_is_one_line_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", FULL, path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"error: {path}: File too large\n")
    with safe_open(path, framework="pt") as file:
        assert '"epoch": 1' in file.metadata()["facts"]
        assert '"epoch": 2' not in file.metadata()["facts"]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]  # no half of a file beside it


@pytest.mark.parametrize("writer", [replace_file, replace_folder])
def test_what_could_not_be_written_is_named(tmp_path: Path, writer) -> None:
    target = tmp_path / "there"
    with pytest.raises(OSError, match="No space left") as caught, writer(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(target)
    with pytest.raises(FileNotFoundError) as missing, writer(target):
        (tmp_path / "source").read_bytes()
    assert missing.value.filename == str(tmp_path / "source")
    with pytest.raises(ConnectionResetError) as broken, writer(target):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    assert broken.value.filename is None
    with pytest.raises(DataError), writer(target):
        raise DataError("something else")
    assert list(tmp_path.iterdir()) == []


def test_out_of_memory_is_one_line(monkeypatch, capsys) -> None:
    for allocate in (lambda: torch.empty(2**55), lambda: np.empty(2**55)):
        monkeypatch.setattr(cli, "_commands", lambda made=allocate: lambda **_: made())
        assert cli.main() == 1
        said = capsys.readouterr().err
        assert said.startswith("error: there is not enough memory, a smaller batch_size needs less")
        assert said.count("\n") == 1

    def broken(**_: object) -> None:
        raise RuntimeError("another fault")

    monkeypatch.setattr(cli, "_commands", lambda: broken)
    with pytest.raises(RuntimeError, match="another fault"):
        cli.main()


def test_only_a_folder_of_our_own_is_replaced(tmp_path: Path) -> None:
    home = tmp_path / "network"
    tiny_network().save(home)
    tiny_network().save(str(home))  # again, and by text
    (home / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(RunError, match=r"holds 'photo.jpg', which is not of ours"):
        tiny_network().save(home)
    assert (home / "photo.jpg").read_bytes() == b"mine"
    file = tmp_path / "notes"
    file.write_text("mine")
    with pytest.raises(RunError, match="is a file"):
        tiny_network().save(file)
    assert file.read_text() == "mine"
