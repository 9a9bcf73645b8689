"""The second door: whom a CONNECT may be for, and whether what comes by its tunnel fits it.

Here the *host* chooses the provider. Each host of a catalogued or configured provider is in the
book, with the port of its origin and no other; so are the hosts of its regions, and those of its
servers of tokens, which the proxy answers itself. What is in none of them is refused before a name
is looked up, unless `door.tunnel` lists it: then bytes pass as they are, both ways.

No I/O. CONNECT's host, the name that TLS asks for, and each request's Host have to be the same.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from llamakey_addon.errors import BadRequest, Forbidden, Misdirected
from llamakey_addon.globs import glob
from llamakey_addon.hosts import fits
from llamakey_addon.journey import Passage, Upstream

if TYPE_CHECKING:
    from llamakey_addon.config import Settings
    from llamakey_addon.journey import Ask, Headers, Provider

__all__ = ["Hosts", "check", "hosts", "read"]

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
_TLS_PORT: Final = 443
_NOWHERE: Final = ".invalid"
"""End of a host that a provider of the owner's own has in place of the catalogue's."""


def read(ask: Ask) -> tuple[str, int]:
    """The host, in lower case, and the port that a CONNECT is for.

    Raises BadRequest, and Misdirected where its Host says otherwise.
    """
    match = _AUTHORITY.fullmatch(ask.target)
    if match is None or not 0 < int(match[2]) < 65536:
        raise BadRequest("CONNECT names HOST:PORT, and nothing else.")
    if ask.body_length != 0:
        raise BadRequest("CONNECT has no body.")
    host, port = match[1].lower().strip("[]"), int(match[2])
    named = _host_fields(ask.headers)
    if any(name not in (match[1].lower(), ask.target.lower()) for name in named):
        raise Misdirected(f"Its Host says another than CONNECT {host}:{port}.")
    return host, port


def check(ask: Ask) -> None:
    """Raise Misdirected or BadRequest where a request does not belong into its tunnel."""
    passage = ask.passage
    if passage is None:
        return
    wanted = "" if _is_address(passage.host) else passage.host
    if passage.sni.lower() != wanted:
        raise Misdirected(
            f"This tunnel was opened for {passage.host}, and its TLS names "
            f"{'another host' if passage.sni else 'no host'}. Name the same in both."
        )
    named = _host_fields(ask.headers)
    if [name.removesuffix(f":{passage.port}") for name in named] != [
        passage.authority.removesuffix(f":{passage.port}")
    ]:
        raise Misdirected(
            f"This tunnel was opened for {passage.host}, and the request's Host says otherwise. "
            "Open one for each host."
        )
    if not ask.target.startswith(f"/{passage.lead}/"):
        raise BadRequest("Within a tunnel a request has a path, as in GET /v1/models.")


class Hosts:
    """Hosts, and what they stand for, by one snapshot of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._passages = {
            (passage.host, passage.port): passage
            for passage in reversed(list(_passages(settings.providers.values())))
        }
        self._globs = [
            (glob, provider.prefix)
            for provider in settings.providers.values()
            for glob in provider.entry.named_hosts
        ]
        self._tunnel = settings.door.tunnel

    def find(self, host: str, port: int) -> Passage | Upstream:
        """What a CONNECT leads to: a provider, or a host to which bytes pass as they are.

        Raises Forbidden.
        """
        passage = self._passages.get((host, port))
        if passage is not None:
            return passage
        for named, prefix in self._globs if port == _TLS_PORT else ():
            if fits(named, host):
                return Passage(host, port, prefix, named=host)
        for pattern in self._tunnel:
            of_host, _, of_port = pattern.partition(":")
            if port == int(of_port or _TLS_PORT) and glob(of_host, "names").fullmatch(host):
                return Upstream("tcp", host, port, public=of_host != host)
        if any(host == known for known, _ in self._passages):
            raise Forbidden(f"Port {port} of {host} is not served here; 443 is.")
        raise Forbidden(
            f"{host} is no provider's host. The proxy's owner can let it through by door.tunnel "
            "in config.yaml; where you need no provider, run the command without `lmk run`.",
            setting="door.tunnel",
        )


def hosts(providers: Iterable[Provider]) -> list[str]:
    """Every host for which the door stands, once: for its authority."""
    known = list(providers)
    found = [passage.host for passage in _passages(known)]
    # of a glob, the domain below which its hosts are
    globs = [glob for provider in known for glob in provider.entry.named_hosts]
    found += (glob.rpartition("*")[2].partition(".")[2] if "*" in glob else glob for glob in globs)
    return list(dict.fromkeys(found))


def _passages(providers: Iterable[Provider]) -> Iterator[Passage]:
    """Of two for one host the first counts: the catalogue's before the owner's own, a provider's
    own hosts before its servers of tokens."""
    known = list(providers)
    for provider in known:
        for host, port, upstream in _places(provider):
            yield Passage(host, port, provider.prefix, upstream)
    for provider in known:
        for call in provider.entry.sign_in:
            for host in call.hosts:
                yield Passage(host, _TLS_PORT, provider.prefix, sign_in=True)


def _places(provider: Provider) -> Iterator[tuple[str, int, Upstream | None]]:
    """Hosts and ports, with the upstream of a region."""
    entry, regions = provider.entry, provider.regions
    texts = [entry.upstream, *(f"https://{host}" for host in entry.hosts)]
    for text in texts:
        parts = urlsplit(text)
        host = parts.hostname or ""
        if parts.scheme == "https" and "{" not in text and not host.endswith(_NOWHERE):
            yield host, parts.port or _TLS_PORT, None
    if provider.upstream is not None and provider.upstream.tls:
        yield provider.upstream.host, provider.upstream.port, None
    if entry.regions is not None:
        named = dict.fromkeys((*entry.regions.known, *regions), entry.regions.upstream)
        for name, text in (named | entry.regions.special).items():
            host = urlsplit(text.replace("{region}", name)).hostname or ""
            yield host, _TLS_PORT, regions.get(name)


def _host_fields(headers: Headers) -> list[str]:
    return [value.decode("latin-1").lower() for name, value in headers if name.lower() == b"host"]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
