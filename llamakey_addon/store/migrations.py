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
    Migration(
        "0002_keys",
        (
            "ALTER TABLE local_key ADD COLUMN scope TEXT NOT NULL DEFAULT ''",
            # CIDR, parted by blanks.
            "ALTER TABLE local_key ADD COLUMN networks TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE local_key ADD COLUMN expires_s REAL",
            "ALTER TABLE local_key ADD COLUMN replaces TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE local_key ADD COLUMN rotated_s REAL",
            "ALTER TABLE local_key ADD COLUMN retires_s REAL",
            # A key that was rotated leaves its name to the next one.
            "DROP INDEX local_key_name",
            """
            CREATE UNIQUE INDEX local_key_name ON local_key (name)
                WHERE revoked_s IS NULL AND rotated_s IS NULL
            """,
            # Apart from the keys: written often, and no change of them.
            "CREATE TABLE key_use (id TEXT PRIMARY KEY, last_s REAL NOT NULL) STRICT",
            # Tells readers whether any key has changed, among many commits that are of the ledger.
            "CREATE TABLE key_change (number INTEGER NOT NULL) STRICT",
            "INSERT INTO key_change (number) VALUES (0)",
            *(
                f"CREATE TRIGGER local_key_{act.lower()} AFTER {act} ON local_key "  # noqa: S608
                "BEGIN UPDATE key_change SET number = number + 1; END"
                for act in ("INSERT", "UPDATE", "DELETE")
            ),
        ),
    ),
)
