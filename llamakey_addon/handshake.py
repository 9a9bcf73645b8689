"""The opening handshake of a WebSocket (RFC 6455 4), from both sides. No I/O.

The client's key goes upstream as it came, so that the provider's own answer is the client's; it is
verified here all the same, since nothing but a right 101 turns a connection into a WebSocket.
Extensions are not passed on: frames then stand on both sides as they are, uncompressed, and can be
read along. Subprotocols are, but those in which a client sends a key or an account's name.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from llamakey_addon.errors import BadRequest, UpstreamFault
from llamakey_addon.http1 import AnswerHead, end_to_end
from llamakey_addon.journey import Ask, Headers, Upgrade
from llamakey_addon.keys import MARK

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Entry

PROTOCOL: Final = b"sec-websocket-protocol"

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MOST_PROTOCOLS: Final = 32


def read(ask: Ask, entry: Entry) -> Upgrade:
    """What a client asks for that wants a WebSocket.

    Raises:
        BadRequest: its handshake is not RFC 6455's.
    """
    if ask.method != "GET" or ask.body_length != 0:
        raise BadRequest("A WebSocket is opened by a GET without a body.")
    if _values(ask.headers, b"upgrade") != [b"websocket"]:
        raise BadRequest("A WebSocket is asked for by exactly one `Upgrade: websocket`.")
    if _values(ask.headers, b"sec-websocket-version") != [b"13"]:
        raise BadRequest("The only version of WebSockets spoken here is 13 (RFC 6455).")
    keys = [value for name, value in ask.headers if name.lower() == b"sec-websocket-key"]
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest("Sec-WebSocket-Key is not 16 bytes in base64, once.")
    offered = tuple(protocols(ask.headers))
    if (
        len(offered) > _MOST_PROTOCOLS
        or len(set(offered)) < len(offered)
        or not all(map(_TOKEN.fullmatch, offered))
    ):
        raise BadRequest("Sec-WebSocket-Protocol is not a list of different words.")
    return Upgrade(keys[0], offered, _passed(offered, entry))


def protocols(headers: Headers) -> Iterator[bytes]:
    """The subprotocols that a client offers, or the one that a server chose."""
    for name, value in headers:
        if name.lower() == PROTOCOL:
            yield from (word.strip() for word in value.split(b","))


def keys_in(offered: Iterable[bytes], form: str) -> Iterator[tuple[int, int, str]]:
    """Keys that stand in a list of subprotocols in the catalogue's `form` (`Slot.subprotocol`).

    Each with its place: the first word that belongs to it, and the one behind the last.
    """
    words = list(offered)
    wanted = [word.strip().encode() for word in form.split(",")]
    for at in range(len(words) - len(wanted) + 1):
        key = ""
        for word, want in zip(words[at:], wanted, strict=False):
            before, mark, _ = want.partition(b"{key}")
            if mark and word.startswith(before) and word != before:
                key = word[len(before) :].decode("latin-1")
            elif word != want:
                break
        else:
            yield at, at + len(wanted), key


def upstream_fields(upgrade: Upgrade) -> Headers:
    """What the request upstream says of the WebSocket."""
    fields: Headers = (
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", upgrade.key),
    )
    if upgrade.passed:
        fields += ((b"Sec-WebSocket-Protocol", b", ".join(upgrade.passed)),)
    return fields


def accepted(upgrade: Upgrade, head: AnswerHead) -> Headers:
    """The headers of the 101 that the client gets for the provider's.

    Raises:
        UpstreamFault: the provider's is not the right answer to what it was sent.
    """
    wrong = ""
    if _values(head.headers, b"upgrade") != [b"websocket"]:
        wrong = "its Upgrade is not `websocket`"
    elif not any(b"upgrade" in value.split(b",") for value in _connection(head.headers)):
        wrong = "its Connection is not `Upgrade`"
    elif [v for n, v in head.headers if n.lower() == b"sec-websocket-accept"] != [
        accept(upgrade.key)
    ]:
        wrong = "its Sec-WebSocket-Accept is not that of the key it was sent"
    elif any(n.lower() == b"sec-websocket-extensions" and v.strip() for n, v in head.headers):
        wrong = "it names an extension, and none was offered"
    chosen = list(protocols(head.headers))
    if not wrong and (len(chosen) > 1 or any(word not in upgrade.passed for word in chosen)):
        wrong = "it names a subprotocol that was not offered"
    if wrong:
        raise UpstreamFault(
            "The provider's answer does not open a WebSocket. Try again.", detail=wrong
        )
    fields: Headers = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
    if not chosen and upgrade.offered and not upgrade.passed:
        # Browsers fail a WebSocket for which they offered words and got none back.
        fields += ((b"Sec-WebSocket-Protocol", _harmless(upgrade.offered)),)
    return fields + tuple(
        pair for pair in end_to_end(head.headers) if pair[0].lower() != b"content-length"
    )


def accept(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _passed(offered: tuple[bytes, ...], entry: Entry) -> tuple[bytes, ...]:
    """Of the offered words those that a provider may see."""
    mark = MARK.encode()
    dropped = {at for at, word in enumerate(offered) if mark in word}
    for slot in entry.credential.accept:
        if slot.subprotocol:
            for first, end, _ in keys_in(offered, slot.subprotocol):
                dropped.update(range(first, end))
    for start in entry.identity_subprotocols:
        begins = start.encode()
        dropped.update(at for at, word in enumerate(offered) if word.startswith(begins))
    return tuple(word for at, word in enumerate(offered) if at not in dropped)


def _harmless(offered: tuple[bytes, ...]) -> bytes:
    """One of the client's own words to answer it with; without a key in it if there is any."""
    mark = MARK.encode()
    return next((word for word in offered if mark not in word), offered[0])


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value.strip().lower() for key, value in headers if key.lower() == name]


def _connection(headers: Headers) -> Iterator[bytes]:
    for value in _values(headers, b"connection"):
        yield value.replace(b" ", b"").replace(b"\t", b"")
