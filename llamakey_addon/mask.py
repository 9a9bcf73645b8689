"""No real key in an answer: a provider that echoes it (in an error, a header, a debug page) is
answered with stars in its place.

A plain body is masked as it passes; only a tail that could begin the key is held back, until the
next bytes say whether it does. A compressed body cannot be changed without changing everything
after it, so it is unpacked beside, and the answer is cut before the chunk that completes a key.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from llamakey_addon.errors import UpstreamFault

if TYPE_CHECKING:
    from llamakey_addon.keys import Secret

_STEP: Final = 64 * 1024
_SHORTEST: Final = 8
#: So much of a key at the end of what a compressed piece unpacks to holds that piece back.
_BEGINNING: Final = 4
#: An answer that unpacks to more than this, and to more than 200 times its size, is a bomb.
_BOMB_BYTES: Final = 64 * 1024 * 1024
_BOMB_RATIO: Final = 200
_GZIP: Final = zlib.MAX_WBITS | 16
_DAMAGED: Final = "the compressed answer is damaged"


class KeyInAnswer(Exception):
    """A compressed answer holds the real key: nothing of this chunk may pass."""


@lru_cache(maxsize=256)
def forms(secret: bytes) -> tuple[bytes, ...]:
    """The ways in which an answer may spell a key: as it is, in a URL, in JSON, in base64.

    A word of a few letters, as some local servers take for a key, is not one: masking it would
    only spoil answers.
    """
    if len(secret) < _SHORTEST:
        return ()
    text = secret.decode("latin-1")
    spelled = {
        secret,
        quote(text, safe="").encode("ascii"),
        json.dumps(text)[1:-1].encode("ascii"),
        base64.b64encode(secret).rstrip(b"="),
    }
    return tuple(sorted(spelled, key=len, reverse=True))


def forms_of(secrets: Iterable[Secret]) -> tuple[bytes, ...]:
    """The ways to spell any of these keys."""
    return tuple(
        form for secret in secrets for form in forms(secret.reveal(min(secret.hosts, default="")))
    )


def forms_of_all(keys: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The ways to spell any of these keys, in clear."""
    if len(keys) == 1:
        return forms(keys[0])
    return tuple([form for key in keys for form in forms(key)])


def holds_any(data: bytes, spelled: tuple[bytes, ...]) -> bool:
    """Whether any spelling stands in there."""
    for form in spelled:  # noqa: SIM110  a generator takes as long as all of it
        if form in data:
            return True
    return False


def mask_all(data: bytes, spelled: tuple[bytes, ...]) -> bytes:
    """Stars for every spelling, of the same length."""
    for form in spelled:
        if form in data:
            data = data.replace(form, b"*" * len(form))
    return data


@lru_cache(maxsize=256)
def _signs(spelled: tuple[bytes, ...]) -> tuple[int, tuple[bytes, ...], tuple[bytes, ...]]:
    """The longest spelling's length; how spellings begin, one of which stands in all that holds one
    or ends with so much of one; and what ends with less of one ends in."""
    begins = tuple({form[:_BEGINNING] for form in spelled})
    ends = tuple({form[:size] for form in spelled for size in range(1, _BEGINNING)})
    return max(map(len, spelled), default=0), begins, ends


class PlainMask:
    """Masks a body that passes in pieces."""

    __slots__ = ("_begins", "_ends", "_held", "_longest", "_spelled")

    def __init__(self, spelled: tuple[bytes, ...]) -> None:
        self._spelled = spelled
        self._longest, self._begins, self._ends = _signs(spelled)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may pass now: `data` with keys masked, less a tail that may begin one."""
        if self._held:
            data = self._held + data
        elif not data.endswith(self._ends):
            for begin in self._begins:
                if data.find(begin) >= 0:
                    break
            else:
                return data  # as nearly every piece: neither a key nor the beginning of one
        data = mask_all(data, self._spelled)
        keep = _tail(data, self._spelled)
        if keep:
            self._held = data[-keep:]
            return data[:-keep]
        self._held = b""
        return data

    def end(self) -> bytes:
        """What was held back, at the end of an answer; half a key and more stays masked."""
        held = self._held
        if held:
            self._held = b""
            if len(held) * 2 >= self._longest:
                return b"*" * len(held)
        return held

    def cut(self) -> bytes:
        """What was held back, where the answer breaks off."""
        held, self._held = self._held, b""
        return held if len(held) < _BEGINNING else b"*" * len(held)


def _tail(data: bytes, spelled: tuple[bytes, ...]) -> int:
    """Length of the longest tail that begins a spelling and is not one."""
    size = len(data)
    best = 0
    for form in spelled:
        first = form[:1]
        at = data.find(first, max(0, size - len(form) + 1))
        while at >= 0:
            if form.startswith(data[at:]):
                best = max(best, size - at)
                break
            at = data.find(first, at + 1)
    return best


class PackedScan:
    """Reads along a compressed body that passes unchanged."""

    __slots__ = (
        "_gzip",
        "_held",
        "_in",
        "_longest",
        "_out",
        "_spelled",
        "_start",
        "_tail",
        "_unpack",
    )

    def __init__(self, spelled: tuple[bytes, ...], coding: bytes) -> None:
        self._spelled = spelled
        self._longest = max(map(len, spelled), default=0)
        self._tail = b""
        self._held = b""
        self._in = self._out = 0
        self._gzip = coding != b"deflate"
        self._start = b""
        # `deflate` comes with zlib's wrapper or, from some servers, without: two bytes tell
        self._unpack = zlib.decompressobj(_GZIP) if self._gzip else None

    def feed(self, data: bytes) -> bytes:
        """What may pass now: all that came, unless it unpacks to something that ends like the
        beginning of a key; then nothing, until the next bytes say what it is.

        Raises:
            KeyInAnswer: it unpacks to a key, or it cannot be read.
        """
        self._scan(data)
        if _tail(self._tail, self._spelled) >= _BEGINNING:
            self._held += data
            return b""
        data, self._held = self._held + data, b""
        return data

    def _scan(self, data: bytes) -> None:
        self._in += len(data)
        left = data
        if self._unpack is None:
            left = self._start = self._start + data
            if len(left) < 2:
                return
            wrapped = left[0] & 15 == 8 and int.from_bytes(left[:2]) % 31 == 0
            self._unpack = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        while True:
            if self._unpack.eof:
                left = left.lstrip(b"\0")  # padding
                if not left:
                    return
                if not self._gzip:
                    raise KeyInAnswer(_DAMAGED)
                self._unpack = zlib.decompressobj(_GZIP)  # another member
            try:
                plain = self._unpack.decompress(left, _STEP)
            except zlib.error:
                raise KeyInAnswer(_DAMAGED) from None
            self._look(plain)
            if self._unpack.eof:
                left = self._unpack.unused_data
            else:
                left = self._unpack.unconsumed_tail
                # a full step: zlib may hold more back, though it has taken all there is
                if not left and len(plain) < _STEP:
                    return

    def end(self) -> bytes:
        """What was held back, at the end of an answer.

        Raises:
            KeyInAnswer: it unpacks to half a key or more.
        """
        if _tail(self._tail, self._spelled) * 2 >= self._longest > 0:
            raise KeyInAnswer("the compressed answer ends in the beginning of the real key")
        held, self._held = self._held, b""
        return held

    def cut(self) -> bytes:
        """What may pass where the answer breaks off: nothing of what was held back."""
        held, self._held = self._held, b""
        return b"" if _tail(self._tail, self._spelled) >= _BEGINNING else held

    def _look(self, plain: bytes) -> None:
        """Compare what was unpacked, with the end of what was before it."""
        self._out += len(plain)
        seen = self._tail + plain
        if any(form in seen for form in self._spelled):
            raise KeyInAnswer("the compressed answer holds the real key")
        self._tail = seen[1 - self._longest :] if self._longest > 1 else b""
        if self._out > _BOMB_BYTES and self._out > _BOMB_RATIO * self._in:
            raise KeyInAnswer("the compressed answer unpacks to too much")


class NoMask:
    """For a request that carried no real key."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""

    def cut(self) -> bytes:
        return b""


NO_MASK: Final = NoMask()

type Mask = PlainMask | PackedScan | NoMask


def mask_for(coding: bytes, spelled: tuple[bytes, ...]) -> Mask:
    """The mask for a body in this Content-Encoding.

    Raises:
        UpstreamFault: the coding cannot be read, though only readable ones were asked for.
    """
    if not spelled:
        return NO_MASK
    if coding and (coding := coding.strip().lower()) == b"identity":
        coding = b""
    if not coding:
        return PlainMask(spelled)
    if coding in (b"gzip", b"x-gzip", b"deflate"):
        return PackedScan(spelled, coding)
    raise UpstreamFault(
        "The provider's answer is in a Content-Encoding that the proxy did not ask for.",
        detail="a Content-Encoding other than gzip, deflate and identity",
    )
