"""Who made what under an account of a provider's: the contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose something is."""

    user: str
    """As names of users are compared."""
    team: str
    """The team that the user belonged to when it was made, or ""."""
    key_id: str = ""
    made_s: float = 0.0


class Owners(Protocol):
    """Belongs to the thread that opened the store. Every method may raise StoreError."""

    def find(self, provider: str, kind: str, ids: Collection[str]) -> Mapping[str, Owner]:
        """Whose these are; those that are nobody's are left out."""

    def claim(self, provider: str, kind: str, ids: Collection[str], owner: Owner) -> None:
        """Put ids in somebody's name, committed; those that are in a name stay there."""

    def release(self, provider: str, kind: str, id: str) -> None:
        """It was deleted: it is nobody's."""
