"""JSON of clients, read so that it means one thing alone.

What two readers could understand differently is refused: another encoding, a broken tail, and,
where a value matters, a name that stands twice. Some servers compare names without case (Go's do),
so a second spelling of a name is a second name.
"""

from __future__ import annotations

import json
import re
import zlib
from functools import lru_cache
from typing import Any, NoReturn

from llamakey_addon.errors import BadRequest
from llamakey_addon.journey import Headers, values_of

#: Spaces, in an encoding of up to four bytes a character.
_LEAD = re.compile(rb"(?:\0{0,3}[ \t-\r])*\0{0,3}")
_STEP = re.compile(r"([^.\[\]]*)(\[\])?")


class Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, doubled names included."""

    __slots__ = ()

    def values_of(self, name: str) -> list[Any]:
        """What stands under a name, in any case."""
        folded, size = name.casefold(), len(name)
        return [
            value
            for key, value in self
            if key == name or (len(key) == size and key.casefold() == folded)
        ]


#: The text read last, and its value: several stages read the same body, one after the other.
_last: tuple[bytes, Any] = (b"", None)
_KEPT_BYTES = 1 << 20


def read(content: bytes) -> Any:
    """The value of a JSON text; objects are `Object`s. It may be another reader's too, so it is not
    changed. Raises BadRequest.
    """
    global _last
    if content is _last[0] and content:
        return _last[1]
    try:
        # As text, for json would take UTF-16 and UTF-32 too.
        text = content.decode("utf-8").strip(" \t\n\r")
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise ValueError
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8. Send JSON in UTF-8.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply. Send a flatter one.") from None
    except ValueError:
        # Integers of thousands of digits are here as well.
        raise BadRequest("The body is not JSON, and this endpoint takes JSON.") from None
    if len(content) <= _KEPT_BYTES:
        _last = (content, value)
    return value


def may_be_json(start: bytes) -> bool:
    """Whether a body that begins so may be an object, a list or a text to some reader, in whatever
    encoding. One of which nothing is there yet may."""
    lead = _LEAD.match(start)
    first = start[0 if lead is None else lead.end() :][:1]
    return first == b"" or first in b'{["\xef\xfe\xff'


def read_object(content: bytes) -> Object:
    """The same, of a text that must be an object."""
    document = read(content)
    if not isinstance(document, Object):
        raise BadRequest("The body is JSON, but no object. Send an object with the parameters.")
    return document


def one(document: Object, name: str) -> Any:
    """What stands under a name; None where it is not there.

    Raises BadRequest where it stands twice.
    """
    found = document.values_of(name)
    if len(found) > 1:
        raise BadRequest(f"The body names `{name}` twice. Send it once.")
    return found[0] if found else None


def at(document: Any, path: str) -> list[Any]:
    """Every value at a path such as `requests[].params.model`; `[]` stands for each item.

    Raises BadRequest where a name on the way stands twice.
    """
    found = [document]
    for name, items in _steps(path):
        if name:
            objects = [value for value in found if isinstance(value, Object)]
            found = [inner for value in objects if (inner := one(value, name)) is not None]
        if items:
            found = [item for value in found if isinstance(value, list) for item in value]
    return found


@lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[tuple[str, bool], ...]:
    """A path's names, each with whether what stands there is a list."""
    found = []
    for step in path.split("."):
        match = _STEP.fullmatch(step)
        assert match is not None, path
        found.append((match[1], bool(match[2])))
    return tuple(found)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON


_DECODER = json.JSONDecoder(object_pairs_hook=Object, parse_constant=_no_constant)


def is_packed(headers: Headers) -> bool:
    """Whether a body has a content-coding: then it is to be `decoded` before it is read."""
    return bool(_codings(headers))


def decoded(content: bytes, headers: Headers, limit: int) -> bytes:
    """The body as the provider will read it. The packed one is what is sent.

    Arguments:
        limit: bytes up to which it is unpacked.

    Raises BadRequest where it can't be read.
    """
    codings = _codings(headers)
    if not codings:
        return content
    if len(codings) > 1 or codings[0] not in (b"gzip", b"x-gzip", b"deflate"):
        raise BadRequest(
            "This Content-Encoding can't be read here. Send the body uncompressed, or with gzip."
        )
    # By specification deflate has zlib's wrapping; some senders leave it out.
    wraps = (
        (zlib.MAX_WBITS | 16,) if codings[0] != b"deflate" else (zlib.MAX_WBITS, -zlib.MAX_WBITS)
    )
    for wrap in wraps:
        unpacker = zlib.decompressobj(wrap)
        try:
            text = unpacker.decompress(content, limit + 1)
        except zlib.error:
            continue
        if len(text) > limit:
            raise BadRequest(
                f"The body unpacks to more than {limit} bytes. Send it uncompressed.",
                setting="limits.json_body_bytes",
            )
        if not unpacker.eof or unpacker.unused_data:
            break  # cut, or with more behind it, which some readers take and others don't
        return text
    raise BadRequest("The body is not what its Content-Encoding says. Send it uncompressed.")


def _codings(headers: Headers) -> list[bytes]:
    return [
        coding
        for value in values_of(headers, b"content-encoding")
        for part in value.split(b",")
        if (coding := part.strip().lower()) not in (b"", b"identity")
    ]
