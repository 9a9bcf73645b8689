"""What stands in a running proxy's ledger."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.harness import Proxy, _ticks


def query(proxy: Proxy, sql: str) -> list[Any]:
    return query_home(proxy.home, sql)


def query_home(home: Path, sql: str) -> list[Any]:
    """The rows, by the proxy's data folder."""
    with closing(sqlite3.connect(home / "llamakey.db")) as connection:
        return connection.execute(sql).fetchall()


def wait_for_settled(proxy: Proxy) -> None:
    """Rows are closed a moment after their answers."""
    for _ in _ticks(10):
        if query(proxy, "SELECT count(*) FROM ledger WHERE open = 1") == [(0,)]:
            return
    raise TimeoutError(query(proxy, "SELECT id, process FROM ledger WHERE open = 1"))
