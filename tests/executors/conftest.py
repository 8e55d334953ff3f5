"""The PostgreSQL server that the searches' tests share, for the stores too."""

from __future__ import annotations

import sys
from pathlib import Path

SEARCH = Path(__file__).parents[1] / "search"
if str(SEARCH) not in sys.path:
    sys.path.insert(0, str(SEARCH))
