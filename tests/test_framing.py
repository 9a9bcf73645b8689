"""Bodies by their framing: to the byte, in every split, and as h11 reads them."""

from __future__ import annotations

import itertools
import re

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamakey_addon import framing

CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
EXTENSIONS = st.sampled_from([b"", b";a", b';a="b"', b" ; a=b", b"\t"])
TRAILERS = st.lists(st.sampled_from([b"X: a", b"Expires:", b"X-Sum:  1 "]), max_size=3)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at these places (taken modulo its length)."""
    edges = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)] if data else [0, 0]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def encode(chunks: list[bytes], extension: bytes, trailers: list[bytes]) -> bytes:
    """A chunked body."""
    out = b"".join(b"%X%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks)
    return out + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


def read(body: framing.Body, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """The body's bytes, and what followed it."""
    out, rest = bytearray(), bytearray()
    for piece in pieces:
        if body.done:
            rest += piece
        else:
            out += body.read(piece)
            rest += body.rest
    return bytes(out), bytes(rest)


@settings(deadline=None)
@given(
    content=st.binary(max_size=60),
    rest=st.binary(max_size=10),
    cuts=st.lists(st.integers(0, 99), max_size=8),
)
def test_a_body_with_a_length(content: bytes, rest: bytes, cuts: list[int]) -> None:
    body = framing.Body(len(content))
    assert read(body, in_pieces(content + rest, cuts)) == (content, rest)
    assert body.done
    assert body.size == len(content)


@settings(deadline=None, max_examples=300)
@given(
    chunks=CHUNKS,
    extension=EXTENSIONS,
    trailers=TRAILERS,
    rest=st.binary(max_size=10),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
@example(chunks=[b"\r\n", b"0\r\n\r\n"], extension=b"", trailers=[], rest=b"GET", cuts=[])
def test_a_chunked_body_in_any_pieces(
    chunks: list[bytes], extension: bytes, trailers: list[bytes], rest: bytes, cuts: list[int]
) -> None:
    body = framing.Body(framing.CHUNKED)
    wire = encode(chunks, extension, trailers) + rest
    assert read(body, in_pieces(wire, cuts)) == (b"".join(chunks), rest)
    assert body.done
    assert body.size == sum(map(len, chunks))
    assert body.trailers == trailers


def test_every_single_cut_of_a_chunked_body() -> None:
    wire = encode([b"hello", b"w" * 20], b";x", [b"A: b"])
    for cut in range(len(wire) + 1):
        body = framing.Body(framing.CHUNKED)
        assert read(body, [wire[:cut], wire[cut:]]) == (b"hello" + b"w" * 20, b"")
        assert body.done
        assert body.trailers == [b"A: b"]
    body = framing.Body(framing.CHUNKED)
    assert read(body, [wire[i : i + 1] for i in range(len(wire))])[0] == b"hello" + b"w" * 20
    assert body.done


def test_one_whole_chunk_as_it_would_be_written_is_told() -> None:
    for size in (*range(1, 300), 4095, 4096, 65_535, 65_536):
        wire = framing.chunk(b"x" * size)
        body = framing.Body(framing.CHUNKED, any_chunks=True)
        assert (body.read(wire), body.sole, body.size) == (b"x" * size, True, size)
        for other in (wire + b"1\r\ny\r\n", wire[:-1], b"0" + wire, wire.replace(b"\r", b";\r", 1)):
            body = framing.Body(framing.CHUNKED, any_chunks=True)
            assert body.read(other).startswith(b"x" * size)
            assert not body.sole
        assert body.read(wire) == b"x" * size
        assert body.sole
    body = framing.Body(framing.CHUNKED)
    body.read(b"a\r\nabcd")  # what looks like one may be content
    assert (body.read(b"3\r\ny\r\n"), body.sole) == (b"3\r\ny\r\n", False)


def test_a_body_until_the_end() -> None:
    body = framing.Body(framing.UNTIL_CLOSE)
    assert body.read(b"abc") == b"abc"
    assert body.read(b"") == b""
    body.end()
    assert body.done
    assert body.size == 3


@pytest.mark.parametrize("length", [5, framing.CHUNKED])
def test_the_end_completes_no_other_body(length: int) -> None:
    body = framing.Body(length)
    body.read(b"1" if length == 5 else b"5\r\nabc")
    body.end()
    assert not body.done


@pytest.mark.parametrize(
    "wire",
    [
        b"g\r\n",
        b"\r\n",
        b" 5\r\nhello\r\n",
        b"-5\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\n",
        b"5 5\r\nhello\r\n",
        b"5,\r\nhello\r\n",
        b"\x35\x00\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\rhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello6\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"1234567890123\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"5;\x00\r\nhello\r\n",
        b"5;\n\r\nhello\r\n",
        b"5;" + b"a" * 300 + b"\r\nhello\r\n",
        b"5" + b" " * 300,
        b"0\r\nX\r\n\r\n",
        b"0\r\n X: folded\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\nX: a\x00\r\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
        b"0\r\nX: a\n\r\n",
        b"0\r\n\n",
        b"0\r\n: a\r\n\r\n",
        b"0\r\nX: " + b"a" * 20000,
        b"0\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000,
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_broken_chunks(wire: bytes, size: int) -> None:
    body = framing.Body(framing.CHUNKED)
    with pytest.raises(framing.FramingError):
        read(body, [wire[start : start + size] for start in range(0, len(wire), size)])
    assert not body.done


def test_tiny_chunks_are_bounded() -> None:
    """6 MB as one-byte chunks cost ten seconds elsewhere; here they end soon."""
    body = framing.Body(framing.CHUNKED)
    with pytest.raises(framing.FramingError, match="tiny"):
        read(body, [b"1\r\nx\r\n" * 1000] * 6000)
    assert body.size < 12_000


def test_chunks_of_a_usual_size_are_not() -> None:
    body = framing.Body(framing.CHUNKED)
    for _ in range(40):
        body.read(b"10\r\n0123456789abcdef\r\n" * 1000)
    assert body.size == 640_000


@settings(deadline=None, max_examples=400)
@given(
    data=st.lists(
        st.sampled_from(
            [b"5", b"0", b"a", b"\r\n", b"\n", b"\r", b";", b"x=", b"hello", b" ", b"X: a", b"\x00"]
        ),
        max_size=14,
    )
)
def test_h11_reads_every_chunked_body_that_is_taken_as_we_do(data: list[bytes]) -> None:
    wire = b"".join(data) + b"\r\n0\r\n\r\n"
    body = framing.Body(framing.CHUNKED)
    try:
        content = body.read(wire)
    except framing.FramingError:
        return
    if not body.done:
        return
    if re.search(rb"[0-9a-f][ \t]", content):
        return  # that blank is the body's, and stays
    # h11 reads no blank between a size and its extension (RFC 9112 7.1.1 lets a recipient)
    plain = re.sub(rb"([0-9a-f])[ \t]+(?=;|\r)", rb"\1", wire)
    other = h11.Connection(h11.SERVER)
    other.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + plain)
    assert isinstance(other.next_event(), h11.Request)
    seen = bytearray()
    while isinstance(event := other.next_event(), h11.Data):
        seen += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert bytes(seen) == content
    assert other.trailing_data[0] == body.rest


@settings(deadline=None)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    trailers=st.sampled_from([[], [b"X: a"]]),
)
def test_what_is_written_is_read(pieces: list[bytes], trailers: list[bytes]) -> None:
    wire = b"".join(map(framing.chunk, pieces)) + framing.last_chunk(trailers)
    body = framing.Body(framing.CHUNKED)
    assert body.read(wire) == b"".join(pieces)
    assert body.done
    assert body.trailers == trailers
