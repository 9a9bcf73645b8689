"""The owner's own local key, and `./llamakey_local.env`, where it stands.

A first start mints one, so that the proxy is open to nobody else, not even on loopback. A later
start finds it in the file and proves it against the store.
"""

from __future__ import annotations

import errno
import getpass
import hmac
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from llamakey_addon import keys
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.serve import envfile
from llamakey_addon.store import NameTaken, Store

_FILE_MAX_BYTES = 1 << 20


class FileRefused(LlamaKeyError):
    """llamakey_local.env can't be written here."""


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A key of the current user's, that this proxy accepts."""

    text: str = field(repr=False)
    name: str
    user: str
    new: bool
    """Whether it was minted just now."""


def read(path: Path) -> str:
    """The file's text; "" for one that is not there or can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(_FILE_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def verified(path: Path, store: Store) -> LocalKey | None:
    """The first key in the file that the store knows and that is valid."""
    for text in envfile.find_keys(read(path)):
        parsed = keys.parse(text)
        row = None if parsed is None else store.key(parsed.id)
        if parsed is None or row is None or row.ended(time.time()) is not None:
            continue
        if hmac.compare_digest(row.digest, parsed.digest):
            return LocalKey(text, row.name, row.user, new=False)
    return None


def mint(store: Store, user: str | None = None) -> LocalKey:
    """A new key for the current user; `alice`, `alice-2`, … is its name."""
    user = user or current_user()
    minted = keys.mint()
    number = 1
    while True:
        name = user if number == 1 else f"{user}-{number}"
        try:
            store.add_key(name, user, minted)
        except NameTaken:
            number += 1
            continue
        return LocalKey(minted.text, name, user, new=True)


def current_user() -> str:
    """The login name as the store takes it; `owner` where the system has none."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = ""
    name = re.sub(r"[^A-Za-z0-9._@-]+", "-", name).strip("-")
    return name[:48] or "owner"


def make(path: Path, store: Store, content: Callable[[LocalKey], str]) -> LocalKey:
    """Reuse the key in the file or mint one, and write the file anew with `content(key)`.

    The file is made before a key is: where it can't be written, none is left over in the store.
    Raises FileRefused.
    """
    with _Beside(path) as beside:
        key = verified(path, store) or mint(store)
        try:
            beside.finish(content(key))
        except BaseException:
            if key.new:  # nobody has seen it
                store.revoke(key.name)
            raise
    return key


def write(path: Path, content: str) -> None:
    """Write a private file in one step. Raises FileRefused."""
    with _Beside(path) as beside:
        beside.finish(content)


class _Beside:
    """A private file that takes the place of `path` in one step, when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Beside:
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder has its name")
            # mkstemp makes it 0600, whatever the umask.
            self._descriptor, self._name = tempfile.mkstemp(
                prefix=f".{self._path.name}.", dir=self._path.parent
            )
        except OSError as error:
            raise self._refused(error) from None
        return self

    def finish(self, content: str) -> None:
        try:
            with open(self._descriptor, "w", encoding="utf-8", newline="\n") as file:
                self._descriptor = -1
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self._name, self._path)
        except OSError as error:
            raise self._refused(error) from None

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        # Gone already where it took its place.
        Path(self._name).unlink(missing_ok=True)

    def _refused(self, error: OSError) -> FileRefused:
        return FileRefused(
            f"{self._path} can't be written ({error.strerror or type(error).__name__}). "
            "Start lmk in a folder of yours, or make keys by hand: lmk keys new NAME --env"
        )
