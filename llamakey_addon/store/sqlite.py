"""The store in one SQLite file, `<data folder>/llamakey.db`.

Several processes use it at once: the proxy reads, the owner's command writes. The file is in WAL
mode, so that neither waits for the other. Writes are a handful a day and are synced in full
(`synchronous=FULL`): with NORMAL, a power cut could bring a revoked key back.

What is read often stands in memory. `PRAGMA data_version` tells for each read, from shared memory
and without I/O, whether another process has committed since; and a file that was replaced (a backup
put back, say) is noticed by its identity and opened anew.
"""

from __future__ import annotations

import difflib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from llamakey_addon import keys
from llamakey_addon.errors import ConfigError
from llamakey_addon.keys import Minted
from llamakey_addon.store import KeyRow, NameTaken, StoreError, UnknownKey
from llamakey_addon.store.migrations import APPLICATION_ID, MIGRATIONS

FILE_NAME = "llamakey.db"

_BUSY_TIMEOUT_S = 5.0
_NAME_MAX = 64
_COLUMNS = "id, name, user, digest, created_s, revoked_s"


class SqliteStore:
    """See `Store`. Belongs to one thread: sqlite3 itself refuses any other."""

    __slots__ = ("_cache", "_connection", "_identity", "_path", "_version")

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = connection
        self._identity = _identity(path)
        self._version = -1
        self._cache: dict[str, KeyRow] = {}

    @classmethod
    def open(cls, data_folder: Path) -> Self:
        """Open or make the store. Raises ConfigError."""
        path = data_folder / FILE_NAME
        try:
            _make_folder(data_folder)
            _make_file(path)
            return cls(path, _connect(path))
        except OSError as error:
            raise ConfigError(
                f"The data folder {data_folder} can't be used "
                f"({error.strerror or type(error).__name__}: {error.filename or path}). "
                "Give it to the proxy's user, or name another by LLAMAKEY_HOME."
            ) from None
        except sqlite3.Error as error:
            raise ConfigError(
                f"The store {path} can't be opened ({error}). If it is damaged, put back a backup, "
                "or move it away: a new one is made, and local keys have to be made anew."
            ) from None

    # --- reading ----------------------------------------------------------------------------------

    def keys(self) -> list[KeyRow]:
        with self._errors():
            return list(self._fresh().values())

    def key(self, key_id: str) -> KeyRow | None:
        with self._errors():
            return self._fresh().get(key_id)

    def _fresh(self) -> dict[str, KeyRow]:
        """All keys by id, as any process has left them."""
        if _identity(self._path) != self._identity:
            self._reopen()
        connection = self._open()
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            # The version was read first: a commit in between only makes us read once more.
            self._cache = {
                row[0]: KeyRow(*row)
                for row in connection.execute(
                    f"SELECT {_COLUMNS} FROM local_key ORDER BY created_s, id"  # noqa: S608
                )
            }
            self._version = version
        return self._cache

    def _reopen(self) -> None:
        self._forget()
        if self._connection is not None:
            self._connection.close()
        self._connection = _connect(self._path, must_exist=True)
        self._identity = _identity(self._path)

    # --- writing ----------------------------------------------------------------------------------

    def add_key(self, name: str, user: str, minted: Minted) -> KeyRow:
        for what, text in (("key", name), ("user", user)):
            _check_name(what, text)
        row = KeyRow(minted.id, name, user, minted.digest, time.time())
        with self._errors(), self._transaction() as connection:
            taken = connection.execute(
                "SELECT 1 FROM local_key WHERE name = ? AND revoked_s IS NULL", (name,)
            ).fetchone()
            if taken:
                raise NameTaken(
                    f"There is a key named {name} already. "
                    f"Choose another name, or revoke it first: lmk keys revoke {name}"
                )
            connection.execute(
                f"INSERT INTO local_key ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL)",  # noqa: S608
                (row.id, row.name, row.user, row.digest, row.created_s),
            )
        return row

    def revoke(self, name_or_id: str) -> KeyRow:
        wanted = _public_part(name_or_id)
        with self._errors(), self._transaction() as connection:
            found = connection.execute(
                # A name first, the living one of several; then an id.
                f"SELECT {_COLUMNS} FROM local_key WHERE name = :it OR id = :it "  # noqa: S608
                "ORDER BY name = :it DESC, revoked_s IS NULL DESC, created_s DESC LIMIT 1",
                {"it": wanted},
            ).fetchone()
            if found is None:
                names = [
                    name
                    for (name,) in connection.execute(
                        "SELECT name FROM local_key WHERE revoked_s IS NULL ORDER BY name"
                    )
                ]
                raise UnknownKey(_unknown(wanted, names))
            row = KeyRow(*found)
            if row.revoked_s is None:
                now_s = time.time()
                connection.execute(
                    "UPDATE local_key SET revoked_s = ? WHERE id = ?", (now_s, row.id)
                )
                row = replace(row, revoked_s=now_s)
        return row

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction, which sees the newest state from its start."""
        if _identity(self._path) != self._identity:
            self._reopen()
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            self._forget()  # data_version tells of others' commits alone

    # --- life -------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("The store is closed. Open it again with open_store.")
        return self._connection

    def _forget(self) -> None:
        self._version = -1
        self._cache = {}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's and the system's errors as ours, with what to do."""
        try:
            yield
        except ConfigError as error:  # of a file that was put in the store's place
            raise StoreError(str(error)) from None
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise StoreError(
                    f"Another process holds the store {self._path} for more than "
                    f"{_BUSY_TIMEOUT_S:.0f} s. Try again, or end that process."
                ) from error
            raise self._broken(error) from error
        except sqlite3.Error as error:
            raise self._broken(error) from error
        except OSError as error:
            self._forget()
            raise StoreError(
                f"The store {self._path} is gone or unreadable "
                f"({error.strerror or type(error).__name__}). "
                "Put it back, or restart the proxy for a new one."
            ) from error

    def _broken(self, error: sqlite3.Error) -> StoreError:
        self._forget()
        return StoreError(
            f"The store {self._path} failed ({error}). "
            "See to disk space and permissions; if it is damaged, put back a backup."
        )


def _connect(path: Path, *, must_exist: bool = False) -> sqlite3.Connection:
    """A connection to a store of our schema. Raises ConfigError, sqlite3.Error, OSError.

    All checks go through SQLite: closing a file descriptor of our own on the store would drop the
    locks of every other connection in this process.
    """
    mode = "rw" if must_exist else "rwc"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        autocommit=True,  # transactions are written out, never begun behind our back
    )
    try:
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        # Until the schema is known nothing is written, not even a checkpoint at closing.
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        _check_schema(path, connection)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, False)
        _enter_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_schema(path: Path, connection: sqlite3.Connection) -> int:
    """How many migrations the store has seen. Refuses what is not ours, or is newer than us."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise ConfigError(
            f"{path} belongs to another program. Move it away, or name another data folder by "
            "LLAMAKEY_HOME."
        )
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"The store {path} was written by a newer LlamaKey (schema {version}; this one knows "
            f"up to {len(MIGRATIONS)}). It was left as it is. Upgrade: pip install -U llamakey; or "
            "name another data folder by LLAMAKEY_HOME."
        )
    return int(version)


def _enter_wal(connection: sqlite3.Connection) -> None:
    """WAL mode; SQLite does not wait for others here, so we do."""
    deadline_s = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            # A file system without shared memory keeps its rollback journal: slower, and safe.
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; of several processes one does it, the others find it done."""
    if _check_schema(path, connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = _check_schema(path, connection)
        for migration in MIGRATIONS[done:]:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migration (name, applied_s) VALUES (?, ?)",
                (migration.name, time.time()),
            )
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


# --- files ----------------------------------------------------------------------------------------


def _make_folder(folder: Path) -> None:
    """The data folder, for us alone.

    A folder that is there and ours is closed to others. One that holds other things is not ours to
    change, and is refused when others could put a store of their own into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    if os.name != "posix":
        return
    info = folder.stat()
    if not info.st_mode & 0o077:
        return
    owned = info.st_uid == os.geteuid() and not info.st_mode & stat.S_ISVTX
    if owned and all(child.name.startswith(FILE_NAME) for child in folder.iterdir()):
        folder.chmod(0o700)
    elif info.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"Everybody may write into the data folder {folder}, and so put a store with keys of "
            f"their own there. Use a folder inside it: LLAMAKEY_HOME={folder / 'llamakey'}"
        )


def _make_file(path: Path) -> None:
    """An empty file with mode 0600; SQLite gives its -wal and -shm the mode of the file."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        info = path.stat()
        if os.name == "posix" and info.st_mode & 0o077 and info.st_uid == os.geteuid():
            for suffix in ("", "-wal", "-shm"):
                try:
                    path.with_name(path.name + suffix).chmod(0o600)
                except FileNotFoundError:
                    pass


def _identity(path: Path) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino


# --- names ----------------------------------------------------------------------------------------


def _check_name(what: str, text: str) -> None:
    if keys.looks_local(text):
        raise StoreError(f"That is a local key, not a name. Choose a name for the {what}.")
    if not text or len(text) > _NAME_MAX or not text.isprintable() or text != text.strip():
        raise StoreError(
            f"The name of a {what} has 1 to {_NAME_MAX} visible characters, such as alice-laptop. "
            "Choose another."
        )
    if text == "*":
        raise StoreError(f"`*` stands for everybody. Choose another name for the {what}.")


def _public_part(text: str) -> str:
    """What may be shown and looked for of what the owner typed: a key's text becomes its id."""
    if not keys.looks_local(text):
        return text
    return keys.redact(text).partition(keys.MARK)[2].rstrip("…").rstrip("-")


def _unknown(wanted: str, names: list[str]) -> str:
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"No key has the name or id {wanted!r}.{hint} `lmk keys list` shows all."
