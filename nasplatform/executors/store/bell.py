"""Who waits for others hears when something has changed, and need not look all the time."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

CHANNEL = "nasplatform"


class Bell:
    """Rings through PostgreSQL's NOTIFY; elsewhere nobody hears it, and waiting is sleeping.

    A ring may be lost (the connection broke), and may be another search's: whoever hears it, or
    waited long enough, looks for himself.
    """

    def __init__(self, engine: sa.Engine) -> None:
        """Take the engine; a connection of its own is opened by the first wait."""
        self._engine = engine
        self._heard: Any = None  # the driver's connection

    def ring(self, connection: sa.Connection) -> None:
        """Wake those who wait, when the transaction of this connection is committed."""
        if self._engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"NOTIFY {CHANNEL}")

    def wait(self, seconds: float) -> None:
        """Wait until it rings, at most so long."""
        if (self._engine.dialect.name, self._engine.driver) != ("postgresql", "psycopg"):
            time.sleep(seconds)
            return
        until = time.monotonic() + seconds
        try:
            if self._heard is None:
                self._heard = self._listen()
            for _ in self._heard.notifies(timeout=seconds, stop_after=1):
                return
        except Exception:  # whatever it is: the next look at the database will tell
            self.close()
            time.sleep(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Free the connection."""
        heard, self._heard = self._heard, None
        if heard is not None:
            with suppress(Exception):  # it may be broken already
                heard.close()

    def _listen(self) -> Any:
        import psycopg

        dialect = self._engine.dialect
        arguments, options = dialect.create_connect_args(self._engine.url)
        connection = psycopg.connect(*arguments, **options, autocommit=True)
        connection.execute(f"LISTEN {CHANNEL}")
        return connection
