"""Streams taken apart: the same events whatever the pieces and line ends."""

from __future__ import annotations

import random

import pytest

from llamakey_addon.meter.events import KEPT_BYTES, Events, Lines, Whole, data_of

# https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
STREAM = (
    b": a comment\n\n"
    b"data: one\n\n"
    b"data:two\ndata: lines \n\n"
    b"event: named\nid: 7\ndata: {\n data: x\ndata:  }\nretry: 3\n\n"
    b"\n\ndata\ndata:\n\n"
    b"data: last"
)
DATA = [b"", b"one", b"two\nlines ", b"{\n }", b"\n", b"last"]


def events(pieces: list[bytes]) -> list[bytes]:
    reader = Events()
    text = b"".join(reader.feed(piece) for piece in pieces) + reader.end()
    return [data_of(event) for event in text.split(b"\n\n") if event.strip(b"\n")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_events_come_out_whole_however_they_come_in(end: bytes, mark: bytes) -> None:
    stream = mark + STREAM.replace(b"\n", end)
    assert events([stream]) == DATA
    assert events([stream[at : at + 1] for at in range(len(stream))]) == DATA
    for cut in range(len(stream)):
        assert events([stream[:cut], stream[cut:]]) == DATA, cut
    dice = random.Random(end)
    for _ in range(200):
        cuts = sorted(dice.sample(range(len(stream)), 6))
        ends = [*cuts[1:], len(stream)]
        pieces = [stream[: cuts[0]], *(stream[a:b] for a, b in zip(cuts, ends, strict=True))]
        assert events(pieces) == DATA


def test_line_ends_may_be_mixed() -> None:
    stream = b"data: a\r\ndata: b\n\r\ndata: c\r\rdata: d\n\n"
    for cut in range(len(stream)):
        assert events([stream[:cut], stream[cut:]]) == [b"a\nb", b"c", b"d"], cut


def test_an_event_is_given_when_it_is_complete() -> None:
    reader = Events()
    assert reader.feed(b"data: a") == b""
    assert reader.feed(b"\n") == b""
    assert reader.feed(b"\ndata: b\n\ndata") == b"data: a\n\ndata: b\n\n"
    assert reader.feed(b": c\r\n\r") == b"data: c\n\n"
    assert reader.feed(b"\n") == b""
    assert reader.end() == b""


def test_a_byte_order_mark_within_is_content() -> None:
    assert events([b"data: \xef\xbb\xbfa\n\n", b"\xef\xbb\xbfdata: b\n\n"]) == [
        b"\xef\xbb\xbfa",
        b"",
    ]


def test_lines_with_and_without_an_end() -> None:
    reader = Lines()
    assert reader.feed(b'{"a":1}\r\n{"b"') == b'{"a":1}\r\n'
    assert reader.feed(b":2}") == b""
    assert reader.feed(b"\n") == b'{"b":2}\n'
    assert reader.feed(b'{"c":3}') == b""
    assert reader.end() == b'{"c":3}'
    assert reader.end() == b""


@pytest.mark.parametrize("kind", [Events, Lines, Whole])
def test_what_is_too_long_keeps_its_beginning_and_its_end(kind: type) -> None:
    reader = kind()
    piece = b"x" * 65_000
    reader.feed(b"data: begins")
    for _ in range(200):
        reader.feed(piece)
    if isinstance(reader, Whole):
        reader.feed(b"ends")
        assert reader.shortened
        kept = reader.end()
    else:
        kept = reader.feed(b"ends\n\n")
    assert kept.startswith(b"data: begins")
    assert kept.rstrip(b"\n").endswith(b"xxends")
    assert len(kept) <= KEPT_BYTES + len(piece)
