"""The address of a client behind proxies, as far as they can be believed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from llamakey_addon.journey import Headers

_PORT = re.compile(r":[0-9]{1,5}")
# RFC 7239: elements are parted by `,`, their pairs `name=value` by `;`; values may be quoted.
_ELEMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+')
_PAIR = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^;"])+')


def client_address(
    peer: str, headers: Headers, trusted: Collection[IPv4Network | IPv6Network]
) -> str:
    """The right-most address that no trusted proxy has: what a client writes itself stands left.

    Arguments:
        peer: address of the connection, without port.
        headers: of the request; X-Forwarded-For and Forwarded are looked at.
        trusted: networks of the proxies that are believed.

    The headers count only when the peer is trusted. An entry that is no address (`unknown`,
    `_hidden`) ends the search at the proxy that wrote it, and so do two headers that disagree: one
    of them may be the client's own.
    """
    address = _address(peer)
    if address is None or not _in(address, trusted):
        return peer
    found = {
        _walk(address, entries, trusted)
        for entries in (_x_forwarded_for(headers), _forwarded(headers))
        if entries
    }
    return str(found.pop() if len(found) == 1 else address)


def is_within(peer: str, networks: Collection[IPv4Network | IPv6Network]) -> bool:
    """Whether an address, without port, is of one of the networks; what is no address is of none.

    IPv4 written as IPv6 (`::ffff:10.0.0.1`) is IPv4.
    """
    address = _address(peer)
    return address is not None and _in(address, networks)


def _walk(
    address: IPv4Address | IPv6Address,
    entries: list[str],
    trusted: Collection[IPv4Network | IPv6Network],
) -> IPv4Address | IPv6Address:
    for entry in reversed(entries):
        before = _address(entry)
        if before is None:
            break
        address = before
        if not _in(address, trusted):
            break
    return address


def _x_forwarded_for(headers: Headers) -> list[str]:
    return [
        entry.strip()
        for value in _values(headers, b"x-forwarded-for")
        for entry in value.split(",")
        if entry.strip()
    ]


def _forwarded(headers: Headers) -> list[str]:
    """The `for` of each element; "" where there is none, for the element stands for a proxy."""
    entries = []
    for value in _values(headers, b"forwarded"):
        for element in _ELEMENT.findall(value):
            if not element.strip():
                continue
            found = [
                value.strip()
                for name, _, value in (pair.partition("=") for pair in _PAIR.findall(element))
                if name.strip().lower() == "for"
            ]
            # Two in one element are a contradiction.
            text = found[0] if len(found) == 1 else ""
            if text.startswith('"'):
                text = re.sub(r"\\(.)", r"\1", text[1:-1])
            entries.append(text)
    return entries


def _values(headers: Headers, name: bytes) -> Iterator[str]:
    for key, value in headers:
        if key.lower() == name:
            yield value.decode("latin-1")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without port, brackets or zone."""
    text = text.strip()
    if text.startswith("["):
        text, _, rest = text[1:].partition("]")
        if rest and not _PORT.fullmatch(rest):
            return None
    elif text.count(":") == 1:
        text, colon, port = text.partition(":")
        if not _PORT.fullmatch(colon + port):
            return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _in(
    address: IPv4Address | IPv6Address, networks: Collection[IPv4Network | IPv6Network]
) -> bool:
    return any(address in network for network in networks)
