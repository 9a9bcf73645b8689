"""`Owners` in the store's SQLite file, by a connection of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from llamakey_addon.errors import ConfigError
from llamakey_addon.store import StoreError, sqlite
from llamakey_addon.store.owners import Owner

_PATIENCE_S: Final = 2.0


class SqliteOwners:
    """See `Owners`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)

    def find(self, provider: str, kind: str, ids: Collection[str]) -> Mapping[str, Owner]:
        found: dict[str, Owner] = {}
        with self._errors() as connection:
            for id in ids:
                row = connection.execute(
                    "SELECT user, team, key_id, made_s FROM owned "
                    "WHERE provider = ? AND kind = ? AND id = ?",
                    (provider, kind, id),
                ).fetchone()
                if row is not None:
                    found[id] = Owner(*row)
        return found

    def claim(self, provider: str, kind: str, ids: Collection[str], owner: Owner) -> None:
        rows = [
            (provider, kind, id, owner.user, owner.team, owner.key_id, owner.made_s) for id in ids
        ]
        with self._errors() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "INSERT OR IGNORE INTO owned (provider, kind, id, user, team, key_id, made_s) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def release(self, provider: str, kind: str, id: str) -> None:
        with self._errors() as connection:
            connection.execute(
                "DELETE FROM owned WHERE provider = ? AND kind = ? AND id = ?", (provider, kind, id)
            )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[sqlite3.Connection]:
        """The connection, anew where another file has come into the store's place."""
        try:
            identity = sqlite._identity(self._path)
            if self._connection is not None and identity != self._identity:
                self.close()
            if self._connection is None:
                self._connection = sqlite._connect(
                    self._path, must_exist=True, synchronous="NORMAL"
                )
                self._connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_S * 1000:.0f}")
                self._identity = identity
            yield self._connection
        except (sqlite3.Error, OSError, ConfigError) as error:
            raise StoreError(
                f"Whose files and the like are whose can't be looked up in {self._path} ({error}). "
                "See to disk space and permissions; if the file is damaged, put back a backup."
            ) from error
