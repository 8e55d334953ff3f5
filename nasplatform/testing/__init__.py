"""Contract tests for plug-in authors, and the tiny things they run on.

A failing ``assert`` of theirs shows its values, as one in the author's own test does.
"""

import pkgutil
import sys

if "pytest" in sys.modules:
    import pytest

    pytest.register_assert_rewrite(
        *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
    )
