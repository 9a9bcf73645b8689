"""Bytes cut into chunks, and into what a socket is given at a time."""

from __future__ import annotations

import hashlib
import itertools
from random import Random

METHODS_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")


def digest(body: bytes | bytearray) -> bytes:
    """What is kept of a body, to compare it: a long run sees gigabytes."""
    return hashlib.blake2b(body, digest_size=16).digest()


def chunked(random: Random, body: bytes) -> bytes:
    """`body` as chunks, without the last one."""
    out = bytearray()
    while body:
        size = min(len(body), random.choice((1, 2, 10, 1000, 65536, 10**6)), 10**6)
        if len(body) > 5000:
            size = max(size, 500)
        extension = random.choice((b"", b"", b";a=b", b' ; q="x"'))
        out += b"%x%b\r\n%b\r\n" % (size, extension, body[:size])
        body = body[size:]
    return bytes(out)


def split(random: Random, data: bytes) -> list[bytes]:
    """`data` in random pieces, a few of them tiny."""
    match random.randrange(5):
        case 0:
            return [data]
        case 1 if len(data) < 3000:
            return [data[i : i + 1] for i in range(len(data))]
        case _:
            cuts = {random.randrange(len(data) + 1) for _ in range(random.randrange(1, 9))}
            edges = sorted({0, len(data), *cuts})
            return [data[a:b] for a, b in itertools.pairwise(edges)]
