"""The schema's history. Append only: what stands here has run on somebody's store."""

from __future__ import annotations

from dataclasses import dataclass

APPLICATION_ID = 0x4C4D4B31
"""`LMK1`, in the file's header: tells a store of ours from any other SQLite file."""


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    statements: tuple[str, ...]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "0001_local_keys",
        (
            "CREATE TABLE migration (name TEXT PRIMARY KEY, applied_s REAL NOT NULL) STRICT",
            """
            CREATE TABLE local_key (
                id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                user TEXT NOT NULL,
                digest BLOB NOT NULL,
                created_s REAL NOT NULL,
                revoked_s REAL
            ) STRICT
            """,
            # Names may come again once their key is revoked.
            "CREATE UNIQUE INDEX local_key_name ON local_key (name) WHERE revoked_s IS NULL",
        ),
    ),
)
