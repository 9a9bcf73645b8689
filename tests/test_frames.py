"""Frames of WebSockets: what is read in any split, and what RFC 6455 does not allow."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamakey_addon import frames
from llamakey_addon.frames import Control, FrameError, Frames, Piece

MASK = b"\x01\x02\x03\x04"


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes = b"", first: int = 0
) -> bytes:
    """One frame, written by the book."""
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    else:
        length = (
            b"\x7e" + struct.pack("!H", size) if size < 65536 else b"\x7f" + struct.pack("!Q", size)
        )
    head = bytearray(bytes(((0x80 if fin else 0) | opcode | first,)) + length)
    if mask:
        head[1] |= 0x80
        payload = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
    return bytes(head) + mask + payload


def joined(parts: Iterable[Piece | Control]) -> list[tuple[int, bytes]]:
    """The messages and control frames that the parts are."""
    found: list[tuple[int, bytes]] = []
    text, begun = bytearray(), False
    for part in parts:
        if isinstance(part, Control):
            found.append((part.opcode, part.payload))
            continue
        assert part.begins is not begun or not part.begins
        begun = True
        text += part.payload
        if part.ends:
            found.append((part.opcode, bytes(text)))
            text, begun = bytearray(), False
    assert not begun
    return found


STREAM = [
    (frames.TEXT, b"hello", True),
    (frames.PING, b"p", True),
    (frames.BINARY, b"\0" * 126, True),
    (frames.TEXT, b"", False),
    (frames.PONG, b"", True),
    (0, b"in three" * 20, False),
    (0, b"", True),
    (frames.TEXT, b"", True),
    (frames.BINARY, b"x" * 65536, True),
    (frames.CLOSE, struct.pack("!H", 1000) + b"bye", True),
]
MEANS = [
    (frames.TEXT, b"hello"),
    (frames.PING, b"p"),
    (frames.BINARY, b"\0" * 126),
    (frames.PONG, b""),
    (frames.TEXT, b"in three" * 20),
    (frames.TEXT, b""),
    (frames.BINARY, b"x" * 65536),
    (frames.CLOSE, struct.pack("!H", 1000) + b"bye"),
]


@pytest.mark.parametrize("mask", [b"", MASK], ids=["server", "client"])
@given(cuts=st.lists(st.integers(1, 3000), max_size=40))
def test_a_stream_means_the_same_in_every_split(mask: bytes, cuts: list[int]) -> None:
    data = b"".join(frame(op, text, fin=fin, mask=mask) for op, text, fin in STREAM)
    reader = Frames(client=bool(mask))
    parts: list[Piece | Control] = []
    at = 0
    for cut in [*cuts, len(data)]:
        parts += reader.read(data[at : at + cut])
        at += cut
    assert joined(parts) == MEANS
    assert b"".join(part.raw for part in parts) == data
    assert reader.closed
    assert list(reader.read(b"whatever comes behind a close")) == []


def test_byte_by_byte() -> None:
    data = b"".join(frame(op, text[:300], fin=fin, mask=MASK) for op, text, fin in STREAM)
    reader = Frames(client=True)
    parts = [part for byte in data for part in reader.read(bytes((byte,)))]
    assert [means[:300] for _, means in joined(parts)] == [means[:300] for _, means in MEANS]
    assert b"".join(part.raw for part in parts) == data


def test_a_frame_s_header_is_handed_on_before_its_payload_has_come() -> None:
    reader = Frames(client=False)
    data = frame(frames.BINARY, b"abcdef")
    [head] = reader.read(data[:2])
    assert isinstance(head, Piece)
    assert (head.header, head.body, head.begins, head.ends) == (data[:2], b"", True, False)
    assert not reader.between_frames
    [some] = reader.read(data[2:5])
    assert isinstance(some, Piece)
    assert (some.header, some.body, some.begins, some.ends) == (b"", b"abc", False, False)
    [rest] = reader.read(data[5:])
    assert isinstance(rest, Piece)
    assert (rest.body, rest.frame_ends, rest.ends) == (b"def", True, True)
    assert reader.between_frames


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(frames.CLOSE, struct.pack("!H", code) + reason)


WRONG = {
    "reserved bit 1": frame(frames.TEXT, b"x", first=0x40),
    "reserved bit 2": frame(frames.TEXT, b"x", first=0x20),
    "reserved bit 3": frame(frames.PING, b"x", first=0x10),
    "opcode 3": frame(3),
    "opcode 7": frame(7),
    "opcode 11": frame(11),
    "opcode 15": frame(15),
    "masked by a server": frame(frames.TEXT, b"x", mask=MASK),
    "continuation of nothing": frame(0, b"x"),
    "a message in a message": frame(frames.TEXT, b"x", fin=False) + frame(frames.TEXT, b"y"),
    "a fragmented ping": frame(frames.PING, b"x", fin=False),
    "a long ping": frame(frames.PING, b"x" * 126),
    "length 5 in 16 bits": b"\x81\x7e\0\x05hello",
    "length 5 in 64 bits": b"\x81\x7f" + struct.pack("!Q", 5) + b"hello",
    "length 65535 in 64 bits": b"\x81\x7f" + struct.pack("!Q", 65535),
    "a length of 64 bits": b"\x81\x7f" + b"\xff" * 8,
    "half a code": frame(frames.CLOSE, b"\x03"),
    "code 999": closing(999),
    "code 1004": closing(1004),
    "code 1005": closing(1005),
    "code 1006": closing(1006),
    "code 1015": closing(1015),
    "code 2000": closing(2000),
    "code 5000": closing(5000),
    "a reason that is no text": closing(1000, b"\xff"),
}


def read_by_bytes(data: bytes) -> None:
    reader = Frames(client=False)
    for byte in data:
        list(reader.read(bytes((byte,))))


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_is_not_rfc_6455_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(Frames(client=False).read(data))
    with pytest.raises(FrameError):
        read_by_bytes(data)


def test_a_client_masks() -> None:
    with pytest.raises(FrameError, match="not masked"):
        list(Frames(client=True).read(frame(frames.TEXT, b"hello")))


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1014, 3000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    [control] = Frames(client=False).read(closing(code, b"why"))
    assert isinstance(control, Control)
    assert (control.code, control.reason) == (code, "why")


def test_a_close_without_a_code() -> None:
    [control] = Frames(client=False).read(frame(frames.CLOSE))
    assert isinstance(control, Control)
    assert (control.code, control.reason) == (frames.NO_CODE, "")


def test_a_message_has_a_bound_over_its_frames() -> None:
    reader = Frames(client=True, message_bytes=10)
    for data in (
        frame(frames.TEXT, b"12345", fin=False, mask=MASK),
        frame(frames.PING, b"x" * 100, mask=MASK),
        frame(0, b"67890", mask=MASK),
        frame(frames.TEXT, b"1234567890", fin=False, mask=MASK),
    ):
        list(reader.read(data))
    with pytest.raises(FrameError) as caught:
        list(reader.read(frame(0, b"1", mask=MASK)[:6]))
    assert caught.value.code == frames.TOO_BIG


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masking_is_its_own_reverse(data: bytes, mask: bytes) -> None:
    once = frames.masked(data, mask)
    assert once == bytes(byte ^ mask[at & 3] for at, byte in enumerate(data))
    assert frames.masked(once, mask) == data


@pytest.mark.parametrize("mask", [b"", MASK], ids=["ours", "a client's"])
def test_a_close_that_we_write_can_be_read(mask: bytes) -> None:
    [control] = Frames(client=bool(mask)).read(frames.close(1008, "é" * 100, mask=mask))
    assert isinstance(control, Control)
    assert control.code == 1008
    assert control.reason == "é" * 61, "as much as fits, and no half letter"
