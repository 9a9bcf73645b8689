"""The second door: a port that takes CONNECT, for SDKs that no variable redirects.

The road judges whom a CONNECT is for (`doorway.py`); here stands what it needs of TLS: a
certificate for each provider's host, of the authority that clients of this door trust.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from llamakey_addon import certificates, doorway
from llamakey_addon.certificates import CertificateRefused
from llamakey_addon.config import Settings
from llamakey_addon.config.addresses import is_loopback
from llamakey_addon.config.settings import Trust
from llamakey_addon.edge import RoadEdge
from llamakey_addon.errors import ConfigError, NotReady, TooMany
from llamakey_addon.house import House
from llamakey_addon.road import Road
from llamakey_addon.serve import show
from llamakey_addon.serve.client import ClientConnection
from llamakey_addon.serve.door import Door, Nobody
from llamakey_addon.serve.turns import Seat

#: Hosts that only a provider can name (a glob of the catalogue's, so without end) get a certificate
#: each, and whoever reaches the port can ask for one: so many are kept, and after so many at once
#: one more a second is made.
_NAMED: Final = 256
_AT_ONCE: Final = 64
_FRESH_S: Final = 7 * 86400
"""A certificate is made anew long before its end."""


class SecondDoor(Door):
    """Its listening sockets, and its certificates.

    Arguments:
        sockets: bound; they are this object's from now on.
        seat: as a `Door`'s.
    """

    def __init__(
        self, house: House, sockets: Sequence[socket.socket], seat: Seat | None = None
    ) -> None:
        super().__init__(house, sockets, seat=seat)
        self._contexts: OrderedDict[str, tuple[ssl.SSLContext, float]] = OrderedDict()
        self._named: OrderedDict[str, tuple[ssl.SSLContext, float]] = OrderedDict()
        """Of hosts that are in no book; the last used at the end."""
        self._book: tuple[Settings | None, frozenset[str]] = (None, frozenset())
        self._may_make = float(_AT_ONCE)
        self._counted_s = time.monotonic()

    def _entrance(self) -> ClientConnection | Nobody:
        try:
            return ClientConnection(self)
        except BaseException as error:
            self.house.gate.book.alarm(error)
            return Nobody()

    def road(self, rim: RoadEdge, peer: str) -> Road:
        return Road(rim, self.house.gate, peer, door=True)  # type: ignore[arg-type]

    def context(self, host: str) -> ssl.SSLContext:
        kept = self._contexts if host in self._hosts() else self._named
        found = kept.get(host)
        now_s = time.monotonic()
        if found is not None and now_s - found[1] < _FRESH_S:
            kept.move_to_end(host)
            return found[0]
        if kept is self._named:
            self._count_one_more(host, now_s)
        place = certificates.door_in(self.house.settings.data_folder)
        try:
            with certificates.leaf(place, host) as path:
                context = _server_context(path)
        except CertificateRefused as refused:
            raise NotReady(
                f"The second door's authority does not vouch for {host} yet. The proxy's owner "
                "starts the proxy again, and clients take the new ca.pem.",
                setting="door",
                detail=str(refused),
            ) from None
        kept[host] = (context, now_s)
        if len(self._named) > _NAMED:
            self._named.popitem(last=False)
        return context

    def _hosts(self) -> frozenset[str]:
        """Hosts that are in the book, by the settings of now."""
        settings = self.house.settings
        if self._book[0] is not settings:
            hosts = frozenset(doorway.hosts(settings.providers.values()))
            for gone in self._contexts.keys() - hosts:
                del self._contexts[gone]
            self._book = (settings, hosts)
        return self._book[1]

    def _count_one_more(self, host: str, now_s: float) -> None:
        self._may_make = min(_AT_ONCE, self._may_make + now_s - self._counted_s)
        self._counted_s = now_s
        if self._may_make < 1:
            raise TooMany(
                f"Too many hosts that were not called before: {host} has to wait. Try again soon.",
                retry_after_s=2,
            )
        self._may_make -= 1


def _server_context(path: str) -> ssl.SSLContext:
    """HTTP/1.1 is spoken; HTTP/2 is chosen with those alone that speak nothing else, to tell them
    so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1", "h2"])
    context.load_cert_chain(path, password="")
    context.sni_callback = _keep_name
    return context


def _keep_name(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
    tls.asked_for = name or ""  # type: ignore[attr-defined]


def prepare(settings: Settings) -> Settings:
    """What a start does: make the authority, or another where this one does not vouch for every
    provider's host; say so. The settings, with what clients trust.

    Raises ConfigError, CertificateRefused.
    """
    _refuse_loop(settings)
    place = certificates.door_in(settings.data_folder)
    known = place.ca.is_file()
    hosts = doorway.hosts(settings.providers.values())
    missed = certificates.ensure_door(place, certificates.place_in(settings.data_folder), hosts)
    if missed and known:
        show.warning(
            f"The second door has another authority from now on, since the one before did not "
            f"vouch for {some(missed)}, or was near its end. Programs that run take it when they "
            f"start anew; other machines need {place.ca}: lmk tls --trust-door ca.pem",
            sys.stderr,
        )
    door = replace(settings.door, trust=Trust(place.ours, place.bundle))
    return replace(settings, door=door)


def lacking(settings: Settings) -> list[str]:
    """Hosts of providers for which the authority does not vouch."""
    place = certificates.door_in(settings.data_folder)
    return certificates.not_vouched_for(place, doorway.hosts(settings.providers.values()))


def some(hosts: Sequence[str]) -> str:
    """The first few, for people."""
    return ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")


def _refuse_loop(settings: Settings) -> None:
    """Where the proxy itself was told to go through its own door, nothing would ever arrive."""
    for name in (settings.upstream_proxy, urllib.request.getproxies().get("https")):
        with contextlib.suppress(ValueError):
            parts = urlsplit(name or "")
            here = is_loopback(parts.hostname or "") or parts.hostname == settings.door.listen.host
            if here and parts.port == settings.door.listen.port:
                raise ConfigError(
                    "The proxy would reach the providers by its own second door: HTTPS_PROXY (or "
                    "upstream_proxy) names it. Start it in a shell without, not by `lmk run`."
                )
