"""Where local keys are kept: the contract, and how to open it.

The store is the one thing that `lmk` (the owner's command) and the running proxy share: each call
sees what other processes have committed, so that a revoked key is refused at its next request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.keys import Minted

__all__ = [
    "KeyRow",
    "NameTaken",
    "Store",
    "StoreError",
    "UnknownKey",
    "open_store",
]


class StoreError(LlamaKeyError):
    """The store can't do what was asked; the message names the remedy."""


class NameTaken(StoreError):
    """A key of this name exists and is not revoked."""


class UnknownKey(StoreError):
    """No key has this name or id."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """What is known of a local key. The key itself is not."""

    id: str
    name: str
    """Unique among keys that are not revoked."""
    user: str
    digest: bytes = field(repr=False)
    """SHA-256 of the key."""
    created_s: float
    """UTC seconds since 1970."""
    revoked_s: float | None = None

    @property
    def revoked(self) -> bool:
        return self.revoked_s is not None


class Store(Protocol):
    """Belongs to the thread that opened it. Every method may raise StoreError."""

    def add_key(self, name: str, user: str, minted: Minted) -> KeyRow:
        """Keep a new key, durably. Raises NameTaken."""

    def keys(self) -> list[KeyRow]:
        """All keys, revoked ones too, oldest first."""

    def revoke(self, name_or_id: str) -> KeyRow:
        """Revoke a key, durably; one that is revoked stays as it is.

        Takes a name, an id, or a key's text, whole or masked. Raises UnknownKey.
        """

    def key(self, key_id: str) -> KeyRow | None:
        """The key of this id as it is now, revoked or not; some microseconds."""

    def close(self) -> None:
        """Give everything back. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


def open_store(data_folder: Path) -> Store:
    """Open the store in `data_folder`, making folder and file where there are none.

    Raises ConfigError when it can't be used: not writable, not a store, or of a newer LlamaKey.
    """
    from llamakey_addon.store.sqlite import SqliteStore

    return SqliteStore.open(data_folder)
