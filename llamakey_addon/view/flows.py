"""Somebody looks: from then on each request is also a mitmproxy flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llamakey_addon.here import HEALTH_PATH
from llamakey_addon.view.lookers import anybody

if TYPE_CHECKING:
    from mitmproxy.master import Master

    from llamakey_addon.house import House, Watcher
    from llamakey_addon.journey import Ask
    from llamakey_addon.rim import Look
    from llamakey_addon.road import Road


def watcher_for(master: Master, house: House) -> Watcher:
    """What makes a flow of a request while somebody looks, and None while nobody does.

    Options are read now: ask again when they change. Addons that come or go are noticed.
    """
    return _Watch(master, house)


class _Watch:
    def __init__(self, master: Master, house: House) -> None:
        self._master = master
        self._house = house
        self._addons: list[Any] = []
        self._ids: list[int] = []
        self._wanted = False

    def __call__(self, ask: Ask, road: Road, client: Callable[[], Any]) -> Look | None:
        if not self._somebody() or ask.target == HEALTH_PATH:
            return None
        from llamakey_addon.view.showing import Showing  # mitmproxy's HTTP: only for those who look

        return Showing(self._master, self._house, road, ask, client())

    def _somebody(self) -> bool:
        addons = self._master.addons.lookup.values()
        if list(map(id, addons)) != self._ids:
            self._addons = list(addons)  # kept, so that no other comes to have its id
            self._ids = list(map(id, self._addons))
            self._wanted = anybody(self._addons, self._master.options)
        return self._wanted
