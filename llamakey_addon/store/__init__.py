"""Where local keys and the ledger are kept: the contract, and how to open it.

The store is the one thing that `lmk` (the owner's command) and the running proxy share: each call
sees what other processes have committed, so that a revoked key is refused at its next request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self

from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.keys import Minted

if TYPE_CHECKING:
    from llamakey_addon.store.ledger import Ledger
    from llamakey_addon.store.owners import Owners

__all__ = [
    "Ended",
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


type Ended = Literal["revoked", "rotated", "expired"]
"""Why a key is not valid any more."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """What is known of a local key. The key itself is not."""

    id: str
    name: str
    """Unique among keys that are neither revoked nor rotated."""
    user: str
    digest: bytes = field(repr=False)
    """SHA-256 of the key."""
    created_s: float
    """UTC seconds since 1970, like every time here."""
    revoked_s: float | None = None
    scope: str = ""
    """What it may do of what its user may: JSON of the shape of a user's part in config.yaml; ""
    for all of it."""
    networks: tuple[str, ...] = ()
    """From where it may be used, as CIDR; empty means from anywhere."""
    expires_s: float | None = None
    replaces: str = ""
    """Id of the key that this one was rotated from, or ""."""
    rotated_s: float | None = None
    """When another took its place; that one has the same name."""
    retires_s: float | None = None
    """Of a rotated key: until when it is valid beside the new one."""
    last_used_s: float | None = None
    """As of the last look at all keys; up to a minute late."""

    @property
    def revoked(self) -> bool:
        return self.revoked_s is not None

    def ended(self, now_s: float) -> Ended | None:
        """Why it is not valid any more, or None."""
        if self.revoked_s is not None:
            return "revoked"
        if self.retires_s is not None and self.retires_s <= now_s:
            return "rotated"
        if self.expires_s is not None and self.expires_s <= now_s:
            return "expired"
        return None


class Store(Protocol):
    """Belongs to the thread that opened it. Every method may raise StoreError.

    Where a key is asked for by `name_or_id`: its name (the newest of the name, living ones first),
    its id, or its text, whole or masked; UnknownKey when there is none.
    """

    # --- the owner's hand on keys -----------------------------------------------------------------

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
        """Keep a new key, durably. `scope` and `networks` are taken as they are, valid ones.

        Raises NameTaken.
        """

    def keys(self) -> list[KeyRow]:
        """All keys, ended ones too, oldest first, with their last use."""

    def find(self, name_or_id: str) -> KeyRow:
        """One key."""

    def rotate(
        self, name_or_id: str, minted: Minted, *, overlap_s: float, expires_s: float | None
    ) -> tuple[KeyRow, KeyRow]:
        """Put a new key of the same name, user, scope and networks in the place of a key, durably;
        the old one is valid for `overlap_s` more. Both, the old one first.

        Raises StoreError when the key is revoked or has been rotated already.
        """

    def expire(self, name_or_id: str, expires_s: float | None) -> KeyRow:
        """Set when a key expires, durably; None: never. Raises StoreError for a revoked one."""

    def revoke(self, name_or_id: str) -> list[KeyRow]:
        """Revoke a key, durably; what is revoked stays as it is.

        By its name: with it those that it was rotated from and that are not revoked, so that
        nothing of the name is valid any more. The key itself comes first.
        """

    # --- the running proxy ------------------------------------------------------------------------

    def key(self, key_id: str) -> KeyRow | None:
        """The key of this id as it is now, ended or not; some microseconds."""

    def validity(self, now_s: float) -> int:
        """A number that changes when any key may have ceased to be valid: because a process has
        changed keys, or because one's time was up. Some microseconds."""

    def used(self, key_id: str, now_s: float) -> None:
        """Note a use of a key, in memory."""

    def keep_uses(self, now_s: float) -> None:
        """Write what `used` noted, each key at most once a minute. Waits neither for the disk nor
        for another writer: what is not written now is written by a later call, or by `close`."""

    # --- life -------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """Who asked for what, and what it came to; see `store/ledger.py`. Closed with the store."""

    @property
    def owners(self) -> Owners:
        """Who made what under an account; see `store/owners.py`. Closed with the store."""

    def close(self) -> None:
        """Write what is left, and give everything back. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


def open_store(data_folder: Path) -> Store:
    """Open the store in `data_folder`, making folder and file where there are none.

    Raises ConfigError when it can't be used: not writable, not a store, or of a newer LlamaKey.
    """
    from llamakey_addon.store.sqlite import SqliteStore

    return SqliteStore.open(data_folder)
