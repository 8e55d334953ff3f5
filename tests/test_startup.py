"""What is not used is not imported."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pandas", "optuna", "sklearn", "scipy", "pyarrow", "numpy", "fastapi")


@pytest.mark.parametrize(
    "code",
    [
        "import nasplatform",
        "from nasplatform.cli import main; main(['--help'])",
        "from nasplatform.cli import main; main(['run', '--help'])",
        "from nasplatform.cli import main; main(['--version'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    asked = (
        f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
