"""The store in one SQLite file, `<data folder>/llamakey.db`.

Several processes use it at once: the proxy reads, the owner's command writes. The file is in WAL
mode, so that neither waits for the other. Writes are a handful a day and are synced in full
(`synchronous=FULL`): with NORMAL, a power cut could bring a revoked key back.

What is read often stands in memory, and `mark.py` tells for each read whether a key was changed
since. What changes keys without a mark (a backup that is put back, another program) is noticed
within `_TRUST_S`: then the file's identity, `PRAGMA data_version` and the number in `key_change`
are looked at.
"""

from __future__ import annotations

import difflib
import math
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal, Self

from llamakey_addon import keys
from llamakey_addon.errors import ConfigError
from llamakey_addon.keys import Minted
from llamakey_addon.store import KeyRow, NameTaken, StoreError, UnknownKey
from llamakey_addon.store.mark import Mark
from llamakey_addon.store.migrations import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from llamakey_addon.store.ledger import Ledger
    from llamakey_addon.store.owners import Owners
    from llamakey_addon.store.sqlite_owners import SqliteOwners

FILE_NAME = "llamakey.db"

_BUSY_TIMEOUT_S = 5.0
_NAME_MAX = 64
_USE_EVERY_S = 60.0
_TRUST_S = 0.05
"""How long the mark alone is believed."""
_STORED = (
    "id, name, user, digest, created_s, revoked_s, "
    "scope, networks, expires_s, replaces, rotated_s, retires_s"
)
_NAMES = (*_STORED.split(", "), "last_used_s")
_SELECT = (
    f"SELECT {_STORED}, (SELECT last_s FROM key_use WHERE key_use.id = local_key.id) "  # noqa: S608
    "FROM local_key"
)


class SqliteStore:
    """See `Store`. Belongs to one thread: sqlite3 itself refuses any other."""

    __slots__ = (
        "_cache",
        "_change",
        "_connection",
        "_identity",
        "_kept_s",
        "_last_end_s",
        "_ledger",
        "_mark",
        "_next_end_s",
        "_owners",
        "_path",
        "_seen",
        "_trust_until_s",
        "_uses",
        "_validity",
        "_version",
    )

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = connection
        self._identity = _identity(path)
        self._mark = Mark(path.with_name(f"{path.name}-keys"))
        self._seen = b""
        self._trust_until_s = 0.0
        self._version = -1
        self._change = -1
        self._cache: dict[str, KeyRow] = {}
        self._validity = 0
        self._last_end_s, self._next_end_s = -math.inf, math.inf
        """Between these no key ceases to be valid by itself. A clock may be set back, too."""
        self._uses: dict[str, float] = {}
        """Last use by key, where it is not written yet."""
        self._kept_s: dict[str, float] = {}
        """When a key's last use was written last."""
        self._ledger: Ledger | None = None
        self._owners: SqliteOwners | None = None

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
            self._look_at_identity()
            return list(map(_row, self._open().execute(f"{_SELECT} ORDER BY created_s, id")))

    def find(self, name_or_id: str) -> KeyRow:
        with self._errors():
            self._look_at_identity()
            return _find(self._open(), name_or_id)

    def key(self, key_id: str) -> KeyRow | None:
        if self._is_fresh():
            return self._cache.get(key_id)
        with self._errors():
            return self._fresh().get(key_id)

    def validity(self, now_s: float) -> int:
        if self._is_fresh() and self._last_end_s <= now_s < self._next_end_s:
            return self._validity
        with self._errors():
            cache = self._fresh()
            if not self._last_end_s <= now_s < self._next_end_s:
                self._validity += 1
                self._last_end_s, self._next_end_s = _ends_around(cache.values(), now_s)
            return self._validity

    def _is_fresh(self) -> bool:
        """Whether what stands in memory is what stands in the file."""
        return self._mark.read() == self._seen and time.monotonic() < self._trust_until_s

    def _fresh(self) -> dict[str, KeyRow]:
        """All keys by id, as any process has left them."""
        # The mark is read before the numbers, and they before the rows: a change in between only
        # makes us read once more.
        mark, now_s = self._mark.read(), time.monotonic()
        if mark == self._seen and now_s < self._trust_until_s:
            return self._cache
        self._look_at_identity()
        connection = self._open()
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            (change, _) = connection.execute(
                # The keys are looked at too, so that their loss is noticed.
                "SELECT number, EXISTS (SELECT 1 FROM local_key) FROM key_change"
            ).fetchone()
            if change != self._change:
                rows = map(_row, connection.execute(f"{_SELECT} ORDER BY created_s, id"))
                self._cache = {row.id: row for row in rows}
                self._validity += 1
                ends_s = _ends_around(self._cache.values(), time.time())
                self._last_end_s, self._next_end_s = ends_s
                self._change = change
            self._version = version
        self._seen, self._trust_until_s = mark, now_s + _TRUST_S
        return self._cache

    def _look_at_identity(self) -> None:
        """Open the file that has the name now: a backup may have been put back."""
        if _identity(self._path) != self._identity:
            self._reopen()

    def _reopen(self) -> None:
        self._forget()
        if self._connection is not None:
            self._connection.close()
        self._connection = _connect(self._path, must_exist=True)
        self._identity = _identity(self._path)

    # --- writing ----------------------------------------------------------------------------------

    def add_key(
        self,
        name: str,
        user: str,
        minted: Minted,
        *,
        scope: str = "",
        networks: Sequence[str] = (),
        expires_s: float | None = None,
    ) -> KeyRow:
        for what, text in (("key", name), ("user", user)):
            _check_name(what, text)
        row = KeyRow(
            id=minted.id,
            name=name,
            user=user,
            digest=minted.digest,
            created_s=time.time(),
            scope=scope,
            networks=tuple(networks),
            expires_s=expires_s,
        )
        with self._errors(), self._transaction() as connection:
            taken = connection.execute(
                "SELECT 1 FROM local_key WHERE name = ? AND revoked_s IS NULL "
                "AND rotated_s IS NULL",
                (name,),
            ).fetchone()
            if taken:
                raise NameTaken(
                    f"There is a key named {name} already. Choose another name, put a new key in "
                    f"its place (lmk keys rotate {quote(name)}), or revoke it first: "
                    f"lmk keys revoke {quote(name)}"
                )
            _insert(connection, row)
        return row

    def rotate(
        self, name_or_id: str, minted: Minted, *, overlap_s: float, expires_s: float | None
    ) -> tuple[KeyRow, KeyRow]:
        now_s = time.time()
        with self._errors(), self._transaction() as connection:
            old = _find(connection, name_or_id)
            if old.revoked_s is not None:
                raise StoreError(
                    f"The key {old.name} (id {old.id}) is revoked. Make a new one: "
                    f"lmk keys new {quote(old.name)} --user {quote(old.user)}"
                )
            if old.rotated_s is not None:
                raise StoreError(
                    f"The key {old.id} was rotated already, and another has its name. Rotate that "
                    f"one: lmk keys rotate {quote(old.name)}"
                )
            old = replace(old, rotated_s=now_s, retires_s=now_s + overlap_s)
            new = KeyRow(
                id=minted.id,
                name=old.name,
                user=old.user,
                digest=minted.digest,
                created_s=now_s,
                scope=old.scope,
                networks=old.networks,
                expires_s=expires_s,
                replaces=old.id,
            )
            connection.execute(
                "UPDATE local_key SET rotated_s = ?, retires_s = ? WHERE id = ?",
                (old.rotated_s, old.retires_s, old.id),
            )
            _insert(connection, new)
        return old, new

    def expire(self, name_or_id: str, expires_s: float | None) -> KeyRow:
        with self._errors(), self._transaction() as connection:
            row = _find(connection, name_or_id)
            if row.revoked_s is not None:
                raise StoreError(
                    f"The key {row.name} (id {row.id}) is revoked already, and stays so."
                )
            connection.execute(
                "UPDATE local_key SET expires_s = ? WHERE id = ?", (expires_s, row.id)
            )
        return replace(row, expires_s=expires_s)

    def revoke(self, name_or_id: str) -> list[KeyRow]:
        now_s = time.time()
        with self._errors(), self._transaction() as connection:
            row = _find(connection, name_or_id)
            rows = [row]
            if row.name == name_or_id:
                rows += [
                    other
                    for other in map(
                        _row,
                        connection.execute(
                            f"{_SELECT} WHERE name = ? AND id <> ? ORDER BY created_s DESC",
                            (row.name, row.id),
                        ),
                    )
                    if other.ended(now_s) is None
                ]
            connection.executemany(
                "UPDATE local_key SET revoked_s = ? WHERE id = ? AND revoked_s IS NULL",
                [(now_s, each.id) for each in rows],
            )
        return [each if each.revoked else replace(each, revoked_s=now_s) for each in rows]

    # --- uses -------------------------------------------------------------------------------------

    def used(self, key_id: str, now_s: float) -> None:
        self._uses[key_id] = now_s

    def keep_uses(self, now_s: float) -> None:
        due = {
            key_id: used_s
            for key_id, used_s in self._uses.items()
            if not 0 <= now_s - self._kept_s.get(key_id, -math.inf) < _USE_EVERY_S
        }
        if due:
            with self._errors():
                if self._write_uses(due, wait=False):
                    self._kept_s |= dict.fromkeys(due, now_s)

    def _write_uses(self, uses: dict[str, float], *, wait: bool) -> bool:
        """Whether they were written; without `wait` they are not where another writes."""
        connection = self._open()
        if not wait:
            connection.execute("PRAGMA busy_timeout = 0")
        # Without a sync: after a power cut a use is forgotten, and nothing else.
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "INSERT INTO key_use (id, last_s) VALUES (?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET last_s = max(last_s, excluded.last_s)",
                    list(uses.items()),
                )
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            if wait or not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
            return False
        finally:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000:.0f}")
        for key_id, used_s in uses.items():
            if self._uses.get(key_id) == used_s:
                del self._uses[key_id]
        return True

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction of keys, which sees the newest state from its start."""
        self._look_at_identity()
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
            self._mark.change()
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            self._forget()  # data_version tells of others' commits alone

    # --- life -------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            from llamakey_addon.store.sqlite_ledger import SqliteLedger

            self._ledger = SqliteLedger(self._path)
        return self._ledger

    @property
    def owners(self) -> Owners:
        if self._owners is None:
            from llamakey_addon.store.sqlite_owners import SqliteOwners

            self._owners = SqliteOwners(self._path)
        return self._owners

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        if self._owners is not None:
            self._owners.close()
        self._mark.close()
        if self._connection is None:
            return
        try:
            if self._uses:
                self._write_uses(dict(self._uses), wait=True)
        except (OSError, sqlite3.Error):
            pass  # a store that fails has been told of; nothing but the last uses is lost
        finally:
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
        self._trust_until_s = 0.0
        self._version = self._change = -1
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


def _connect(
    path: Path, *, must_exist: bool = False, synchronous: Literal["FULL", "NORMAL"] = "FULL"
) -> sqlite3.Connection:
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
        connection.execute(f"PRAGMA synchronous = {synchronous}")
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
            for suffix in ("", "-wal", "-shm", "-keys"):
                try:
                    path.with_name(path.name + suffix).chmod(0o600)
                except FileNotFoundError:
                    pass


def _identity(path: Path) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino


# --- rows -----------------------------------------------------------------------------------------


def _row(stored: Sequence[Any]) -> KeyRow:
    """A key of what `_SELECT` gives."""
    values = dict(zip(_NAMES, stored, strict=True))
    return KeyRow(**values | {"networks": tuple(values["networks"].split())})


def _insert(connection: sqlite3.Connection, row: KeyRow) -> None:
    values = [getattr(row, name) for name in _NAMES[:-1]]
    values = [" ".join(value) if isinstance(value, tuple) else value for value in values]
    connection.execute(
        f"INSERT INTO local_key ({_STORED}) VALUES ({', '.join('?' * len(values))})",  # noqa: S608
        values,
    )


def _find(connection: sqlite3.Connection, name_or_id: str) -> KeyRow:
    """See `Store`. Raises UnknownKey."""
    wanted = _public_part(name_or_id)
    found = connection.execute(
        # A name first, of several the one that has it now; then an id.
        f"{_SELECT} WHERE name = :it OR id = :it ORDER BY name = :it DESC, "
        "revoked_s IS NULL DESC, rotated_s IS NULL DESC, created_s DESC LIMIT 1",
        {"it": wanted},
    ).fetchone()
    if found is None:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT DISTINCT name FROM local_key WHERE revoked_s IS NULL ORDER BY name"
            )
        ]
        raise UnknownKey(_unknown(wanted, names))
    return _row(found)


def _ends_around(rows: Iterable[KeyRow], now_s: float) -> tuple[float, float]:
    """When the last key ceased to be valid by itself, and when the next one will; infinity where
    none does."""
    ends = [time_s for row in rows for time_s in (row.expires_s, row.retires_s) if time_s]
    return (
        max((time_s for time_s in ends if time_s <= now_s), default=-math.inf),
        min((time_s for time_s in ends if time_s > now_s), default=math.inf),
    )


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
