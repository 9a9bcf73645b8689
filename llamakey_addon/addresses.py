"""Answers that name the provider's own addresses: what becomes of them.

An address that the client will follow with its key becomes one of the proxy's: the origin by which
the client reached us, the provider's prefix, the address's own path. The catalogue says where such
addresses stand (`addresses`); in `Location`, `Content-Location`, `Operation-Location` and `Link`
they stand by HTTP's own rules. Only an address whose host is the provider's is touched, and of a
JSON text only the strings that hold one; all other bytes stay as they came.

Some addresses are followed without a key, as they hold an id that is credential enough for the
provider. They get a ticket, a query parameter of ours: sealed for one key, provider and address,
and good for as long as the provider takes the id (`tokens.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from llamakey_addon.errors import Forbidden
from llamakey_addon.filters import Filter, MakeFilter, WholeFilter
from llamakey_addon.hosts import fits

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Address
    from llamakey_addon.journey import Ask, Headers, Provider, Route, Visit
    from llamakey_addon.tokens import Tokens

TICKET: Final = "llamakey"
"""The query parameter with a ticket."""

_LOCATIONS: Final = frozenset({b"location", b"content-location", b"operation-location"})
_LINK: Final = b"link"
#: Names of headers, as they came, that name no address by HTTP's rules.
_dull: set[bytes] = set()
_DULL_KEPT: Final = 1024
_LINKED: Final = re.compile(r"<([^<>]*)>")
_ADDRESS: Final = re.compile(
    r"(https?|wss?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?(/[^?#]*)?(?:\?([^#]*))?(#.*)?",
    re.IGNORECASE,
)
_BARE: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_PORTS: Final = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],]', re.DOTALL)
_LINE_BYTES: Final = 1024 * 1024


class _Origin(NamedTuple):
    secure: bool
    host: str
    port: int


class _Place(NamedTuple):
    """Where an address stands in JSON."""

    steps: tuple[str, ...]
    """Names; `[]` is each item of a list, `*` any name."""
    address: Address


class Names:
    """How a provider's addresses are told, compiled."""

    def __init__(self, provider: Provider, providers: Iterable[Provider] = ()) -> None:
        entry = provider.entry
        self.id = provider.id
        self.prefix = provider.prefix
        self._globs = entry.named_hosts
        self._own = frozenset(_origins(provider))
        self._others: dict[_Origin, str] = {}
        if any(address.others for address in entry.addresses):
            for other in providers:
                for origin in _origins(other) if other.ready else ():
                    self._others.setdefault(origin, other.prefix)
        self._hints = tuple(
            {host.encode() for _, host, _ in (*self._own, *self._others)}
            | {glob.rpartition("*")[2].encode() for glob in self._globs}
        )
        self._slots = frozenset(
            slot.query.lower() for slot in entry.credential.accept if slot.query is not None
        )
        self.ids = frozenset(id for address in entry.addresses for id in address.ids)
        self.places: dict[str, tuple[_Place, ...]] = {}
        self.headers: dict[str, dict[bytes, Address]] = {}
        for address in entry.addresses:
            for name in address.endpoints:
                if address.header is not None:
                    self.headers.setdefault(name, {})[address.header.lower().encode()] = address
                found = tuple(_Place(tuple(_steps(at)), address) for at in address.at)
                self.places[name] = self.places.get(name, ()) + found

    def places_in(self, way: Route) -> tuple[_Place, ...]:
        """Where addresses stand in the answers to requests of this way."""
        return () if way.endpoint is None else self.places.get(way.endpoint.name, ())

    def hinted(self, content: bytes) -> bool:
        """Whether one of the provider's hosts may stand in there at all."""
        return any(hint in content for hint in self._hints)

    def host_of(self, scheme: str, host: str, port: int) -> str | None:
        """`` for the provider's own origin, the host for one that a path names, None for others."""
        secure = scheme in ("https", "wss")
        if _Origin(secure, host, port) in self._own:
            return ""
        if secure and port == 443 and any(fits(glob, host) for glob in self._globs):
            return host
        return None

    def other(self, scheme: str, host: str, port: int) -> str | None:
        """The prefix of the other provider that an address is of, where that is looked for."""
        return self._others.get(_Origin(scheme in ("https", "wss"), host, port))

    def without_credential(self, query: str) -> str:
        """A query as it will be when it comes back to us."""
        return "&".join(
            pair
            for pair in query.split("&")
            if (name := unquote_plus(pair.partition("=")[0]).lstrip("$").lower()) not in self._slots
            and name != TICKET
        )


class Addresses:
    """What becomes of the addresses in one answer."""

    __slots__ = ("ask", "names", "public_url", "tokens", "visit", "way")

    def __init__(self, names: Names, visit: Visit, public_url: str, tokens: Tokens) -> None:
        self.names = names
        self.visit = visit
        self.ask = visit.ask
        self.way = visit.route
        self.public_url = public_url
        self.tokens = tokens

    def headers(self, headers: Headers) -> Headers:
        """An answer's head, end to end."""
        endpoint = self.way.endpoint
        special = {} if endpoint is None else self.names.headers.get(endpoint.name, {})
        if not special:
            for name, _ in headers:
                if name not in _dull and _may_name(name):
                    break
            else:
                return headers
        changed: list[tuple[bytes, bytes]] | None = None
        for at, (name, value) in enumerate(headers):
            lower = name.lower()
            address = special.get(lower)
            if address is None and lower not in _LOCATIONS and lower != _LINK:
                continue
            text = value.decode("latin-1")
            if lower == _LINK and address is None:
                new = _LINKED.sub(lambda found: f"<{self._found(found[1])}>", text)
            else:
                new = self._found(text, address)
            if new != text:
                changed = list(headers) if changed is None else changed
                changed[at] = (name, new.encode("latin-1", "replace"))
        return headers if changed is None else tuple(changed)

    def filters(self, limit_bytes: int) -> tuple[MakeFilter, ...]:
        """What changes the answer's body; nothing where the endpoint's answers name none."""
        places = self.names.places_in(self.way)
        if not places:
            return ()

        def make(status: int, headers: Headers) -> Filter | None:
            kind = b"".join(v for n, v in headers if n.lower() == b"content-type").lower()
            if not 200 <= status < 400:
                return None
            if kind.startswith(b"text/event-stream"):
                return _InEvents(self, places)
            return _InDocument(self, places, limit_bytes) if b"json" in kind else None

        return (make,)

    def replaced(self, content: bytes, places: Iterable[_Place]) -> bytes:
        """JSON with its addresses replaced; what is none is left as it is."""
        if not self.names.hinted(content):
            return content
        wanted = tuple(places)
        parts: list[bytes] = []
        done = 0
        stack: list[str | None] = []  # a list's is "[]", an object's the name it is at
        for match in _TOKEN.finditer(content):
            token = match[0]
            if token == b"{":
                stack.append(None)
            elif token == b"[":
                stack.append("[]")
            elif not stack:
                return content
            elif token in b"}]":
                stack.pop()
            elif token == b",":
                if stack[-1] != "[]":
                    stack[-1] = None
            elif stack[-1] is None:
                stack[-1] = _text(token)
            elif (address := _at(stack, wanted)) is not None:
                text = _text(token)
                new = self._found(text, address)
                if new != text:
                    parts += (content[done : match.start()], json.dumps(new).encode("ascii"))
                    done = match.end()
        return b"".join((*parts, content[done:])) if parts else content

    def _found(self, text: str, address: Address | None = None) -> str:
        """What stands in an address's place: the same where it is not the provider's."""
        match = _ADDRESS.fullmatch(text)
        if match is not None:
            scheme, host, port, path, query, rest = match.groups()
        elif address is not None and address.bare and _BARE.fullmatch(text):
            scheme, host, port, path, query, rest = "https", text, None, None, None, None
        elif self.ask.passage is not None:
            return text
        elif address is None and text.startswith("/") and not text.startswith("//"):
            # from the provider's root, which is not ours
            host = f"/{self.way.host}" if self.way.host else ""
            return f"{self._front('http')}/{self.names.prefix}{host}{text}"
        else:
            return text
        scheme, host = scheme.lower(), host.lower()
        number = int(port) if port else _PORTS[scheme]
        named = self.names.host_of(scheme, host, number)
        if named is None:
            other = None
            if address is not None and address.others and self.ask.passage is None:
                other = self.names.other(scheme, host, number)
            if other is None:
                return text
            front = self._front(scheme)
            return f"{front}/{other}{path or ''}" + ("" if query is None else f"?{query}")
        target = f"/{named}{path or ''}" if named else path or ""
        if address is not None and address.keyless_s:
            query = self._with_ticket(target or "/", query or "", address.keyless_s)
        if self.ask.passage is not None:
            # the host chooses the provider there, so it stays; only the ticket is ours
            new = text.partition("?")[0].partition("#")[0]
        else:
            new = f"{self._front(scheme)}/{self.names.prefix}{target}"
        return new + (f"?{query}" if query is not None else "") + (rest or "")

    def _with_ticket(self, target: str, query: str, lives_s: int) -> str:
        query = self.names.without_credential(query) if query else ""
        ticket = self.tokens.ticket(
            self.visit.user.key_id,
            self.names.id,
            f"{target}?{query}" if query else target,
            self.ask.time_s + lives_s,
        )
        return f"{query}&{TICKET}={ticket}" if query else f"{TICKET}={ticket}"

    def _front(self, scheme: str) -> str:
        """The URL by which this client reaches us, for an address of that scheme."""
        origin = front(self.ask, self.public_url)
        return "ws" + origin.removeprefix("http") if scheme in ("ws", "wss") else origin


def front(ask: Ask, public_url: str) -> str:
    """The URL by which a client reaches us, without a trailing slash: by its own Host, but where
    that is the public one's, or somebody stands before us, whom clients reach by the public one."""
    hosts = [value for name, value in ask.headers if name.lower() == b"host"]
    host = hosts[0].decode("latin-1") if len(hosts) == 1 else ""
    if ask.forwarded or not _AUTHORITY.fullmatch(host):
        return public_url
    if host.lower() == urlsplit(public_url).netloc.lower():
        scheme = public_url.partition("://")[0]
        # the port speaks both, to those on this machine
        return public_url if ask.tls or scheme == "http" else f"http://{host}"
    return f"{'https' if ask.tls else 'http'}://{host}"


def _may_name(name: bytes) -> bool:
    """Whether a header of this name names addresses; what does not is remembered."""
    lower = name.lower()
    if lower in _LOCATIONS or lower == _LINK:
        return True
    if len(_dull) < _DULL_KEPT:
        _dull.add(name)
    return False


def check_ids(names: Names, way: Route) -> None:
    """Raise Forbidden for a request that has the id of a keyless address, and no ticket."""
    if not names.ids or not way.query or way.ticket:
        return
    for name, _ in parse_qsl(way.query, keep_blank_values=True):
        if name.lstrip("$").lower() in names.ids:
            raise Forbidden(
                f"`{name}` stands for what one user was given, and the ticket for it is not in "
                "this request. Follow the address of the answer that named it, whole."
            )


class _InDocument(WholeFilter):
    """A JSON answer."""

    def __init__(self, addresses: Addresses, places: tuple[_Place, ...], limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self._addresses = addresses
        self._places = places

    def change(self, content: bytes) -> bytes:
        return self._addresses.replaced(content, self._places)


class _InEvents:
    """Server-sent events, line by line; a line that is too long to be one passes as it is."""

    whole = False
    changes = True

    def __init__(self, addresses: Addresses, places: tuple[_Place, ...]) -> None:
        self._addresses = addresses
        self._places = places
        self._held = b""
        self._passing = False

    def feed(self, piece: bytes) -> bytes:
        lines = (self._held + piece).splitlines(keepends=True)
        self._held = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        out = [self._line(line) for line in lines]
        if self._passing or len(self._held) > _LINE_BYTES:
            self._passing = bool(self._held) or self._passing
            out.append(self._held)
            self._held = b""
        return b"".join(out)

    def _line(self, line: bytes) -> bytes:
        if self._passing:
            self._passing = not line.endswith(b"\n")
            return line
        if not line.startswith(b"data:"):
            return line
        return b"data:" + self._addresses.replaced(line[5:], self._places)

    def end(self) -> bytes:
        return self._line(self._held)


def _at(stack: list[str | None], places: Iterable[_Place]) -> Address | None:
    for steps, address in places:
        if len(steps) == len(stack) and all(
            step == name or (step == "*" and name not in ("[]", None))
            for step, name in zip(steps, stack, strict=True)
        ):
            return address
    return None


def _steps(at: str) -> Iterable[str]:
    for step in at.split("."):
        name = step.rstrip("[]")
        if name:
            yield name
        yield from ["[]"] * step.count("[]")


def _text(token: bytes) -> str:
    try:
        value: Any = json.loads(token)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""


def _origins(provider: Provider) -> Iterable[_Origin]:
    texts = [provider.entry.upstream]
    texts += (region.origin for region in provider.regions.values())
    if provider.upstream is not None:
        texts.append(provider.upstream.origin)
    for text in texts:
        parts = urlsplit(text)
        if "{" not in text and parts.hostname and not parts.hostname.endswith(".invalid"):
            secure = parts.scheme == "https"
            yield _Origin(secure, parts.hostname, parts.port or _PORTS[parts.scheme])
