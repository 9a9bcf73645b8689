"""Prefix and path → provider and endpoint.

The target is made canonical once, here, and everything after works on the result: whitelists read
it, and the road sends it. So a form that two readers could understand differently is refused
rather than cleaned up. Where a path is accepted, each of these holds:

- it is visible ASCII and begins with `/`; no segment but the last is empty;
- no segment is `.` or `..` however often the path is percent-decoded, with or without `;x` behind;
- it has no `\\`, `#`, `;` or control character, and no percent-encoding of those that a decoder
  would turn into structure;
- letters, digits, `.`, `-` and `_` stand plainly, so that a path has one spelling;
- a `%2F` is there only where the provider writes ids with it (`encoded_slash`).

Other bytes are passed as they came: percent-encodings keep their case, queries their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus, unquote_to_bytes

from llamakey_addon.addresses import TICKET
from llamakey_addon.errors import BadRequest, MethodRefused, UnknownRoute
from llamakey_addon.hosts import fits
from llamakey_addon.journey import Route, Upstream

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Endpoint, Entry
    from llamakey_addon.journey import Provider

__all__ = ["find"]

_REFUSED_METHODS = frozenset({"CONNECT", "TRACE", "TRACK"})
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

# What nearly every request has: no escapes, no doubtful characters, no empty or dot segments.
_PLAIN_PATH = re.compile(r"(?:/(?!\.\.?(?:/|$))[!\"$&-.0-:<-\[\]-~]+)*/?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_ENCODED_PLAIN = re.compile(r"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff])")
_ENCODED_SLASH = re.compile(r"%2[Ff]")
_DOTS = frozenset({b".", b".."})
_STRUCTURE = b"./\\"
_LOCAL_KEY = "sk-lmk-"
_TICKET = f"{TICKET}="


def find(
    target: str,
    method: str,
    providers: Mapping[str, Provider],
    query_keys: frozenset[str],
    *,
    aliases: bool = True,
    named: bool = True,
) -> Route:
    """The way of a request with this target and method.

    `providers` are keyed by prefix; `query_keys` are the lower-case names of query parameters in
    which some SDK puts its key. `aliases`: whether forms of a path that users are known to write
    become the provider's own; `named`: whether the path may name one of the provider's hosts. The
    bare prefix (`/anthropic`, `/anthropic/`) has the path `/`.

    Raises `BadRequest` for a target that is malformed or ambiguous, `MethodRefused` for methods
    that no API has, and `UnknownRoute` where no provider has the prefix.
    """
    if not _METHOD.fullmatch(method):
        raise BadRequest("The method is not a word of capital letters; use GET, POST and the like.")
    if method in _REFUSED_METHODS:
        raise MethodRefused(
            f"{method} is not served here. Set the SDK's base URL to this proxy "
            "(`lmk env` prints the lines) rather than HTTPS_PROXY, which is for its second door "
            "(`lmk run` sets it where there is one)."
        )
    whole, _, query = _origin_form(target).partition("?")
    plain = _PLAIN_PATH.fullmatch(whole) is not None
    if not plain:
        _refuse_ambiguous(whole)
    prefix, slash, rest = whole[1:].partition("/")
    provider = providers.get(prefix)
    if provider is None:
        raise UnknownRoute(
            "No provider is served under this path. It begins with exactly one provider's prefix, "
            "as in /openai/v1/chat/completions; `lmk providers` lists them."
        )
    path = slash + rest or "/"
    entry = provider.entry
    if not plain and not entry.encoded_slash and _ENCODED_SLASH.search(path):
        raise BadRequest(
            f"The path has a %2F, which {entry.name} does not use in paths. Write a plain / or "
            "take the slash out of the id."
        )
    host, path, glob = _named(entry, path) if named else ("", path, "")
    guide = _guide(entry, glob)
    if aliases:
        path = guide.rewrite(path)
    endpoint, params = guide.match(method, path if plain else _reading(path))
    region = _of_host(provider, host) if host else _region(provider, guide, path)
    ticket = ""
    if query:
        query, ticket = _without_credential(query, guide.query_slots, query_keys)
    if "%" in query or _LOCAL_KEY in query or not plain or _LOCAL_KEY in path:
        _refuse_local_key(path, query)
    return Route(provider, endpoint, path, query, params, region, host, ticket)


def _named(entry: Entry, path: str) -> tuple[str, str, str]:
    """The host that a path's first segment names, the rest of the path, and the glob of the host;
    of a path that names none, the path alone."""
    if entry.named_hosts:
        host, slash, rest = path[1:].partition("/")
        for glob in entry.named_hosts:
            if fits(glob, host):
                return host, slash + rest or "/", glob
    return "", path, ""


def _of_host(provider: Provider, host: str) -> Upstream | None:
    """The upstream that a host is; None where the owner has named one for all."""
    if not any(fits(glob, host) for glob in provider.named_hosts):
        return None
    ca = "" if provider.upstream is None else provider.upstream.ca
    return Upstream("https", host, 443, ca=ca, owner=provider.id)


def _region(provider: Provider, guide: _Guide, path: str) -> Upstream | None:
    """The upstream of the region that a path names, where the provider has one for each."""
    if guide.region is None or not provider.regions:
        return None
    match = guide.region.match(path)
    if match is None:
        return None
    upstream = provider.regions.get(match["region"])
    if upstream is None:
        raise BadRequest(
            f"{provider.entry.name} has no region of this name, as far as this proxy knows. Check "
            "the location; the proxy's owner adds a new one to its settings.",
            setting=f"providers.{provider.id}.regions",
        )
    return upstream


def _origin_form(target: str) -> str:
    """Path and query of a target in origin form or in absolute form with http or https."""
    if not _VISIBLE.fullmatch(target):
        raise BadRequest(
            "The request target is empty or has characters beyond visible ASCII. "
            "Percent-encode them."
        )
    if "#" in target or "\\" in target:
        raise BadRequest("The request target has a # or a backslash. Percent-encode or drop it.")
    if target[0] == "/":
        return target
    if absolute := _ABSOLUTE.fullmatch(target):
        authority, rest = absolute[1], absolute[2]
        if "@" in authority:
            raise BadRequest(
                "The request target has user information before its host. Put the key into the "
                "header that the SDK uses."
            )
        if not authority:
            raise BadRequest("The request target has no host. Send a path such as /openai/v1/…")
        return rest if rest.startswith("/") else f"/{rest}"
    if _SCHEME.match(target) and "://" in target:
        raise BadRequest("The request target is neither http nor https. Send a path instead.")
    raise BadRequest("The request target is not a path. Send one such as /openai/v1/…")


def _refuse_ambiguous(path: str) -> None:
    """Refuse what `_PLAIN_PATH` has not already let through, unless its escapes are harmless."""
    if "//" in path:
        raise BadRequest(
            "The path has an empty segment (//). Check the base URL for a slash at its end."
        )
    if ";" in path:
        raise BadRequest("The path has a `;`, which servers read differently. Write it as %3B.")
    if _BAD_ESCAPE.search(path):
        raise BadRequest("The path has a % that begins no escape. Write a percent sign as %25.")
    if _ENCODED_CONTROL.search(path):
        raise BadRequest("The path has an encoded control character. Take it out.")
    if "%5C" in path.upper():
        raise BadRequest("The path has an encoded backslash. Take it out.")
    if _ENCODED_PLAIN.search(path):
        raise BadRequest(
            "The path percent-encodes a character that stands for itself. Write letters, digits, "
            "`.`, `-` and `_` plainly."
        )
    once = unquote_to_bytes(path)
    _refuse_dots(once)
    _refuse_hidden(once)


def _refuse_dots(path: bytes) -> None:
    for segment in path.split(b"/"):
        if segment.partition(b";")[0] in _DOTS:
            raise BadRequest("The path has a `.` or `..` segment. Write the path that it leads to.")


def _refuse_hidden(once: bytes) -> None:
    """Refuse a path whose further decoding would bring out structure.

    `once` is the path after the one decoding that servers do. Some decode again; each further
    round, up to where nothing changes, may then make neither a dot, a slash, a backslash nor a
    control character. Ids that hold a percent sign otherwise pass.
    """
    now = once
    while b"%" in now:
        after = unquote_to_bytes(now)
        if after == now:
            return
        if any(after.count(sign) > now.count(sign) for sign in _SIGNS):
            raise BadRequest(
                "The path is percent-encoded twice and hides a dot, a slash or a control "
                "character. Encode it once."
            )
        now = after


_SIGNS = tuple(bytes((byte,)) for byte in (*range(0x20), 0x7F, *_STRUCTURE))


def _reading(path: str) -> str:
    """A path as its server reads it: decoded, but an encoded slash stays inside its segment."""
    return "%2F".join(map(unquote, _ENCODED_SLASH.split(path)))


def _refuse_local_key(path: str, query: str) -> None:
    """A local key that stands where no SDK puts one would reach the provider, and its log."""
    if _LOCAL_KEY in unquote(path) or _LOCAL_KEY in unquote(query):
        raise BadRequest(
            "The path or query holds a local key where no SDK puts one. Send it in the header "
            "that the SDK uses."
        )


def _without_credential(query: str, own: frozenset[str], known: frozenset[str]) -> tuple[str, str]:
    """`query` without parameters that carry a key: the provider's own slots, whatever they hold,
    and other providers' where they hold a local key. The rest stays byte for byte. And a ticket, if
    there is one; the last, which is the one that we have put there."""
    kept = []
    ticket = ""
    for parameter in query.split("&"):
        if parameter.startswith(_TICKET):
            ticket = parameter[len(_TICKET) :]
            continue
        name, _, value = parameter.partition("=")
        # Google reads `$key` as `key`; encoded names are read as what they decode to.
        name = unquote_plus(name).lstrip("$").lower()
        if name in own or (name in known and _LOCAL_KEY in unquote(value)):
            continue
        kept.append(parameter)
    return "&".join(kept), ticket


@dataclass(frozen=True, slots=True)
class _Guide:
    """What of an entry a request needs, compiled."""

    aliases: tuple[tuple[re.Pattern[str], str], ...]
    literal: Mapping[tuple[str, str], Endpoint]
    patterns: Mapping[str, tuple[tuple[re.Pattern[str], Endpoint], ...]]
    """By method, in the entry's order."""
    query_slots: frozenset[str]
    region: re.Pattern[str] | None

    def rewrite(self, path: str) -> str:
        for pattern, replacement in self.aliases:
            if match := pattern.fullmatch(path):
                return match.expand(replacement)
        return path

    def match(self, method: str, path: str) -> tuple[Endpoint | None, dict[str, str]]:
        """The endpoint of a path as `_reading` gives it, and what its `{…}` stand for."""
        if (endpoint := self.literal.get((method, path))) is not None:
            return endpoint, {}
        for pattern, endpoint in self.patterns.get(method, ()):
            if match := pattern.fullmatch(path):
                params = match.groupdict()
                return endpoint, {name: params[name].replace("%2F", "/") for name in params}
        # What answers GET answers HEAD, without a body.
        return self.match("GET", path) if method == "HEAD" else (None, {})


_guides: dict[tuple[int, str], tuple[Entry, _Guide]] = {}
_GUIDES_KEPT = 1024


def _guide(entry: Entry, host: str = "") -> _Guide:
    """The guide of an entry, or of one of its hosts, compiled once. Keyed by identity: hashing an
    entry would visit all of it on each request. The entry is kept beside, so that its id is not
    given to another."""
    known = _guides.get((id(entry), host))
    if known is not None:
        return known[1]
    if len(_guides) >= _GUIDES_KEPT:  # entries of configurations long reloaded
        _guides.clear()
    guide = _compile(entry, host)
    _guides[id(entry), host] = (entry, guide)
    return guide


def _compile(entry: Entry, host: str) -> _Guide:
    literal: dict[tuple[str, str], Endpoint] = {}
    patterns: dict[str, list[tuple[re.Pattern[str], Endpoint]]] = {}
    for endpoint in entry.endpoints:
        if endpoint.host != host:
            continue
        for method in endpoint.methods:
            if "{" in endpoint.path:
                patterns.setdefault(method, []).append((_pattern(endpoint.path), endpoint))
            else:
                literal.setdefault((method, endpoint.path), endpoint)
    return _Guide(
        aliases=tuple((re.compile(alias.pattern), alias.path) for alias in entry.aliases)
        if not host
        else (),
        literal=literal,
        patterns={method: tuple(known) for method, known in patterns.items()},
        query_slots=frozenset(
            slot.query.lower() for slot in entry.credential.accept if slot.query is not None
        ),
        region=None if entry.regions is None else re.compile(entry.regions.path),
    )


def _pattern(path: str) -> re.Pattern[str]:
    """`/v1/{a}/x/{b...}` as a regular expression with the groups `a` and `b`."""
    parts = []
    for at, part in enumerate(re.split(r"\{([a-z_]+(?:\.\.\.)?)\}", path)):
        if at % 2 == 0:
            parts.append(re.escape(part))
        else:
            name = part.removesuffix("...")
            parts.append(f"(?P<{name}>{'.+' if part.endswith('...') else '[^/]+'})")
    return re.compile("".join(parts))
