"""How much memory is free, asked before much of it is taken."""

from __future__ import annotations

from pathlib import Path

from nasplatform.errors import PredictorError

_MACHINE = Path("/proc/meminfo")
_CONTAINERS = (  # limit and use of a container, of either version of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available_memory() -> int | None:
    """Return the bytes that can be taken, None where the system does not say."""
    found = [free for free in (_of_machine(), *map(_of_container, _CONTAINERS)) if free is not None]
    return min(found, default=None)


def require_memory(needed: int, what: str) -> None:
    """Raise PredictorError where ``what`` needs more bytes than there are."""
    free = available_memory()
    if free is not None and needed > free:
        raise PredictorError(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, {max(free, 0) / 1e9:.1f} GB are "
            "free: learn from fewer labels, or free some"
        )


def _of_machine() -> int | None:
    for line in _text(_MACHINE).splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def _of_container(files: tuple[str, str]) -> int | None:
    limit, used = (_text(Path(file)).strip() for file in files)
    return int(limit) - int(used) if limit.isdigit() and used.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
