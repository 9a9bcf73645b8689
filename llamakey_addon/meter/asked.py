"""What a request itself says of its cost: how long it is, how many images, which text to speak."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

from llamakey_addon.journey import Body, Call, Headers, values_of

_BYTES_PER_TOKEN: Final = 4
_LOOKING: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_PACKED_TOKENS: Final = 1000
"""For an image or a file within a request: between a small image and a page or two of a PDF."""
#: The look behind: a shorter run of letters is looked at once, and not from each of them anew.
_PACKED: Final = re.compile(rb"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{1024,}={0,2}")
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_LETTER_OR_NOT: Final = bytes(ord("A") if byte in _LETTERS else ord(" ") for byte in range(256))
_STEP_BYTES: Final = 16
_STEPS: Final = b"A" * (1024 // _STEP_BYTES)
_UNPACKED_BYTES: Final = 8 * 1024 * 1024


class Asked:
    """What the meter may know of a request. Reading it is put off until something is asked.

    Arguments:
        content: the body as it is sent, or None where it streams.
        headers: of the request.
        params: what the endpoint's `{…}` matched.
        length: bytes of a streamed body, where that is known.
        model: as the request names it.
        looks: it only looks at what is there, or takes it away.
    """

    __slots__ = (
        "_coding",
        "_content",
        "_document",
        "_headers",
        "_length",
        "_tokens",
        "looks",
        "model",
        "params",
    )

    def __init__(
        self,
        content: bytes | None = None,
        *,
        headers: Headers = (),
        params: Mapping[str, str] | None = None,
        length: int | None = None,
        model: str = "",
        looks: bool = False,
    ) -> None:
        self._coding: bytes | None = None
        self._content = content
        self._headers = headers
        self._length = length
        self._document: Mapping[str, Any] | None = None
        self._tokens: int | None = None
        self.params: Mapping[str, str] = params or {}
        self.model = model
        self.looks = looks

    @classmethod
    def of(cls, call: Call, body: Body) -> Asked:
        """Of an allowed request."""
        ask, route = call.visit.ask, call.visit.route
        return cls(
            body.content,
            headers=ask.headers,
            params=route.params,
            length=ask.body_length,
            model=call.model,
            looks=ask.method in _LOOKING,
        )

    @property
    def length(self) -> int:
        """Bytes of the body, 0 where nobody knows."""
        return len(self._content) if self._content is not None else self._length or 0

    @property
    def plain(self) -> bytes | None:
        """The body as it is sent; None where it streams, or is packed."""
        return None if self.coding else self._content

    @property
    def coding(self) -> bytes:
        """The Content-Encoding of the request, b"" for none."""
        if self._coding is None:
            self._coding = self._header(b"content-encoding")
        return self._coding

    @property
    def document(self) -> Mapping[str, Any]:
        """The body's JSON object; empty where there is none."""
        if self._document is None:
            try:
                document = json.loads(self._plain()) if self._content else None
            except (ValueError, RecursionError):
                document = None
            self._document = document if isinstance(document, dict) else {}
        return self._document

    def count(self, name: str, default: int = 1) -> int:
        """A whole number of the body, e.g. `n`."""
        value = self.document.get(name)
        return value if type(value) is int and 0 < value <= 1_000_000 else default

    def characters(self, *names: str) -> int:
        """Length of a text of the body, or of all texts in a list: the first name that is there."""
        for name in names:
            if name in self.document:
                return _characters(self.document[name])
        return 0

    def input_tokens(self) -> int:
        """An estimate: a token for four bytes, and a thousand for each thing in base64. Forms
        (audio, images) say nothing of tokens."""
        if self._tokens is None:
            self._tokens = self._estimate()
        return self._tokens

    def _estimate(self) -> int:
        if self._content is None:
            form = self._header(b"content-type").startswith(b"multipart/")
            return 0 if form else (self._length or 0) // _BYTES_PER_TOKEN
        text, packed = self._plain() if self.coding else self._content, 0
        if _may_be_packed(text):
            text, packed = _PACKED.subn(b"", text)
        return len(text) // _BYTES_PER_TOKEN + packed * _PACKED_TOKENS

    def _plain(self) -> bytes:
        content = self._content or b""
        coding = self.coding
        if coding in (b"gzip", b"x-gzip", b"deflate"):
            wraps = (zlib.MAX_WBITS | 16,) if coding != b"deflate" else (15, -15)
            for wrap in wraps:
                try:
                    return zlib.decompressobj(wrap).decompress(content, _UNPACKED_BYTES)
                except zlib.error:
                    continue
        return content

    def _header(self, name: bytes) -> bytes:
        found = values_of(self._headers, name)
        return found[0].strip().lower() if found else b""


def _may_be_packed(text: bytes) -> bool:
    """Whether there can be 1,024 letters of base64 in a row: then so many of every sixteenth byte
    are some."""
    return len(text) >= 1024 and _STEPS in text[::_STEP_BYTES].translate(_LETTER_OR_NOT)


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_characters, value))
    if isinstance(value, dict):
        return _characters(value.get("text", ""))
    return 0


NOTHING_ASKED: Final = Asked(b"")
