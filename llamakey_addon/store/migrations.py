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
    Migration(
        "0003_ledger",
        (
            """
            CREATE TABLE ledger (
                time_us INTEGER PRIMARY KEY,  -- when it was let through, UTC
                id TEXT NOT NULL,
                process TEXT NOT NULL,
                user TEXT NOT NULL,
                key_id TEXT NOT NULL,
                team TEXT NOT NULL,
                provider TEXT NOT NULL,
                endpoint TEXT NOT NULL,
                method TEXT NOT NULL,
                path TEXT NOT NULL,
                model TEXT NOT NULL,  -- as asked for
                tag TEXT NOT NULL,
                open INTEGER NOT NULL DEFAULT 1,  -- tokens and cost are what is reserved
                status INTEGER NOT NULL DEFAULT 0,
                input_tokens INTEGER NOT NULL,
                output_tokens INTEGER NOT NULL,
                cache_read_tokens INTEGER NOT NULL DEFAULT 0,
                cache_write_tokens INTEGER NOT NULL DEFAULT 0,
                other TEXT NOT NULL DEFAULT '',  -- JSON of counts of other kinds
                cost_nusd INTEGER NOT NULL,
                quality TEXT NOT NULL DEFAULT 'estimated',
                served TEXT NOT NULL DEFAULT '',  -- the model, as the answer names it
                priced TEXT NOT NULL DEFAULT '',  -- date of the price table, or the setting
                first_byte_ms REAL,
                total_ms REAL NOT NULL DEFAULT 0,
                end TEXT NOT NULL DEFAULT ''
            ) STRICT
            """,
            "CREATE INDEX ledger_open ON ledger (process) WHERE open = 1",
            """
            CREATE TABLE counter (
                scope TEXT NOT NULL,
                start_s INTEGER NOT NULL,
                keep_s INTEGER NOT NULL,  -- until when it may be asked for
                settled INTEGER NOT NULL,
                reserved INTEGER NOT NULL,
                warned INTEGER NOT NULL,
                stale INTEGER NOT NULL DEFAULT 0,  -- to be summed up anew from the ledger
                PRIMARY KEY (scope, start_s)
            ) STRICT, WITHOUT ROWID
            """,
            # Which caps the counters are of.
            "CREATE TABLE ledger_caps (caps TEXT NOT NULL) STRICT",
            "INSERT INTO ledger_caps (caps) VALUES ('')",
            # Jobs whose usage is booked: their answers can be fetched again.
            """
            CREATE TABLE job (
                provider TEXT NOT NULL,
                job TEXT NOT NULL,
                time_us INTEGER NOT NULL,  -- of the row
                PRIMARY KEY (provider, job)
            ) STRICT, WITHOUT ROWID
            """,
            # What is known of a key's requests, for estimates.
            """
            CREATE TABLE habit (
                key_id TEXT NOT NULL,
                provider TEXT NOT NULL,
                endpoint TEXT NOT NULL,
                model TEXT NOT NULL,
                figures TEXT NOT NULL,  -- JSON
                PRIMARY KEY (key_id, provider, endpoint, model)
            ) STRICT, WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        "0004_ownership",
        (
            # What users made under an account of the provider's.
            """
            CREATE TABLE owned (
                provider TEXT NOT NULL,
                kind TEXT NOT NULL,
                id TEXT NOT NULL,
                user TEXT NOT NULL,  -- as names of users are compared
                team TEXT NOT NULL,
                key_id TEXT NOT NULL,
                made_s REAL NOT NULL,
                PRIMARY KEY (provider, kind, id)
            ) STRICT, WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        "0005_once",
        (
            # What counts once, for as long as it would count.
            """
            CREATE TABLE once (
                name TEXT PRIMARY KEY,
                until_s INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID
            """,
        ),
    ),
)
