"""Where a stream can be ended: after an event, whatever the chunks and the line ends are."""

from __future__ import annotations

import random

import pytest

from llamakey_addon.cutting import Seam, seam_of


@pytest.mark.parametrize(
    ("said", "expected", "kind"),
    [
        (b"text/event-stream; charset=utf-8", "sse", "sse"),
        (b"Text/Event-Stream ;charset=utf-8", "sse", "sse"),
        (b"application/x-ndjson", "ndjson", "ndjson"),
        (b"application/json", "ndjson", "ndjson"),
        (b"application/json", "sse", None),
        (b"audio/mpeg", "binary", None),
        (b"", "sse", None),
    ],
)
def test_what_has_a_seam(said, expected, kind):
    seam = seam_of(said, b"", expected)
    assert (None if seam is None else seam.kind) == kind


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_it_is_found_whatever_the_chunks_are(end):
    chance = random.Random(3)
    events = [b"data: %d" % number + b"x" * chance.randrange(20) + end for number in range(60)]
    data = b"".join(events)
    ends = {0}
    for event in events:
        ends.add(max(ends) + len(event))
    for _ in range(300):
        seam, at = Seam("sse"), 0
        wanted = chance.randrange(len(data))  # from where on it is to end
        while True:
            piece = data[at : at + chance.randrange(1, 40)]
            if at >= wanted:
                last = seam.last(piece)
                if last is not None:
                    assert at + last in ends
                    assert not {end for end in ends if at + last < end <= at + len(piece)} or (
                        at in ends and last == 0
                    )
                    break
            assert piece, "it never ended"
            seam.passed(piece)
            at += len(piece)


def test_lines_have_one_too():
    seam = Seam("ndjson")
    seam.passed(b'{"a": 1}\n{"b"')
    assert seam.last(b": 2") is None
    seam.passed(b": 2")
    assert seam.last(b'}\n{"c"') == 2


def test_what_is_packed_or_endless_has_none():
    packed = seam_of(b"text/event-stream", b"gzip", "")
    assert packed is not None
    assert packed.last(b"\n\n") is None and packed.hopeless
    seam = Seam("sse")
    seam.passed(b"data: ")
    sizes = 0
    while not seam.hopeless:
        assert seam.last(b"x" * 1000) is None
        seam.passed(b"x" * 1000)
        sizes += 1
    assert 60 < sizes < 70
