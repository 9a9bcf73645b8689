"""Addresses as an owner writes them: listening ones, origins, networks; and which of them are us.

Nothing here asks the DNS: settings load without a network.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from llamakey_addon.config.settings import Listen
from llamakey_addon.journey import Upstream

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_WITHIN_IPV6 = ipaddress.ip_network("::/96")  # IPv4 as IPv6 once wrote it


class AddressError(ValueError):
    """An address can't be used; the message says what is expected and shows nothing of it."""


def parse_listen(text: str | int) -> Listen:
    """`HOST:PORT`, `:PORT` (every interface), `PORT` or `HOST` of port 8000. Raises AddressError.

    An IPv6 host stands in brackets.
    """
    expected = "write HOST:PORT, e.g. localhost:8000, 0.0.0.0:8000 or [::1]:8000"
    text = str(text).strip()
    if text.isascii() and text.isdigit():
        host, port_text = "localhost", text
    elif text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_ip(host, 6):
            raise AddressError(expected)
        port_text = rest[1:] if rest else "8000"
    elif text.count(":") > 1:
        raise AddressError(f"an IPv6 address stands in brackets: {expected}")
    else:
        host, colon, port_text = text.partition(":")
        host = host or ("0.0.0.0" if colon else "")  # noqa: S104  written so by the owner
        port_text = port_text if colon else "8000"
        if host == "*":
            host = "0.0.0.0"  # noqa: S104
        if not _HOST.fullmatch(host):
            raise AddressError(expected)
    if not (port_text.isascii() and port_text.isdigit() and int(port_text[:9]) <= 65535):
        raise AddressError(f"a port is a number up to 65535: {expected}")
    return Listen(host.lower(), int(port_text))


@lru_cache(maxsize=512)
def parse_origin(text: str) -> Upstream:
    """Scheme, host and port of a provider's origin. Raises AddressError."""
    expected = "write an origin, e.g. https://api.example.com or http://127.0.0.1:11434"
    parts = _split(text, expected)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise AddressError(
            f"a path can't stand here, it comes from the client behind the prefix: {expected}"
        )
    host = _host(parts, expected)
    return Upstream(parts.scheme, host, _port(parts))


def parse_public_url(text: str) -> str:
    """The URL by which clients reach us, without a trailing slash. Raises AddressError."""
    expected = "write the URL that clients use, e.g. https://llm.example.com"
    parts = _split(text, expected)
    if parts.query or parts.fragment:
        raise AddressError(expected)
    host = _host(parts, expected)
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path):
        raise AddressError(expected)
    return f"{Upstream(parts.scheme, host, _port(parts)).origin}{parts.path.rstrip('/')}"


def _split(text: str, expected: str) -> SplitResult:
    # urlsplit takes tabs and line breaks out of what it reads; here they are errors.
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise AddressError(f"it has characters that no address has: {expected}")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise AddressError(expected) from None
    if parts.scheme not in _PORTS:
        raise AddressError(expected)
    if "@" in parts.netloc:
        raise AddressError(
            "a user or password can't stand in an address: a key belongs into `key`, by reference"
        )
    return parts


def _host(parts: SplitResult, expected: str) -> str:
    host = parts.hostname or ""
    valid = _is_ip(host, 6) if "[" in parts.netloc else bool(_HOST.fullmatch(host))
    if not valid:
        raise AddressError(expected)
    return host.lower().rstrip(".")


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        raise AddressError("a port is a number up to 65535") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise AddressError("a port is a number from 1 to 65535")
    return port or _PORTS[parts.scheme]


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version and "%" not in text
    except ValueError:
        return False


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is by itself, in any spelling that a resolver takes (`127.1`)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone: `localhost`, 127.0.0.0/8, ::1."""
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _ip(host)
    return address is not None and address.is_loopback


def is_public(host: str) -> bool:
    """Whether an address is one of the public internet, whatever it wraps."""
    address = _ip(host)
    if address is None or not address.is_global or address.is_multicast:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_site_local or address in _WITHIN_IPV6:
            return False
        inner = [address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        return all(each is None or each.is_global for each in inner)
    return True


def is_wildcard(host: str) -> bool:
    """Whether a host stands for every interface."""
    address = _ip(host)
    return address is not None and address.is_unspecified


@dataclass(frozen=True, slots=True)
class Ourselves:
    """By which addresses this proxy is reached; an upstream among them would be a loop."""

    listen: Listen
    public_url: str

    def has(self, upstream: Upstream) -> bool:
        """Whether requests to `upstream` would come back to us."""
        public = urlsplit(self.public_url)
        if upstream.host == public.hostname and upstream.port == (
            public.port or _PORTS[public.scheme]
        ):
            return True
        if upstream.port != self.listen.port:
            return False
        if upstream.host == self.listen.host:
            return True
        here = is_loopback(upstream.host) or is_wildcard(upstream.host)
        if is_loopback(self.listen.host):
            return here
        return is_wildcard(self.listen.host) and (
            here or upstream.host == socket.gethostname().lower()
        )
