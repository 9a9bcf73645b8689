"""AWS's event streams (`application/vnd.amazon.eventstream`), read along.

A message is `length of all, length of headers` (4 bytes each, big end first), their CRC, headers,
payload, and a CRC of all. A header is a name (a byte of length), a type, and a value; those that
say what a message is are strings (type 7, two bytes of length). What is asked of a message here is
its payload as a line of JSON: an event's own, or, where the event is a chunk of a model's own
stream, what stands within in base64.

https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Final

from llamakey_addon.meter.unpack import Unreadable

_PRELUDE: Final = 12
_MESSAGE_BYTES: Final = 24 * 1024 * 1024
_STRING: Final = 7
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of header values by their type; strings and byte strings say theirs."""


class Messages:
    """Payloads among what came, each a line of JSON with its line end."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Raises Unreadable where what comes is no event stream."""
        rest = self._rest
        rest += data
        lines: list[bytes] = []
        at = 0
        while len(rest) - at >= _PRELUDE:
            size = int.from_bytes(rest[at : at + 4])
            heads = int.from_bytes(rest[at + 4 : at + 8])
            crc = int.from_bytes(rest[at + 8 : at + 12])
            fits = _PRELUDE + heads + 4 <= size <= _MESSAGE_BYTES
            if not fits or zlib.crc32(rest[at : at + 8]) != crc:
                raise Unreadable("it is no event stream")
            if len(rest) - at < size:
                break
            payload = at + _PRELUDE + heads
            kinds = _strings(bytes(rest[at + _PRELUDE : payload]))
            lines.append(_line(kinds, bytes(rest[payload : at + size - 4])))
            at += size
        del rest[:at]
        return b"".join(lines)

    def end(self) -> bytes:
        """Nothing: a message that is cut off has no payload."""
        self._rest.clear()
        return b""


def _strings(headers: bytes) -> dict[bytes, bytes]:
    """The headers whose values are strings."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(headers):
        end = at + 1 + headers[at]
        name, kind = headers[at + 1 : end], headers[end]
        at = end + 1
        if kind in _SIZES:
            at += _SIZES[kind]
            continue
        size = int.from_bytes(headers[at : at + 2])
        value = headers[at + 2 : at + 2 + size]
        at += 2 + size
        if kind == _STRING:
            found[name] = value
    return found


def _line(kinds: dict[bytes, bytes], payload: bytes) -> bytes:
    if kinds.get(b":message-type", b"event") != b"event":
        return b'{"error":{"type":"exception"}}\n'
    if kinds.get(b":event-type") == b"chunk":
        try:
            inner = json.loads(payload)["bytes"]
            payload = base64.b64decode(inner, validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error):
            return b'{"error":{"type":"a chunk that cannot be read"}}\n'
    return payload.replace(b"\n", b" ") + b"\n"
