"""``python -m nasplatform``: the command line."""

from __future__ import annotations

import sys

from nasplatform.cli import main

sys.exit(main())
