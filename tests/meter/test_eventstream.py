"""AWS's event streams, as botocore reads them."""

from __future__ import annotations

import base64
import json
import random
import struct
import zlib

import pytest
from botocore.eventstream import EventStreamBuffer

from llamakey_addon import catalogue
from llamakey_addon.meter import Asked, meter_for
from llamakey_addon.meter.eventstream import Messages
from llamakey_addon.meter.unpack import Unreadable
from tests.fakes import aws

PACKED = base64.b64encode(b'{"a":\n1}').decode()
STREAM = b"".join(
    [
        aws.event("messageStart", {"role": "assistant"}),
        aws.event("contentBlockDelta", {"delta": {"text": "né\n"}}),
        aws.event("chunk", {"bytes": PACKED, "p": "abc"}),
        aws.event("metadata", {"usage": {"inputTokens": 1}}),
    ]
)


def odd_headers() -> bytes:
    """A message with a header of every type, and an exception."""
    headers = b""
    for kind, value in (
        (0, b""),
        (1, b""),
        (2, b"\x01"),
        (3, b"\0\1"),
        (4, b"\0\0\0\1"),
        (5, b"\0" * 8),
        (6, b"\0\3abc"),
        (8, b"\0" * 8),
        (9, b"\0" * 16),
    ):
        headers += b"\2h%d" % kind + bytes([kind]) + value
    for name, text in ((b":message-type", b"exception"), (b":exception-type", b"throttling")):
        headers += bytes([len(name)]) + name + b"\7" + struct.pack("!H", len(text)) + text
    payload = b'{"message":"slow down"}'
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    front = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return front + struct.pack("!I", zlib.crc32(front))


def test_payloads_are_botocores() -> None:
    theirs = EventStreamBuffer()
    theirs.add_data(STREAM)
    payloads = [json.loads(event.payload) for event in theirs]
    assert len(payloads) == 4
    ours = [json.loads(line) for line in Messages().feed(STREAM).splitlines()]
    assert ours[:2] + ours[3:] == payloads[:2] + payloads[3:]
    assert ours[2] == {"a": 1}


def test_any_pieces() -> None:
    whole = Messages().feed(STREAM)
    dice = random.Random(3)
    for _ in range(100):
        reader, got, at = Messages(), b"", 0
        while at < len(STREAM):
            step = dice.randrange(1, 60)
            got += reader.feed(STREAM[at : at + step])
            at += step
        assert got == whole
        assert reader.end() == b""


def test_exceptions_and_unreadable_chunks_are_errors() -> None:
    theirs = EventStreamBuffer()
    theirs.add_data(odd_headers())
    assert next(theirs).headers[":exception-type"] == "throttling"
    assert "error" in json.loads(Messages().feed(odd_headers()))
    unreadable: list[object] = [{"bytes": "%"}, {"other": 1}, []]
    for value in unreadable:
        assert "error" in json.loads(Messages().feed(aws.event("chunk", value)))


def test_what_is_no_event_stream_is_not_read_on() -> None:
    damaged = bytearray(STREAM)
    damaged[9] ^= 1
    for data in (b'{"message":"no"} and more', bytes(damaged), b"\xff" * 20):
        with pytest.raises(Unreadable):
            Messages().feed(data)


def test_a_stream_that_fails_midway_is_guessed() -> None:
    entry = catalogue.load().entries["bedrock"]
    endpoint = next(found for found in entry.endpoints if found.name == "converse.stream")
    kind = ((b"content-type", b"application/vnd.amazon.eventstream"),)
    meter = meter_for(endpoint, 200, kind, Asked(b"x" * 40))
    meter.feed(aws.event("contentBlockDelta", {"delta": {"text": "twelve bytes"}}))
    assert meter.so_far() == {"input_tokens": 10, "output_tokens": 3}
    meter.feed(odd_headers())
    metered = meter.end(complete=True)
    assert (dict(metered.counts), metered.exact) == (
        {"input_tokens": 10, "output_tokens": 3},
        False,
    )
