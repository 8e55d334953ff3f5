"""Free memory is that of the machine, or of the container that allows less."""

from pathlib import Path

import pytest

from nasplatform import memory
from nasplatform.errors import PredictorError


def test_the_tightest_bound_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, limit, used = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    machine.write_text("MemTotal:  9 kB\nMemAvailable:  4000000 kB\n")
    monkeypatch.setattr(memory, "_MACHINE", machine)
    monkeypatch.setattr(memory, "_CONTAINERS", ((str(limit), str(used)),))
    assert memory.available_memory() == 4_096_000_000
    limit.write_text("max\n")
    used.write_text("500000000\n")
    assert memory.available_memory() == 4_096_000_000
    limit.write_text("2000000000\n")
    assert memory.available_memory() == 1_500_000_000
    memory.require_memory(1_500_000_000, "it")
    with pytest.raises(PredictorError, match=r"it needs about 1\.6 GB .* 1\.5 GB are free"):
        memory.require_memory(1_600_000_000, "it")


def test_a_system_that_does_not_say_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "none")
    monkeypatch.setattr(memory, "_CONTAINERS", ())
    assert memory.available_memory() is None
    memory.require_memory(10**18, "anything")
