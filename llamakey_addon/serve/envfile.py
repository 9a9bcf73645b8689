"""`llamakey_local.env`: a client's whole environment in one file, and what can be read from one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from llamakey_addon import clients, keys
from llamakey_addon.clients import Line
from llamakey_addon.config import Trust
from llamakey_addon.journey import Provider

FILE_NAME = "llamakey_local.env"

URL_VARIABLE = "LLAMAKEY_URL"
KEY_VARIABLE = "LLAMAKEY_API_KEY"
DOOR_VARIABLE = "LLAMAKEY_DOOR"

_FRONT: Final = "Front door: the SDKs that are named above a variable, which takes them there."

# An assignment in any of the shells that `lmk env` writes for, and in JSON.
_SET = r"""^\s*(?:export\s+|set\s+-gx\s+|\$env:|")?"""
_VARIABLE = re.compile(rf"""{_SET}([A-Za-z_][A-Za-z0-9_]*)"?(?:\s*[=:]|\s+['"])""", re.MULTILINE)
_ADDRESS = re.compile(
    rf"""{_SET}(LLAMAKEY_(?:URL|DOOR))"?(?:\s*[=:]\s*|\s+)["']?(https?://[^\s"',]+)""", re.MULTILINE
)


def served(providers: Iterable[Provider]) -> list[Provider]:
    """Those that are ready, where any has a real key; else none: a machine without a single real
    key is a client's, and what needs no key (an Ollama) says nothing of the proxy."""
    ready = [provider for provider in providers if provider.ready]
    return ready if any(provider.secret or provider.recipe for provider in ready) else []


def own_lines(url: str, key: str, door: str = "") -> list[Line]:
    """The proxy itself: for programs that no SDK's variable helps, and for `lmk`, which finds its
    key by them even where no provider is ready. `door`: the second door's URL, where it is open."""
    lines = [
        Line(URL_VARIABLE, url, "The proxy itself, for programs of your own"),
        Line(KEY_VARIABLE, key, "The proxy itself, for programs of your own"),
    ]
    if door:
        lines.append(Line(DOOR_VARIABLE, door, "Its second door: `lmk run` sends programs there"))
    return lines


def trust_lines(trust: Trust | None) -> list[Line]:
    """What makes SDKs trust the certificate of a proxy that is its own authority."""
    if trust is None:
        return []
    bundle, ca = str(trust.bundle), str(trust.ca)
    comment = "Trust in the proxy's own certificate, for SDKs that insist on TLS"
    return [
        Line("SSL_CERT_FILE", bundle, comment),
        Line("REQUESTS_CA_BUNDLE", bundle, comment),
        Line("CURL_CA_BUNDLE", bundle, comment),
        Line("AWS_CA_BUNDLE", bundle, comment),
        Line("NODE_EXTRA_CA_CERTS", ca, comment),
        Line("DENO_CERT", ca, comment),
    ]


def lines(
    providers: Iterable[Provider],
    url: str,
    key: str,
    only: Sequence[str] = (),
    trust: Trust | None = None,
    door: str = "",
) -> list[Line]:
    """What a client sets, for the SDKs of the providers and for programs of its own."""
    sdks = clients.environment(providers, url, key, only)
    return [
        *([Line("", "", _FRONT)] if any(line.variable for line in sdks) else []),
        *sdks,
        *own_lines(url, key, door),
        *trust_lines(trust),
    ]


def content(
    providers: Iterable[Provider],
    url: str,
    key: str,
    name: str,
    trust: Trust | None = None,
    door: str = "",
) -> str:
    """The whole file; `name` is the key's."""
    text = clients.env_file(providers, url, key, name=name)
    more = [*own_lines(url, key, door), *trust_lines(trust)]
    return f"{text.rstrip()}\n{clients.render('bash', more)}"


def find_keys(text: str) -> list[str]:
    """Well-formed local keys in a text, each once, in their order."""
    data = text.encode("utf-8", "replace")
    found = (data[each.at : each.end].decode() for each in keys.traces(data) if each.parsed)
    return list(dict.fromkeys(found))


def find_url(text: str) -> str:
    """The proxy's URL in such a file, or ""."""
    return _addresses(text).get(URL_VARIABLE, "")


def find_door(text: str) -> str:
    """The second door's URL in such a file, or ""."""
    return _addresses(text).get(DOOR_VARIABLE, "")


def _addresses(text: str) -> dict[str, str]:
    return {match[1]: match[2] for match in reversed(list(_ADDRESS.finditer(text)))}


def find_variables(text: str) -> frozenset[str]:
    """Names of the variables that such a file sets."""
    return frozenset(_VARIABLE.findall(text))
