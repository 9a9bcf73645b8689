"""Whom the second door lets through, and to where: `doorway` says what stands behind a host, the
local key in the proxy's URL who comes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llamakey_addon import authenticate, doorway
from llamakey_addon.errors import Denied, ProxyKeyWanted
from llamakey_addon.journey import Ask, Detour, Passage

if TYPE_CHECKING:
    from llamakey_addon.book import Book
    from llamakey_addon.config import Settings
    from llamakey_addon.store import Store


class Door:
    """Lets through by one snapshot of the settings."""

    def __init__(self, settings: Settings, store: Store, book: Book) -> None:
        self._settings = settings
        self._store = store
        self._book = book
        self._hosts = doorway.Hosts(settings)

    def connect(self, ask: Ask) -> Passage | Detour:
        """Where does this CONNECT lead, and who sends it?

        Raises Denied. No name has been looked up by then, and nothing sent.
        """
        host, port = doorway.read(ask)
        row = authenticate.at_the_door(ask, self._store)
        try:
            way = self._hosts.find(host, port)
        except Denied as denied:
            denied.key_id = "" if row is None else row.id
            raise
        if row is not None:
            self._store.used(row.id, ask.time_s)
        if isinstance(way, Passage):
            return way if row is None else replace(way, key_id=row.id)
        if row is None:
            raise ProxyKeyWanted(
                f"{host} is let through for holders of a local key alone. Put yours into the "
                "proxy's URL: http://key:<your key>@HOST:PORT, as `lmk run` does."
            )
        self._book.note(f"{ask.id}: {row.user} goes through to {host}:{port}")
        return Detour(way, row.id)

    def foreign_word(self, passage: Passage) -> str:
        """What a client is told that speaks HTTP/2 alone: the way that works."""
        entry = self._settings.providers[passage.prefix].entry
        said = [client.why for client in entry.clients if client.door == "none"]
        return (
            said[0]
            if said
            else (
                f"gRPC and HTTP/2 are not carried here. Use an SDK of {entry.name}'s that speaks "
                "HTTP/1.1 (where there is a choice of transports: REST)."
            )
        )
