"""Multipart forms of clients, read so that they mean one thing alone (RFC 7578, RFC 2046).

Readers of forms forgive much and differ in what: text before the first boundary, names in another
encoding, escapes, folded headers. All of that is refused; what SDKs send has none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from llamakey_addon.errors import BadRequest
from llamakey_addon.journey import Headers, values_of

_BOUNDARY = re.compile(
    rb"multipart/form-data[ \t]*;[ \t]*boundary="
    rb"(?:\"([A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-])\"|([A-Za-z0-9'+_.-]{1,70}))",
    re.IGNORECASE,
)
_DISPOSITION = re.compile(
    r'form-data; name="([^"\\%\x00-\x1f\x7f]*)"(?:; filename="([^"\\\x00-\x1f\x7f]*)")?'
    r"(?:; filename\*=[A-Za-z0-9!#$&+.^_`|~%'-]*)?",
    re.IGNORECASE,
)
_HEADER = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_PARTS = 1000
_PART_HEAD_BYTES = 4096
_PLAIN_TRANSFER = (b"binary", b"8bit", b"7bit")


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    is_file: bool
    content_type: str
    """Lower case; "" where the part names none."""
    content: bytes

    def text(self) -> str:
        """What a field says. Raises BadRequest where it is no plain text."""
        plain = ("", "text/plain", "text/plain; charset=utf-8", "text/plain;charset=utf-8")
        if self.is_file or self.content_type not in plain:
            raise BadRequest(f"The form's field `{self.name}` is no plain text. Send it as text.")
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest(
                f"The form's field `{self.name}` is not UTF-8. Send it in UTF-8."
            ) from None


@dataclass(frozen=True, slots=True)
class Form:
    parts: tuple[Part, ...]

    def one(self, name: str) -> Part | None:
        """The part of this name. Raises BadRequest where there are two that could be it."""
        found = [part for part in self.parts if _same(part.name, name)]
        if len(found) > 1:
            raise BadRequest(f"The form has `{name}` twice. Send it once.")
        if found and found[0].name != name:
            raise BadRequest(f"The form has a field that is nearly `{name}`. Write it so.")
        return found[0] if found else None


def _same(one: str, other: str) -> bool:
    """Whether some reader may take two names for one: `Model`, `model[]`, ` model`."""
    return one.strip().removesuffix("[]").casefold() == other.casefold()


def is_form(headers: Headers) -> bool:
    """Whether a body is said to be a multipart form; such a one is JSON to nobody."""
    types = _types(headers)
    return len(types) == 1 and types[0].lower().startswith(b"multipart/form-data")


def read(content: bytes, headers: Headers) -> Form:
    """The parts of a form. Raises BadRequest."""
    types = _types(headers)
    match = _BOUNDARY.fullmatch(types[0]) if len(types) == 1 else None
    if match is None:
        _refuse("its Content-Type is not `multipart/form-data; boundary=…`, and nothing more")
    delimiter = b"--" + (match[1] or match[2])
    if not content.startswith(delimiter):
        _refuse("it does not begin with its boundary")
    pieces = (b"\r\n" + content).split(b"\r\n" + delimiter)
    if pieces[-1] not in (b"--", b"--\r\n"):
        _refuse("it does not end with its boundary")
    if len(pieces) > _PARTS:
        _refuse(f"it has more than {_PARTS} parts")
    return Form(tuple(_parts(pieces[1:-1])))


def _types(headers: Headers) -> list[bytes]:
    return [value.strip() for value in values_of(headers, b"content-type")]


def _parts(pieces: list[bytes]) -> Iterator[Part]:
    for piece in pieces:
        if not piece.startswith(b"\r\n"):
            _refuse("there is something behind a boundary")
        head, end, content = piece[2:].partition(b"\r\n\r\n")
        if not end or len(head) > _PART_HEAD_BYTES:
            _refuse("a part has no end of its headers, or too many")
        yield _part(head, content)


def _part(head: bytes, content: bytes) -> Part:
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        match = _HEADER.fullmatch(line)
        if match is None or (name := match[1].lower()) in headers:
            _refuse("a part's header is malformed or stands twice")
        headers[name] = match[2].rstrip(b" \t")
    try:
        said = headers.get(b"content-disposition", b"").decode("utf-8")
    except UnicodeDecodeError:
        _refuse("a part's name is not UTF-8")
    disposition = _DISPOSITION.fullmatch(said)
    if disposition is None:
        _refuse('a part\'s Content-Disposition is not `form-data; name="…"`, with a plain name')
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_TRANSFER:
        _refuse("a part is in a Content-Transfer-Encoding")
    return Part(
        name=disposition[1],
        is_file="filename" in said.lower().partition('";')[2],
        content_type=headers.get(b"content-type", b"").decode("latin-1").lower(),
        content=content,
    )


def _refuse(why: str) -> NoReturn:
    raise BadRequest(f"The form can't be read with certainty: {why}. Send it as the SDKs do.")
