"""Content-Encoding undone: however it is cut, with a bound."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from llamakey_addon.meter.unpack import Unpack, Unreadable

TEXT = b"".join(b'data: {"n":%d}\n\n' % number for number in range(50_000))


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": (b"gzip", gzip.compress(TEXT)),
    "x-gzip": (b" X-GZIP", gzip.compress(TEXT)),
    "stored": (b"gzip", gzip.compress(TEXT, 0)),
    "members": (b"gzip", gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:]) + b"\0\0"),
    "zlib": (b"deflate", zlib.compress(TEXT)),
    "raw": (b"deflate", raw(TEXT)),
}


@pytest.mark.parametrize("name", PACKED)
def test_the_same_text_in_any_pieces(name: str) -> None:
    coding, packed = PACKED[name]
    for step in (len(packed), 1000, 7):
        unpack = Unpack(coding)
        pieces = [packed[at : at + step] for at in range(0, len(packed), step)]
        assert b"".join(unpack.feed(piece) for piece in pieces) == TEXT
    short = packed[:3000]
    unpack = Unpack(coding)
    got = b"".join(unpack.feed(short[at : at + 1]) for at in range(len(short)))
    assert got
    assert TEXT.startswith(got)


def test_what_was_flushed_comes_at_once() -> None:
    packer = zlib.compressobj(wbits=31)
    unpack = Unpack(b"gzip")
    dice = random.Random(1)
    for _ in range(50):
        event = b"data: %d\n\n" % dice.getrandbits(200)
        packed = packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
        assert unpack.feed(packed) == event


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, br", b"compress", b"gzip;q=1"])
def test_other_codings_are_not_read(coding: bytes) -> None:
    with pytest.raises(Unreadable, match="neither gzip nor deflate"):
        Unpack(coding)


def test_damage_and_bombs_are_not_read_on() -> None:
    with pytest.raises(Unreadable, match="not what its Content-Encoding says"):
        Unpack(b"gzip").feed(b"plain text, really")
    unpack = Unpack(b"deflate")
    bomb = zlib.compress(b"\0" * 60_000_000, 9)
    got = 0

    def all_of_it() -> None:
        nonlocal got
        for at in range(0, len(bomb), 10_000):
            got += len(unpack.feed(bomb[at : at + 10_000]))

    with pytest.raises(Unreadable, match="too much"):
        all_of_it()
    assert got < 40_000_000
